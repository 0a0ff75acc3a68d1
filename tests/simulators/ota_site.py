"""A device with a broker and a repository of models: what is pushed, and what the device says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_agent.rollouts import Audience, Release, Rollout
from tests.simulators.agent_toml import DEVICE, MODEL, belt, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.pushed import pushed
from tests.simulators.subscriber import Subscriber
from tests.simulators.tuf_repository import TufRepository
from tests.simulators.waiting import wait_for

NAME = "conveyor"
FPS = 30
LONG_S = 120.0  # for a whole update on a busy machine


class OtaSite:
    """``update``: further lines of [update]; ``camera``: of its table; ``repository``: the value of that key, None for
    the folder itself; ``rest``: pipeline, model and what they need, in place of the example's."""

    def __init__(
        self,
        folder: Path,
        start: Callable[..., Daemon],
        *update: str,
        fps: int = FPS,
        camera: Sequence[str] = (),
        repository: str | None = None,
        rest: str | None = None,
    ) -> None:
        self.folder = folder
        self.broker = Mosquitto(folder / "broker")
        self.broker.start()
        self.subscriber = Subscriber(self.broker.port)
        self.repository = TufRepository(folder / "repository")
        self.root = folder / "root.json"
        self.root.write_bytes(self.repository.root_bytes)
        self.update_folder = folder / "update"
        rest = machine() + inspect() + MODEL if rest is None else rest
        self._parts = head(self.broker.port) + belt(fps, *camera) + rest
        self.configuration = self.configured(*update, repository=repository)
        self._start = start
        self._rollouts: list[Rollout] = []
        self._published = self._rolled_out = 0
        self.daemon = self.start()

    def configured(self, *update: str, repository: str | None = None) -> str:
        """The same device with these lines of [update]."""
        places = {"root": self.root, "path": self.update_folder, "repository": repository or self.repository.folder}
        return (
            self._parts
            + "\n".join(["[update]", *(f'{key} = "{place}"' for key, place in places.items()), *update])
            + "\n"
        )

    def start(self) -> Daemon:
        """And wait until it hears: a bell before that is rung for nobody."""
        before = self.status().get("boot_id")
        self.daemon = self._start(self.configuration)
        self.daemon.wait_ready()
        wait_for(lambda: self.status().get("boot_id") not in (before, None), "its first words")
        return self.daemon

    def close(self) -> None:
        self.daemon.kill()
        self.subscriber.close()
        self.broker.stop()

    # --- the owner ---------------------------------------------------------------------------------------------------

    def publish(self, version: str, content: bytes | None = None, *, seq: int | None = None, **custom: Any) -> Release:
        """Sign a model; None: a good one that names this version."""
        self._published += 1
        content = good(version) if content is None else content
        return self.repository.add_model(NAME, version, content, self._published if seq is None else seq, **custom)

    def rollout(self, release: Release, **change: Any) -> Rollout:
        """The next one, to this device; nobody has signed it."""
        self._rolled_out += 1
        number = self._rolled_out
        said: dict[str, Any] = {
            "id": f"r{number}",
            "number": number,
            "model": release.name,
            "target": release.target,
            "sha256": release.sha256,
            "to": Audience(devices=(DEVICE,)),
            "trial_s": 1.0,
            **change,
        }
        return Rollout(**said)

    def roll_out(self, release: Release, **change: Any) -> Rollout:
        """Sign a rollout to this device, and ring."""
        rollout = self.rollout(release, **change)
        self.sign_rollouts(*self._rollouts, rollout)
        return rollout

    def sign_rollouts(self, *rollouts: Rollout) -> None:
        """All, or those instead."""
        self._rollouts = list(rollouts) or self._rollouts
        self.repository.set_rollouts("main", self._rollouts)
        self.ring()

    def ring(self) -> None:
        self.say("bell", b"")

    def say(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """To the device, as anybody at the broker may: below update/."""
        self.subscriber.publish(f"edge-agent/{DEVICE}/update/{topic}", payload, retain)

    # --- the device --------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The last word on update/status; empty if there was none."""
        said = self.subscriber.payloads("/update/status")
        return said[-1] if said else {}

    def states(self, rollout: Rollout) -> list[str]:
        """Those that the device has told of its part of it, in their order."""
        said = self.subscriber.payloads("/update/status")
        found = [item["state"] for item in said if item["rollout"] == rollout.id]
        return [state for number, state in enumerate(found) if number == 0 or found[number - 1] != state]

    def wait_status(
        self, condition: Callable[[dict[str, Any]], Any], what: str, limit_s: float = LONG_S
    ) -> dict[str, Any]:
        """The first word of the device, from the last one on, for which that is true."""
        seen = max(0, len(self.subscriber.raw("/update/status")) - 1)

        def found() -> dict[str, Any] | None:
            return next((said for said in self.subscriber.payloads("/update/status")[seen:] if condition(said)), None)

        try:
            return wait_for(found, what, limit_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status()}\n{self.daemon.log[-4000:]}") from None

    def wait_state(self, *states: str) -> dict[str, Any]:
        return self.wait_status(lambda said: said["state"] in states, " or ".join(states))

    def check(self) -> dict[str, Any]:
        """Ring, and wait until the device has looked: what it says then."""
        before = (self.status().get("check") or {}).get("time")
        self.ring()
        return self.wait_status(lambda said: said["check"]["time"] not in (before, None), "a look at the repository")

    def wait_end(self, rollout: Rollout, limit_s: float = LONG_S) -> dict[str, Any]:
        """How this device's part of it ended."""
        ended = self.wait_status(
            lambda said: (said["last"] or {}).get("rollout") == rollout.id, f"the end of {rollout.id}", limit_s
        )
        found: dict[str, Any] = ended["last"]
        return found

    def current(self) -> str:
        """The version that the device says it runs."""
        return str(self.status()["models"][NAME]["current"]["version"])

    def versions(self, start: int = 0) -> set[str]:
        """Of all predictions so far, from that one on."""
        return {item["model"]["version"] for item in self.subscriber.predictions()[start:]}

    def wait_version(self, version: str) -> None:
        """Predictions of it come in."""
        start = len(self.subscriber.predictions())
        wait_for(lambda: version in self.versions(start), f"predictions of {version}")

    def goes_on(self, count: int = 5) -> None:
        """Inference is alive: so many more predictions come."""
        self.subscriber.wait_predictions(len(self.subscriber.predictions()) + count)

    def stats(self) -> dict[str, Any]:
        """Of the pipeline, as last told."""
        found: dict[str, Any] = self.subscriber.payloads("/stats")[-1]["pipelines"]["inspect"]
        return found


def good(version: str) -> bytes:
    """The example's model under another version, so with other bytes."""
    return pushed(lambda card: card.update(version=version))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
