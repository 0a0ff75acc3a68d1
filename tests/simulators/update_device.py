"""A device as the fleet sees it: retained words on a real broker, and a bell that it answers by looking into the
repository with the real TUF client, fetching what means it, and telling each step. It runs no model.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.core.rollout_choice import means
from edge_agent.core.update_status import CheckResult, UpdateStatus, status_body
from edge_agent.core.wire import Topics, seal
from edge_agent.errors import UpdateError
from edge_agent.io.tuf_client import TrustedRepository
from edge_agent.outgoing import Schema
from edge_agent.ports import Source
from edge_agent.rollouts import Candidate, DeviceState, Held, Outcome, Reason, Slot, UpdateState
from tests.simulators.waiting import wait_for

STEPS = (UpdateState.FETCHING, UpdateState.VERIFYING, UpdateState.TRIAL)


class UpdateDevice:
    """``fails``: why its trials end badly; ``stays``: they go on until the rollout is stopped."""

    def __init__(
        self,
        port: int,
        name: str,
        folder: Path,
        source: Source,
        root: bytes,
        *,
        groups: Iterable[str] = (),
        fails: Reason | None = None,
        stays: bool = False,
        model: str = "hall",
        wall_ns: int | None = None,
    ) -> None:
        self.name, self.groups, self.model, self.fails, self.stays = name, frozenset(groups), model, fails, stays
        self.state = DeviceState(models={model: Held()})
        self.rung: list[str] = []
        self.fetched = b""
        self._trying: Candidate | None = None
        self._folder, self._source, self._root, self._wall_ns = folder, source, root, wall_ns
        self._topics = Topics("edge-agent", name)
        self._bells: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"edge-agent-{name}")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._bell
        self._client.will_set(self._topics.availability, "offline", qos=1, retain=True)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(20), "the broker did not acknowledge the subscription"
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._bells.put(False)
        self._source.stop()
        self._thread.join(20)
        self._source.close()
        self._client.disconnect()
        self._client.loop_stop()

    def say(self, status: UpdateStatus) -> None:
        payload = seal(Schema.UPDATE, status_body(status, self.name, "boot"), time.time_ns(), True)
        self._client.publish(self._topics.update_status, payload, qos=1, retain=True)

    def wait_rung(self, times: int) -> None:
        wait_for(lambda: len(self.rung) >= times, f"{self.name} is rung {times} times")

    def _connected(self, client: paho.Client, *_: object) -> None:
        info = {"schema": "edge-agent/info/1", "device": self.name, "boot_id": "boot", "groups": sorted(self.groups)}
        client.publish(self._topics.info, msgspec.json.encode(info), qos=1, retain=True)
        self.say(UpdateStatus(state=UpdateState.IDLE, device=self.state))
        client.publish(self._topics.availability, "online", qos=1, retain=True)
        client.subscribe([(topic, 1) for topic in self._topics.update_bells])

    def _bell(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self.rung.append(message.payload.decode())
        self._bells.put(True)

    def _work(self) -> None:
        while self._bells.get():
            try:
                self._look()
            except UpdateError as error:
                check = CheckResult(time.time_ns(), False, Reason(error.reason), str(error))
                self.say(UpdateStatus(state=UpdateState.IDLE, device=self.state, check=check))

    def _look(self) -> None:
        wall_ns = time.time_ns() if self._wall_ns is None else self._wall_ns
        trusted = TrustedRepository(self._folder / "tuf", self._root, self._source, wall_ns)
        trusted.refresh()
        for rollout in trusted.channel("main").rollouts:
            if self._trying is not None and self._trying.rollout.id == rollout.id and rollout.state == "stopped":
                self._end(self._trying, Reason.WITHDRAWN, "the rollout was stopped")
            if rollout.state == "active" and means(rollout, self.name, self.groups) and not self._knows(rollout.id):
                self._update(trusted, Candidate(trusted.release(rollout.target), rollout))

    def _knows(self, rollout: str) -> bool:
        last = self.state.last
        tried = self._trying.rollout.id if self._trying else ""
        return rollout in (self.state.models[self.model].current.rollout, last.rollout if last else "", tried)

    def _update(self, trusted: TrustedRepository, found: Candidate) -> None:
        for step in STEPS:
            self.say(UpdateStatus(state=step, device=self.state, candidate=found, progress=0.5))
            if step is UpdateState.FETCHING:
                part = self._folder / "part"
                part.unlink(missing_ok=True)
                trusted.download(found.release, part, lambda _: None)
                self.fetched = part.read_bytes()
        self._trying = found
        if not self.stays:
            self._end(found, self.fails, "the trial went wrong" if self.fails else "")

    def _end(self, found: Candidate, why: Reason | None, detail: str) -> None:
        self._trying = None
        release = found.release
        last = Outcome(
            state=UpdateState.ROLLED_BACK if why else UpdateState.COMMITTED,
            model=self.model,
            version=release.version,
            sha256=release.sha256,
            rollout=found.rollout.id,
            reason=why,
            detail=detail,
        )
        held = self.state.models[self.model]
        if why is None:
            held = Held(
                current=Slot(sha256=release.sha256, version=release.version, seq=release.seq, rollout=found.rollout.id)
            )
        self.state = msgspec.structs.replace(self.state, models={self.model: held}, last=last)
        self.say(UpdateStatus(state=UpdateState.IDLE, device=self.state, check=CheckResult(time.time_ns(), True)))
