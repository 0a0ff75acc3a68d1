"""What may run a model, in the declared order: each back-end with the bytes that it would run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from edge_agent.errors import ConfigError
from edge_agent.io.runtimes import BACKENDS, PLAIN
from edge_agent.io.runtimes.backend import Backend
from edge_agent.io.runtimes.litert import LibraryName
from edge_agent.io.runtimes.probe_cache import Key
from edge_agent.records import Form, ModelFile

CPU_MEMBER: Final = "edge-agent/cpu.tflite"  # the CPU build inside a build for the Edge TPU

_MISFIT: Final[dict[Form, str]] = {
    "tflite": "the model is not plain TFLite",
    "edgetpu": "the model is not compiled for the Edge TPU",
}


class Source(NamedTuple):
    """``member``: the associated file that these bytes are; None: the model itself."""

    content: bytes
    sha256: str
    form: Form
    member: str | None = None


class Candidate(NamedTuple):
    """``key``: what must be the same for a trial's result to hold."""

    name: str
    backend: Backend
    source: Source
    key: Key

    @property
    def exclusive(self) -> bool:
        """Whether only one process at a time can have its device."""
        return self.backend.plugin is not None and self.backend.plugin.exclusive

    @property
    def label(self) -> str:
        """For a person."""
        return f"the CPU build of the model on {self.name}" if self.source.member else self.name


class Misfit(NamedTuple):
    """A back-end that can't be tried at all, and why."""

    name: str
    reason: str


def candidates(
    file: ModelFile, order: Mapping[str, Backend], library: LibraryName | None
) -> Iterator[Candidate | Misfit]:
    """All of them, the most wanted first."""
    yield from _fitting(order, Source(file.content, file.sha256, file.form), library)
    cpu_build = file.members.get(CPU_MEMBER)
    if file.form == "edgetpu" and cpu_build is not None:
        # what can take a compiled model comes before, with it
        rest = {name: entry for name, entry in order.items() if entry.forms & {"tflite", "edgetpu"} == {"tflite"}}
        source = Source(cpu_build, hashlib.sha256(cpu_build).hexdigest(), "tflite", CPU_MEMBER)
        yield from _fitting(rest or {name: BACKENDS[name] for name in PLAIN}, source, library)


def stand_ins(entries: Sequence[Candidate | Misfit]) -> list[Candidate]:
    """Those that need no device, so that they are there at once when one is lost."""
    return [entry for entry in entries if isinstance(entry, Candidate) and not entry.backend.device]


def _fitting(order: Mapping[str, Backend], source: Source, library: LibraryName | None) -> Iterator[Candidate | Misfit]:
    for name, entry in order.items():
        if source.form not in entry.forms:
            if entry.plugin and source.member is None:  # somebody attached it; the others are the profile's offer
                yield Misfit(name, " and ".join(_MISFIT[form] for form in sorted(entry.forms)))
            continue
        try:
            key = Key.of(source.sha256, name, entry.version(library), entry.plugin)
        except ConfigError as error:
            yield Misfit(name, str(error))
            continue
        yield Candidate(name, entry, source, key)
