"""What runs a model on the test delegate, with what it said of it."""

from dataclasses import dataclass, field

import numpy as np

from edge_agent.config.schema import DelegateConfig
from edge_agent.io.runtimes import backends, plugins_of
from edge_agent.io.runtimes.builder import Builder
from edge_agent.io.runtimes.candidates import Candidate, candidates
from edge_agent.io.runtimes.failover import Change, FailoverRuntime

PICTURE = {"input": np.random.default_rng(7).integers(0, 256, (1, 128, 128, 3), np.uint8)}
BOTH = ("npu", "xnnpack")


@dataclass
class Bench:
    """What runs a model on the test delegate, and what it said of it."""

    bus: object
    external: dict[str, DelegateConfig]
    cache_dir: object = None
    changes: list[Change] = field(default_factory=list)
    made: list[FailoverRuntime] = field(default_factory=list)

    def run(self, file, order=BOTH, *, position=0, follow=True) -> FailoverRuntime:
        """Built as a choice does, without the trial in a child beforehand."""
        declared = {name: backends(plugins_of(self.external))[name] for name in order}
        found = [entry for entry in candidates(file, declared, None) if isinstance(entry, Candidate)]
        builder = Builder(threads=1, external=self.external, cache_dir=self.cache_dir)
        runtime = FailoverRuntime(builder.at_once(found[position]), found, position, builder)
        self.made.append(runtime)
        if follow:
            runtime.follow(self.changes.append)
        return runtime

    def said(self, kind):
        return [change.detail for change in self.changes if change.kind == kind]


def of_the_device(outputs, fill=7):
    return all(set(value.ravel()) == {fill} for value in outputs.values())
