"""What a process loads when it starts: what came over the air, the one before it, the factory's. In this order, until
one loads: a device with a model that works stays one.
"""

from __future__ import annotations

import logging

from edge_agent.config.load import LoadedConfig
from edge_agent.core import boot
from edge_agent.core.boot import Boot
from edge_agent.errors import ModelError, StorageError, UpdateError
from edge_agent.io.clock import SystemClock
from edge_agent.io.model_store import ModelStore, update_folder
from edge_agent.loading import Loading, begin, model_request
from edge_agent.records import Event
from edge_agent.rollouts import FACTORY, DeviceState, Outcome, Reason, Slot

log = logging.getLogger("edge_agent")


class UpdateStart:
    """The device's folder of models at the start of the process. ``outcomes``: what was given up on the way, to be told
    when there is a broker; ``refusal``: why nothing can be changed there, one line."""

    def __init__(self, loaded: LoadedConfig) -> None:
        config = loaded.config
        self.loaded = loaded
        self.store = ModelStore(update_folder(config.update, loaded.folder, config.device.id or ""), config.update.disk)
        self.clock = SystemClock()
        self.outcomes: list[Outcome] = []
        self.refusal = ""
        self.wait_s = 0.0
        self.state = self._open()

    def begin(self, name: str) -> Loading:
        """Begin to load the model for [model.NAME]. Raises ModelError or ConfigError where even the factory's can't."""
        while True:
            slot = self.slot(name)
            if slot.sha256 == FACTORY:
                return begin(model_request(self.loaded, name))
            path = self.store.slot(slot.sha256)
            if path is None:
                self.fall_back(name, Reason.HASH, f"{slot.version} is not on the disk as it was signed")
                continue
            try:
                return begin(model_request(self.loaded, name, path=path, version=slot.version))
            except ModelError as error:
                self.fall_back(name, Reason.LOAD, str(error))

    def slot(self, name: str) -> Slot:
        """What is to run for [model.NAME]."""
        held = self.state.models.get(name)
        return Slot() if held is None else held.current

    def fall_back(self, name: str, reason: Reason, detail: str) -> None:
        """What is to run for it can't: take what ran before."""
        log.error("model %s %s: %s; taking the one before", name, self.slot(name).version, detail)
        self._take(boot.fall_back(self.state, name, reason, detail, self._wall_ns()))

    def events(self) -> list[Event]:
        """What is to be told of this start."""
        told = [
            Event("update_rolled_back", "error", outcome.model, f"{outcome.version}: {outcome.detail}")
            for outcome in self.outcomes
        ]
        if self.store.damage:
            told.append(Event("update_state_damaged", "error", "update", self.store.damage))
        if self.refusal:
            told.append(Event("updates_off", "warning", "update", self.refusal))
        return told

    def _open(self) -> DeviceState:
        """Read the state, and count this start."""
        self.state = DeviceState()
        try:
            self.store.lock()
        except StorageError as error:
            self.refusal = str(error)
        try:
            self.state = self.store.load()
        except StorageError as error:
            self.refusal = self.refusal or str(error)
            log.error("%s: the factory models run, and no other can be taken", error)
            return self.state
        if self.state != DeviceState():  # a device that only knows its factory models writes nothing at its start
            self._take(boot.begin(self.state, self._wall_ns()))
        return self.state

    def _take(self, found: Boot) -> None:
        if found.outcome is not None:
            self.outcomes.append(found.outcome)
        self.wait_s = max(self.wait_s, found.wait_s)
        before, self.state = self.state, found.state
        if self.refusal or found.state == before:
            return
        try:
            self.store.save(found.state)
        except UpdateError as error:  # what runs is safe all the same
            log.error("%s", error)

    def _wall_ns(self) -> int:
        return self.clock.wall_ns(self.clock.monotonic_ns())
