"""What the machine of core/rollout.py knows between two happenings, as one value: a step makes a new one, and a step
whose state could not be written down is undone by going back to the old one. All times are monotonic nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from hashlib import sha256
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from edge_agent.core.rollout_steps import Action, Evidence, Tell
from edge_agent.core.rollout_window import Window
from edge_agent.core.update_status import CheckResult
from edge_agent.records import Event
from edge_agent.rollouts import Candidate, DeviceState, Held, Reason, Slot, UpdateState

SECOND: Final = 10**9
RETRY_FIRST_S: Final = 10.0  # after a failure of the network, the repository or the disk; doubles, with jitter
RETRY_LAST_S: Final = 3600.0
SOON_S: Final = 1.0  # after an update has ended: there may be another one


class Now(Struct, frozen=True):
    """``synced``: the kernel says that the wall clock is right."""

    mono_ns: int
    wall_ns: int
    synced: bool = False

    def after(self, seconds: float) -> int:
        return self.mono_ns + round(seconds * SECOND)


class Settings(Struct, frozen=True, kw_only=True):
    """``poll_s`` None: no repository is configured, only a Wake with a source looks for anything."""

    device: str
    poll_s: float | None
    window: Window | None = None  # the device's own


class Errand(str, Enum):
    """The action under way that Done, Failed or Checked will answer. There is at most one."""

    CHECK = "check"
    FETCH = "fetch"
    VERIFY = "verify"
    SWAP = "swap"
    SWAP_BACK = "swap_back"


class Mind(Struct, frozen=True, kw_only=True):
    settings: Settings
    device: DeviceState
    state: UpdateState = UpdateState.IDLE
    errand: Errand | None = None

    # looking for something new
    check_ns: int | None = None  # when next
    look_again: bool = False  # somebody asked while a check was under way: it may have read what was there before
    source: str | None = None  # where, if not in the configured repository
    check: CheckResult = CheckResult()
    checked_ns: int | None = None
    failures: int = 0  # of checks, in a row
    paused: frozenset[str] = frozenset()  # rollouts, as last read
    refusals: Mapping[str, Reason] = field(default_factory=dict)  # by rollout, as last read
    told: frozenset[tuple[str, str, Reason | None]] = frozenset()  # what was refused, so as to say it once

    # the update under way; which one, says the device's state
    ready: bool = False  # verified, and seen in shadow: only its hour is to come
    transfers: int = 0  # of it that failed, in a row
    tries: int = 0  # of verifying and shadowing it, that failed without its fault
    began_ns: int | None = None  # the shadow, or the trial in this process
    written_ns: int | None = None  # the trial's time, last
    samples: int = 0
    progress: float | None = None
    evidence: Evidence = field(default_factory=dict)
    reason: Reason | None = None
    detail: str = ""

    # waiting
    gate_ns: int | None = None  # when a window may open
    again_ns: int | None = None  # the disk, or a swap, is tried again not before
    disk_failures: int = 0
    held_ns: int | None = None
    held_wall_ns: int | None = None

    @property
    def candidate(self) -> Candidate | None:
        """Of the update under way."""
        if self.device.trial is not None:
            return self.device.trial.candidate
        return None if self.state in (UpdateState.IDLE, UpdateState.CHECKING) else self.device.pending

    def current(self, model: str) -> Slot:
        return self.device.models.get(model, Held()).current


Turn = tuple[Mind, list[Action]]


def backoff_s(mind: Mind, failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return float(min(RETRY_FIRST_S * 2 ** min(failures - 1, 20), RETRY_LAST_S)) * (0.5 + 0.5 * jitter(mind, failures))


def poll_ns(mind: Mind, now: Now) -> int | None:
    """When to look without being asked: evenly spread over the devices of a fleet."""
    period_s = mind.settings.poll_s
    return None if period_s is None else now.after(period_s * (0.75 + 0.5 * jitter(mind, now.mono_ns)))


def jitter(mind: Mind, salt: int) -> float:
    """0 to 1: different for each device, without drawing from chance."""
    drawn = sha256(f"{mind.settings.device} {salt}".encode()).digest()
    return int.from_bytes(drawn[:4], "big") / 2**32


def held(mind: Mind, now: Now) -> bool:
    return mind.held_ns is not None and now.mono_ns < mind.held_ns


def unheld(mind: Mind, now: Now) -> Mind:
    """A hold that is over is forgotten."""
    return mind if mind.held_ns is None or held(mind, now) else replace(mind, held_ns=None, held_wall_ns=None)


def to_idle(mind: Mind, check_ns: int | None) -> Mind:
    """No update under way. What is pending stays so, and is taken up when the next check says so."""
    return replace(
        mind,
        state=UpdateState.IDLE,
        errand=None,
        check_ns=check_ns,
        ready=False,
        began_ns=None,
        written_ns=None,
        samples=0,
        progress=None,
        evidence={},
        gate_ns=None,
    )


def ended(mind: Mind, now: Now) -> Turn:
    """After an update: to rest, and a look soon whether there is another."""
    looks = mind.settings.poll_s is not None or mind.source is not None or mind.device.pending is not None
    mind = to_idle(mind, now.after(SOON_S) if looks else None)
    return replace(mind, transfers=0, tries=0, reason=None, detail=""), []


def tell(kind: str, severity: str, subject: str, detail: str) -> Tell:
    if severity == "info":
        return Tell(Event(kind, "info", subject, detail))
    return Tell(Event(kind, "error" if severity == "error" else "warning", subject, detail))
