"""The device's look at the repository: what is signed, which of it means this device, and its bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

import edge_agent
from edge_agent.config.files import ROOT_FILE
from edge_agent.config.load import LoadedConfig
from edge_agent.core.rollout_choice import Device, choose, wanted
from edge_agent.core.rollout_look import EARLIEST_WALL_NS
from edge_agent.core.rollout_steps import Checked
from edge_agent.errors import UpdateError
from edge_agent.io.fetch import create_source
from edge_agent.io.fetch.folder import FolderSource
from edge_agent.io.model_store import ModelStore
from edge_agent.io.tuf_client import TrustedRepository
from edge_agent.ports import Clock, Source
from edge_agent.rollouts import DeviceState, Reason, Release

_OF_ONE_RELEASE = (Reason.METADATA_REFUSED, Reason.TOO_LARGE)  # signed, and no model: other models' rollouts go on


class Access(Struct, frozen=True):
    """What is needed to open the repository. ``topic``: "<base>/<device>"."""

    loaded: LoadedConfig
    store: ModelStore
    client_id: str
    topic: str
    clock: Clock


class Look:
    """One visit, on one thread; ``stop`` from any. ``folder``: a repository that was brought here, in place of the
    configured one."""

    def __init__(self, access: Access, folder: str | None) -> None:
        self._access = access
        self._folder = folder
        self._source: Source | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def check(self, state: DeviceState) -> Checked:
        """Raises UpdateError."""
        access, config = self._access, self._access.loaded.config
        with self._open(state) as repository:
            repository.refresh()
            channel = repository.channel(config.update.channel)
            device = Device(
                id=config.device.id or "",
                groups=frozenset(config.device.groups),
                models=frozenset(config.model),
                profile=access.loaded.profile.name,
                agent=edge_agent.__version__,
            )
            releases: dict[str, Release] = {}
            for rollout in wanted(channel, device):
                if repository.target(rollout.target) is None:
                    continue  # nobody signed it: the choice says so
                try:
                    releases[rollout.target] = repository.release(rollout.target)
                except UpdateError as error:
                    if error.reason not in _OF_ONE_RELEASE:
                        raise
            return choose(channel, releases, device, state, self._wall_ns())

    def fetch(self, release: Release, state: DeviceState, progress: Callable[[int], None]) -> None:
        """Into its slot. Raises UpdateError."""
        store = self._access.store
        store.room(release.sha256, release.length)
        if store.slot(release.sha256) is not None:
            return
        with self._open(state) as repository:
            repository.download(release, store.part(release.sha256), progress)
        store.stage(release.sha256, release.length)

    def stop(self) -> None:
        """The call under way ends soon."""
        with self._lock:
            self._stopped = True
            if self._source is not None:
                self._source.stop()

    @contextmanager
    def _open(self, state: DeviceState) -> Iterator[TrustedRepository]:
        wall_ns = self._wall_ns()
        if wall_ns < max(state.time_floor_ns, EARLIEST_WALL_NS):
            raise UpdateError(
                Reason.CLOCK, "the clock shows a time that has been before: waiting for its synchronisation"
            )
        root = read_root(self._access.loaded)
        source = self._create()
        try:
            yield TrustedRepository(self._access.store.metadata, root, source, wall_ns)
        finally:
            source.close()

    def _create(self) -> Source:
        access, config = self._access, self._access.loaded.config
        with self._lock:
            self._source = (
                FolderSource(Path(self._folder))
                if self._folder is not None
                else create_source(config.update, config.mqtt, access.loaded.folder, access.client_id, access.topic)
            )
            if self._stopped:
                self._source.stop()
            return self._source

    def _wall_ns(self) -> int:
        return self._access.clock.wall_ns(self._access.clock.monotonic_ns())


def read_root(loaded: LoadedConfig) -> bytes:
    """The root metadata that this device was given. Raises UpdateError."""
    path = loaded.folder / (loaded.config.update.root or ROOT_FILE)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UpdateError(
            Reason.NO_ROOT, f"{path}: {error.strerror}; copy there what edge-fleet init printed, or set [update] root"
        ) from None
    if not content.strip():
        raise UpdateError(Reason.NO_ROOT, f"{path} is empty; copy there what edge-fleet init printed")
    return content
