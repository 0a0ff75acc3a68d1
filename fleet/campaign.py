"""How far a rollout is, judged from what its devices say: where each stands, and whether the whole is over. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from msgspec import Struct

from edge_agent.core.rollout_choice import means
from edge_agent.rollouts import Reason, Rollout, UpdateState
from fleet.fleet_view import Device, HeldSaid, StatusSaid, printable

# Not for this board, or not yet for its program: nothing speaks against the model.
_UNFIT: Final = frozenset({Reason.PROFILE.value, Reason.AGENT.value})
_NOT_LOOKED: Final = "has not looked for updates since its start; has it [update] repository?"
_NOT_HELD_AGAINST: Final = frozenset({Reason.WITHDRAWN.value})


class Phase(str, Enum):
    WAITING = "waiting"
    UNDER_WAY = "under_way"
    COMMITTED = "committed"
    FAILED = "failed"
    LEFT_OUT = "left_out"  # it will not get the model, and that is no failure


class Standing(Struct, frozen=True, kw_only=True):
    """Of one device. ``word``: its state for people; ``runs``: the version that it runs; ``progress``: 0 to 1."""

    device: str
    phase: Phase
    word: str
    runs: str = ""
    reason: str = ""
    detail: str = ""
    progress: float | None = None
    online: bool | None = None


class Verdict(str, Enum):
    """How it ended."""

    GOOD = "good"  # all devices that are known and meant have committed it
    FAILED = "failed"  # all have come to an end, not all to a good one
    TOO_MANY = "too_many"  # more failed than max_failures: to be stopped
    STOPPED = "stopped"  # by somebody


class Campaign:
    """Of one rollout. ``numbers``: of all rollouts of the channel, by id."""

    def __init__(self, rollout: Rollout, numbers: Mapping[str, int], devices: Iterable[Device] = ()) -> None:
        self.rollout = rollout
        self._numbers = numbers
        self._standings = {
            name: Standing(device=name, phase=Phase.WAITING, word="not heard of") for name in rollout.to.devices
        }
        for device in devices:
            self.note(device)

    def follow(self, rollout: Rollout, numbers: Mapping[str, int], devices: Iterable[Device]) -> None:
        """The rollout was changed: paused, or widened."""
        self.rollout, self._numbers = rollout, numbers
        for device in devices:
            self.note(device)

    def note(self, device: Device) -> Standing | None:
        """Returns where the device stands now, if that has changed."""
        before = self._standings.get(device.id)
        after = self._judge(device)
        if after is None or (before is not None and before.phase is Phase.FAILED and after.phase is Phase.WAITING):
            return None  # what failed stays failed, whatever the device did since with other models
        self._standings[device.id] = after
        return None if after == before else after

    @property
    def standings(self) -> list[Standing]:
        """What a person wants to see first comes first."""
        order = (Phase.FAILED, Phase.UNDER_WAY, Phase.WAITING, Phase.COMMITTED, Phase.LEFT_OUT)
        return sorted(self._standings.values(), key=lambda standing: (order.index(standing.phase), standing.device))

    def count(self, phase: Phase) -> int:
        return self._counts()[phase]

    def under_way_online(self) -> bool:
        standings = self._standings.values()
        return any(standing.phase is Phase.UNDER_WAY and standing.online is not False for standing in standings)

    @property
    def share_done(self) -> float:
        """0 to 1: of the devices that are to get it, those that have come to an end."""
        counts = self._counts()
        done = counts[Phase.COMMITTED] + counts[Phase.FAILED]
        return done / max(1, len(self._standings) - counts[Phase.LEFT_OUT])

    @property
    def verdict(self) -> Verdict | None:
        """None: it goes on."""
        counts = self._counts()
        if self.rollout.state == "stopped":
            return Verdict.STOPPED
        if counts[Phase.FAILED] > self.rollout.max_failures:
            return Verdict.TOO_MANY
        if counts[Phase.WAITING] or counts[Phase.UNDER_WAY] or not self._standings:
            return None
        return Verdict.FAILED if counts[Phase.FAILED] or not counts[Phase.COMMITTED] else Verdict.GOOD

    def _counts(self) -> Counter[Phase]:
        return Counter(standing.phase for standing in self._standings.values())

    # --- one device ----------------------------------------------------------------------------------------------

    def _judge(self, device: Device) -> Standing | None:
        """None: not meant."""
        rollout, status = self.rollout, device.status
        if not means(rollout, device.id, device.groups):
            return None
        if status is None:
            return self._standing(device, Phase.WAITING, "waiting", detail="has said nothing of updates")
        held = status.models.get(rollout.model)
        if held is None and status.models and device.id not in rollout.to.devices and status.rollout != rollout.id:
            return None  # it has no such model
        if held is not None and (held.current.rollout, held.current.sha256) == (rollout.id, rollout.sha256):
            return self._standing(device, Phase.COMMITTED, UpdateState.COMMITTED.value)
        return self._not_committed(device, status, held)

    def _not_committed(self, device: Device, status: StatusSaid, held: HeldSaid | None) -> Standing:
        if status.rollout == self.rollout.id:
            return self._under_way(device, status)
        last = status.last
        if last is not None and last.rollout == self.rollout.id:
            return self._ended(device, last.state, last.reason, last.detail)
        if (reason := status.refused.get(self.rollout.id)) is not None:  # other updates have ended since
            return self._ended(device, UpdateState.REJECTED, reason, "")
        return self._not_begun(device, status, held)

    def _under_way(self, device: Device, status: StatusSaid) -> Standing:
        return self._standing(
            device, Phase.UNDER_WAY, status.state.value, status.reason, status.detail, status.progress
        )

    def _ended(self, device: Device, state: UpdateState, reason: str | None, detail: str) -> Standing:
        phase, named = Phase.FAILED, device.id in self.rollout.to.devices
        if reason in _NOT_HELD_AGAINST:
            phase = Phase.WAITING
        elif (reason in _UNFIT and not named) or state is UpdateState.COMMITTED:
            phase = Phase.LEFT_OUT  # committed, and has gone on to another since
        return self._standing(device, phase, state.value, reason, detail)

    def _not_begun(self, device: Device, status: StatusSaid, held: HeldSaid | None) -> Standing:
        if held is not None and held.pinned:
            return self._standing(device, Phase.LEFT_OUT, "pinned", detail="by its operator: edge-agent models unpin")
        if held is not None and self._numbers.get(held.current.rollout, -1) > self.rollout.number:
            return self._standing(device, Phase.LEFT_OUT, "newer", detail=f"runs rollout {held.current.rollout}")
        if status.held_until is not None:
            return self._standing(device, Phase.WAITING, "held", detail=f"until {status.held_until}")
        word = "paused" if self.rollout.state == "paused" else "waiting"
        # A check from before the rollout says nothing of it
        failed = status.check.ok is False
        detail = status.check.detail if failed or self.rollout.id in status.check.detail else ""
        if status.check.ok is None:
            detail = _NOT_LOOKED
        return self._standing(device, Phase.WAITING, word, status.check.reason if failed else None, detail)

    def _standing(
        self,
        device: Device,
        phase: Phase,
        word: str,
        reason: str | None = None,
        detail: str = "",
        progress: float | None = None,
    ) -> Standing:
        held = device.status.models.get(self.rollout.model) if device.status else None
        return Standing(
            device=device.id,
            phase=phase,
            word=word.replace("_", " "),
            runs=printable(held.current.version) if held else "",
            reason=printable(reason or ""),
            detail=printable(detail),
            progress=progress,
            online=device.online,
        )
