"""The first back-end in the declared order that runs a model here, and why not the ones before it.

Each is tried in a child process first, and built here only when it ran there with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from edge_agent import limits
from edge_agent.errors import ConfigError, DeviceError, EdgeAgentError, ModelError
from edge_agent.io.runtimes import BACKENDS, PLAIN, Backend, backend, backends, create, plugins_of
from edge_agent.io.runtimes.litert import LibraryName
from edge_agent.io.runtimes.probe import Probe
from edge_agent.io.runtimes.probe_cache import Key, ProbeCache
from edge_agent.ports import Runtime
from edge_agent.records import Form, ModelFile

if TYPE_CHECKING:
    from edge_agent.config.schema import DelegateConfig

CPU_MEMBER = "edge-agent/cpu.tflite"  # the CPU build inside a build for the Edge TPU


@dataclass(frozen=True, slots=True)
class Chosen:
    """``tried`` names each back-end that was passed over, with its reason. ``member`` is the associated file that
    runs in the model's stead, None where the model itself runs; ``content`` the bytes that run."""

    runtime: Runtime
    tried: tuple[tuple[str, str], ...]
    content: bytes
    member: str | None = None


_MISFIT: dict[Form, str] = {
    "tflite": "the model is not plain TFLite",
    "edgetpu": "the model is not compiled for the Edge TPU",
    "onnx": "the model is not ONNX",
}


class _Source(NamedTuple):
    content: bytes
    sha256: str
    form: Form
    member: str | None = None


class _Candidate(NamedTuple):
    name: str
    backend: Backend
    source: _Source
    key: Key


class Choice:
    """A choice under way: the first probe starts at once, so that its time can be used for other things.

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
        self._order = {name: backend(name, known) for name in order}
        self._file = file
        self._threads = threads
        self._external = external
        self._library: LibraryName | None = library
        self._behind = behind
        for entry in self._order.values():  # none at all is a mistake of the installation, not of a model
            if not entry.device:
                entry.version(library)
        self._cache_dir = cache_dir
        self._cache = ProbeCache(cache_dir)
        self._tried: list[tuple[str, str]] = []
        self._refusal = ""  # of a back-end that needs no device: then it is the model
        self._candidates = self._each_candidate()
        self._current = self._next()

    def result(
        self, timeout_s: float = limits.PROBE_TIMEOUT_S, trying: Callable[[str], None] = lambda _name: None
    ) -> Chosen:
        """Wait for the first back-end that works, at most ``timeout_s`` for each; ``trying`` is told its name.
        Called once.

        Raises ModelError when the interpreter itself does not run the model, DeviceError when only a declared
        accelerator could, and none is usable.
        """
        while self._current:
            candidate, probe = self._current
            trying(candidate.name)
            runtime = self._settle(candidate, probe, timeout_s)
            if runtime:
                runtime.info = replace(runtime.info, reason=self._reason(candidate))
                return Chosen(runtime, tuple(self._tried), candidate.source.content, candidate.source.member)
            self._current = self._next()
        raise self._failure()

    def cancel(self) -> None:
        """Give up: stop the probe that runs."""
        if self._current and self._current[1]:
            self._current[1].cancel()

    def _each_candidate(self) -> Iterator[_Candidate]:
        file = self._file
        yield from self._fitting(self._order, _Source(file.content, file.sha256, file.form))
        cpu_build = file.members.get(CPU_MEMBER)
        if file.form == "edgetpu" and cpu_build is not None:
            # what can take a compiled model was tried with it, and failed
            rest = {name: entry for name, entry in self._order.items() if "edgetpu" not in entry.forms}
            source = _Source(cpu_build, hashlib.sha256(cpu_build).hexdigest(), "tflite", CPU_MEMBER)
            yield from self._fitting(rest or {name: BACKENDS[name] for name in PLAIN}, source)

    def _fitting(self, order: Mapping[str, Backend], source: _Source) -> Iterator[_Candidate]:
        for name, entry in order.items():
            if source.form not in entry.forms:
                if entry.device and source.member is None:
                    self._tried.append((name, " and ".join(_MISFIT[form] for form in sorted(entry.forms))))
                continue
            try:
                key = Key.of(source.sha256, name, entry.version(self._library), entry.plugin)
            except ConfigError as error:
                self._tried.append((name, str(error)))
                continue
            yield _Candidate(name, entry, source, key)

    def _next(self) -> tuple[_Candidate, Probe | None] | None:
        """The next candidate and its running probe; no probe where the cache knows the answer."""
        candidate = next(self._candidates, None)
        if candidate is None:
            return None
        if candidate.backend.own_process or self._cache.library_of(candidate.key) is not None:
            return candidate, None
        probe = Probe(
            candidate.source.content,
            candidate.name,
            threads=self._threads,
            external=self._external,
            library=self._library,
            behind=self._behind,
        )
        return candidate, probe.start()

    def _settle(self, candidate: _Candidate, probe: Probe | None, timeout_s: float) -> Runtime | None:
        """The runtime, or None with the reason noted."""
        library_file = self._cache.library_of(candidate.key) or ""
        if probe:
            outcome = probe.result(timeout_s)
            if not outcome.usable:
                self._pass_over(candidate, outcome.reason)
                return None
            library_file = outcome.library_file
        elif candidate.backend.plugin:
            # should the library take this process down now, the next start must find that out in a child
            self._cache.forget(candidate.key)
        try:
            runtime = create(
                candidate.source.content,
                candidate.name,
                threads=self._threads,
                external=self._external,
                library=self._library,
                cache_dir=self._cache_dir,
            )
        except EdgeAgentError as error:
            self._pass_over(candidate, str(error))
            return None
        if probe or candidate.backend.plugin:
            self._cache.remember(candidate.key, library_file)
        return runtime

    def _pass_over(self, candidate: _Candidate, reason: str) -> None:
        self._tried.append((candidate.name, reason))
        if not candidate.backend.device:
            self._refusal = f"{candidate.key.runtime} does not run this model: {reason}"

    def _reasons(self) -> str:
        return "; ".join(f"{name}: {reason}" for name, reason in self._tried)

    def _reason(self, candidate: _Candidate) -> str:
        if not self._tried:
            return ""
        build = "the CPU build of the model on " if candidate.source.member else ""
        return f"{self._reasons()}; using {build}{candidate.name}"

    def _failure(self) -> EdgeAgentError:
        path = self._file.path
        if self._refusal:
            return ModelError(f"{path}: {self._refusal}; push a sound model")
        if self._file.form == "edgetpu":
            return DeviceError(
                f"{path}: this model is compiled for the Edge TPU and none is available "
                f"({self._reasons() or 'no declared back-end drives one'}); "
                "attach one, or use the CPU build of the model"
            )
        return DeviceError(
            f'{path}: no declared back-end runs this model ({self._reasons()}); add "xnnpack" or "cpu" to "delegates"'
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
