"""From a candidate to a runtime: tried in a child process first where it could take this process down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.runtimes import create
from edge_agent.io.runtimes.candidates import Candidate
from edge_agent.io.runtimes.external import HELD
from edge_agent.io.runtimes.litert import LibraryName
from edge_agent.io.runtimes.probe import Probe
from edge_agent.io.runtimes.probe_cache import ProbeCache
from edge_agent.ports import Runtime

if TYPE_CHECKING:
    from edge_agent.config.schema import DelegateConfig


class Builder:
    """How every candidate of one model is built. ``cache_dir`` None: each is tried, and nothing is kept."""

    def __init__(
        self,
        *,
        threads: int,
        external: Mapping[str, DelegateConfig],
        cache_dir: Path | None = None,
        library: LibraryName | None = None,
    ) -> None:
        self.cache = ProbeCache(cache_dir)
        self._threads = threads
        self._external = external
        self._cache_dir = cache_dir
        self._library: LibraryName | None = library

    def probe(self, candidate: Candidate, *, behind: bool) -> Probe | None:
        """Its trial in a child, which has begun; None where none is needed: its outcome is known, it runs in a process
        of its own, or only this process can have the device, and has it. ``behind``: other models run meanwhile, and
        come first. Raises DeviceError."""
        backend, plugin = candidate.backend, candidate.backend.plugin
        if backend.own_process or (plugin is not None and plugin.exclusive and plugin in HELD):
            return None
        known = self.cache.library_of(candidate.key) is not None
        if known and not (plugin is not None and self.cache.deaths(candidate.key)):
            return None
        probe = Probe(
            candidate.source.content,
            candidate.name,
            threads=self._threads,
            external=self._external,
            library=self._library,
            cache_dir=self._cache_dir,
            behind=behind,
        )
        return probe.start()

    def build(self, candidate: Candidate, probe: Probe | None, timeout_s: float | None = None) -> Runtime:
        """Its runtime, here, once its trial went well, within ``timeout_s`` (None: its own time). Raises DeviceError,
        ModelError, ConfigError."""
        plugin = candidate.backend.plugin
        if probe is None:
            library_file = self.cache.library_of(candidate.key)
        else:
            library_file = self._tried(candidate, probe, candidate.backend.trial_s if timeout_s is None else timeout_s)
        if plugin is not None and (probe is None or library_file is None):
            # should the library take this process down now, the next start must find that out in a child
            self.cache.forget(candidate.key)
        runtime = self.at_once(candidate)
        if library_file is not None and (probe is not None or plugin is not None):
            self.cache.remember(candidate.key, library_file)
        return runtime

    def _tried(self, candidate: Candidate, probe: Probe, timeout_s: float) -> str | None:
        """The library's file, as the child found it; None where it could not have the device because this process has
        it, so that only this process can try the model there. Raises DeviceError, ConfigError."""
        outcome = probe.result(timeout_s)
        if outcome.usable:
            return outcome.library_file
        if outcome.fault == "installation":
            raise ConfigError(outcome.reason)
        if outcome.fault == "no device" and candidate.backend.plugin in HELD:
            return None
        raise DeviceError(outcome.reason)

    def at_once(self, candidate: Candidate) -> Runtime:
        """Its runtime, here, untried. Raises DeviceError, ModelError, ConfigError."""
        return create(
            candidate.source.content,
            candidate.name,
            threads=self._threads,
            external=self._external,
            library=self._library,
            cache_dir=self._cache_dir,
        )
