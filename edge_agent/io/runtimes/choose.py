"""The first back-end in the declared order that runs a model here, and why not the ones before it.

Each is tried in a child process first, and built here only when it ran there with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from edge_agent.errors import ConfigError, DeviceError, EdgeAgentError, ModelError
from edge_agent.io.runtimes import backend, backends, plugins_of
from edge_agent.io.runtimes.builder import Builder
from edge_agent.io.runtimes.candidates import CPU_MEMBER, Candidate, Misfit, candidates, stand_ins
from edge_agent.io.runtimes.failover import FailoverRuntime
from edge_agent.io.runtimes.litert import LibraryName
from edge_agent.io.runtimes.probe import NO_ANSWER, Probe
from edge_agent.ports import Runtime
from edge_agent.records import ModelFile

if TYPE_CHECKING:
    from edge_agent.config.schema import DelegateConfig

__all__ = ["CPU_MEMBER", "Choice", "Chosen", "choose"]

_DEADLY = "the process died or hung twice while this library ran"


@dataclass(frozen=True, slots=True)
class Chosen:
    """``tried`` names each back-end that was passed over, with its reason. ``member`` is the associated file that
    runs in the model's stead, None where the model itself runs; ``content`` the bytes that run. ``failover``: the
    runtime itself, where it may change its back-end; None where no device takes part."""

    runtime: Runtime
    tried: tuple[tuple[str, str], ...]
    content: bytes
    member: str | None = None
    failover: FailoverRuntime | None = None


class Choice:
    """A choice under way: the first probe starts at once, so that its time can be used for other things; not that of
    an external delegate, for whose device several choices may ask.

    ``cache_dir`` None: every back-end is probed. ``behind``: other models run meanwhile, and come first. Raises
    ConfigError for a name that is no back-end, and where no TFLite runtime is installed.
    """

    def __init__(
        self,
        file: ModelFile,
        order: Sequence[str],
        *,
        threads: int,
        external: Mapping[str, DelegateConfig],
        cache_dir: Path | None = None,
        library: LibraryName | None = None,
        behind: bool = False,
    ) -> None:
        if not order:
            raise ConfigError('no back-end is declared in "delegates"; "xnnpack" and "cpu" need no accelerator')
        known = backends(plugins_of(external))
        declared = {name: backend(name, known) for name in order}
        for entry in declared.values():  # none at all is a mistake of the installation, not of a model
            if not entry.device and (file.form in entry.forms or file.form == "edgetpu"):
                entry.version(library)
        self._file = file
        self._behind = behind
        self._builder = Builder(threads=threads, external=external, cache_dir=cache_dir, library=library)
        self._entries = list(candidates(file, declared, library))
        self._rest = list(self._entries)  # not tried yet
        self._tried: list[tuple[str, str]] = []
        self._refusal = ""  # of a back-end that needs no device: then it is the model
        self._broken = ""  # what is installed for such a back-end: then it is nobody's model
        self._probe: Probe | None = None
        self._begun = False  # the probe, where there is one
        self._current = self._next()
        # of a plugged-in library nobody knows whether two processes can have its device
        if self._current is not None and self._current.backend.plugin is None:
            self._begin(self._current)

    def result(
        self, timeout_s: float | None = None, trying: Callable[[str, float], None] = lambda _name, _trial_s: None
    ) -> Chosen:
        """Wait for the first back-end that works, at most ``timeout_s`` for each (None: its own time); ``trying`` is
        told each one's name and its own time. Called once.

        Raises ModelError when the interpreter itself does not run the model, DeviceError when only a declared
        accelerator could, and none is usable, ConfigError when nothing that is declared takes such a model or what is
        installed for it is broken.
        """
        while self._current is not None:
            candidate = self._current
            trying(candidate.name, candidate.backend.trial_s)
            if not self._begun:
                self._begin(candidate)
            try:
                runtime = self._builder.build(candidate, self._probe, timeout_s)
            except EdgeAgentError as error:
                self._pass_over(candidate, str(error), installation=isinstance(error, ConfigError))
                self._current = self._next()
                continue
            reasons = (self._reason(candidate), runtime.info.reason)  # why not those before; what it leaves to others
            runtime.info = replace(runtime.info, reason="; ".join(filter(None, reasons)))
            return self._chosen(candidate, runtime)
        raise self._failure()

    def cancel(self) -> None:
        """Give up: stop the probe that runs."""
        if self._probe is not None:
            self._probe.cancel()

    def _next(self) -> Candidate | None:
        """The next candidate."""
        self._begun = False
        while self._rest:
            entry = self._rest.pop(0)
            if isinstance(entry, Misfit):
                self._tried.append(entry)
            elif self._builder.cache.deadly(entry.key) and stand_ins(self._rest):
                self._pass_over(entry, _DEADLY)
            else:
                return entry
        return None

    def _begin(self, candidate: Candidate) -> None:
        """Its probe, where it needs one."""
        self._probe = self._builder.probe(candidate, behind=self._behind)
        self._begun = True

    def _chosen(self, candidate: Candidate, runtime: Runtime) -> Chosen:
        wanted = [entry for entry in self._entries if isinstance(entry, Candidate)]
        position = wanted.index(candidate)
        failover = None
        if any(entry.backend.device for entry in wanted[: position + 1]):
            runtime = failover = FailoverRuntime(runtime, wanted, position, self._builder)
        return Chosen(runtime, tuple(self._tried), candidate.source.content, candidate.source.member, failover)

    def _pass_over(self, candidate: Candidate, reason: str, *, installation: bool = False) -> None:
        self._tried.append((candidate.name, reason))
        if candidate.backend.device:
            return
        if installation:
            self._broken = reason
        else:
            self._refusal = f"{candidate.key.runtime} does not run this model: {reason}"

    def _reasons(self) -> str:
        return "; ".join(f"{name}: {reason}" for name, reason in self._tried)

    def _reason(self, candidate: Candidate) -> str:
        return f"{self._reasons()}; using {candidate.label}" if self._tried else ""

    def _failure(self) -> EdgeAgentError:
        path = self._file.path
        if self._refusal:
            fix = (
                "try again when it is less busy, or push a sound model"
                if NO_ANSWER in self._refusal
                else "push a sound model"
            )
            return ModelError(f"{path}: {self._refusal}; {fix}")
        if self._broken:
            return ConfigError(f"{path}: {self._broken}")
        if self._file.form == "edgetpu":
            return DeviceError(
                f"{path}: this model is compiled for the Edge TPU and none is available "
                f"({self._reasons() or 'no declared back-end drives one'}); "
                "attach one, or use the CPU build of the model"
            )
        add = '"onnx-cpu"' if self._file.form == "onnx" else '"xnnpack" or "cpu"'
        if not self._tried:
            return ConfigError(f'{path}: no declared back-end takes a model of this form; add {add} to "delegates"')
        return DeviceError(
            f'{path}: no declared back-end runs this model ({self._reasons()}); add {add} to "delegates"'
        )


def choose(
    file: ModelFile,
    order: Sequence[str],
    *,
    threads: int,
    external: Mapping[str, DelegateConfig],
    cache_dir: Path | None = None,
    library: LibraryName | None = None,
) -> Chosen:
    """The choice in one step; see Choice for the errors."""
    return Choice(file, order, threads=threads, external=external, cache_dir=cache_dir, library=library).result()
