"""What a back-end is: a file of this folder defines one or more, a line of BACKENDS names each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_agent import limits
from edge_agent.io.runtimes.external import Plugin
from edge_agent.io.runtimes.litert import LibraryName
from edge_agent.ports import Runtime
from edge_agent.records import Form


class Build(NamedTuple):
    """How a runtime is wanted. ``label``: the configured name of its back-end; ``library``: which TFLite library, None
    the best there is; ``cache_dir``: where compiled parts may be kept, None nowhere."""

    label: str
    threads: int = 1
    library: LibraryName | None = None
    cache_dir: Path | None = None


class Backend(NamedTuple):
    """A way to run a model.

    ``build(model, wanted)`` raises DeviceError or ModelError; ``forms``: which models it takes; ``version``: the
    library behind it, as "name x.y.z", for which a trial's result holds; raises ConfigError where it is not installed.
    ``device``: it needs one, so that a refusal is not the model's fault. ``own_process``: it runs in a child of its
    own, so that nothing has to be tried beforehand. ``trial_s``: how long a trial may take, and building it afterwards.
    """

    build: Callable[[bytes, Build], Runtime]
    forms: frozenset[Form]
    version: Callable[[LibraryName | None], str]
    device: bool = False
    own_process: bool = False
    trial_s: float = limits.PROBE_TIMEOUT_S
    plugin: Plugin | None = None
