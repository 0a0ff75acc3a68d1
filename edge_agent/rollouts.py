"""The nouns of the second journey, a model's: what is signed, and what the device keeps of it. Values only; the rules
are core/rollout.py's, docs/ota.md describes the wire. Times named ``wall_ns`` are nanoseconds since 1970 UTC.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from msgspec import Struct, field

FACTORY = ""  # where a slot's hash is expected: the read-only model of the configuration


class UpdateState(str, Enum):
    """Where the one update under way is. The last three are how it ended."""

    IDLE = "idle"
    CHECKING = "checking"
    FETCHING = "fetching"
    STAGED = "staged"
    VERIFYING = "verifying"
    SHADOW = "shadow"
    TRIAL = "trial"
    COMMITTED = "committed"
    REJECTED = "rejected"  # it never ran
    ROLLED_BACK = "rolled_back"  # it ran and failed


class Reason(str, Enum):
    """Why a check, a model or a trial came to nothing: a stable word beside a sentence for people."""

    # the check itself; nothing is known of a model, and the next check tries again
    NO_ROOT = "no_root"  # no root metadata on the device
    CLOCK = "clock"  # before any time that this device has known: TLS and expiry mean nothing
    UNREACHABLE = "unreachable"
    SLOW = "slow"  # fewer bytes than the least rate
    METADATA_EXPIRED = "metadata_expired"
    METADATA_REFUSED = "metadata_refused"  # a signature, a version that went back, a mix of two repositories
    ROLLOUT_REFUSED = "rollout_refused"  # signed, and not a rollout document
    DISK_FULL = "disk_full"
    DISK_FAILED = "disk_failed"  # read-only, or broken
    # the model, before it ran
    HASH = "hash"
    TOO_LARGE = "too_large"
    SEQUENCE = "sequence"  # not above the floor: an old release signed long ago
    PROFILE = "profile"  # for another board
    AGENT = "agent"  # wants a newer edge-agent
    NOT_A_MODEL = "not_a_model"
    INCOMPATIBLE = "incompatible"  # its card does not fit the pipelines, or what is installed here can't run it
    LOAD = "load"  # no back-end of this device runs it
    GOLDEN = "golden"
    LATENCY = "latency"
    MEMORY = "memory"
    TIMEOUT = "timeout"
    CRASHED = "crashed"  # the child that tried it died
    WITHDRAWN = "withdrawn"  # paused or stopped before it ran
    # the model, while it ran (LATENCY and MEMORY too)
    STARTS = "starts"  # the process died again and again with it
    WATCHDOG = "watchdog"
    INVOKE = "invoke"
    OUTPUT = "output"  # not finite, or not what the card says
    FRAMES_LOST = "frames_lost"
    AGREEMENT = "agreement"
    OPERATOR = "operator"


class Release(Struct, frozen=True, kw_only=True):
    """A model as the release key signed it: its target and the ``custom`` fields beside hash and length."""

    name: str
    version: str
    target: str  # models/<name>/<version>.tflite or .onnx
    length: int
    sha256: str
    seq: int  # of the name: a device never goes back below the highest that it committed or gave up
    profiles: tuple[str, ...] = ()  # of boards; empty: all
    agent: str = ""  # the least version of edge-agent
    p95_ms: float | None = None  # budgets; None: the card's
    memory_mb: float | None = None


class Audience(Struct, frozen=True, kw_only=True):
    """Who is meant: any of these."""

    everyone: bool = False
    devices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Rollout(Struct, frozen=True, kw_only=True):
    """One entry of ``rollouts/<channel>.json``, signed by the operator key."""

    id: str  # unique in the channel, for ever
    number: int  # grows; of two that both mean this device and model, the higher one counts
    model: str  # the release's name, and the NAME of [model.NAME] on the device
    target: str
    sha256: str
    to: Audience
    percent: float = 100.0  # of the audience; a device named in ``to.devices`` is always in
    salt: str = ""
    state: Literal["active", "paused", "stopped"] = "active"
    not_before: str | None = None  # RFC 3339 UTC
    window: str | None = None  # "02:00-05:00", UTC: the trial begins inside it, and inside the device's own window
    shadow_s: float = 0.0
    trial_s: float = 3600.0
    share: float = 1.0  # of the samples during the trial; below 1: canary and A/B
    agreement: float | None = None  # with the live model in shadow, 0 to 1: less rejects
    max_failures: int = 1  # of the fleet, for the operator's watch; the device does not use it


class Channel(Struct, frozen=True, kw_only=True):
    """The signed document."""

    schema: Literal["edge-agent/rollouts/1"]
    channel: str
    rollouts: tuple[Rollout, ...] = ()


class Candidate(Struct, frozen=True):
    """What this device is to run next."""

    release: Release
    rollout: Rollout


class Slot(Struct, frozen=True, kw_only=True):
    """A model that the device has: in ``slots/<sha256>/model.tflite``, or the factory model (sha256 FACTORY)."""

    sha256: str = FACTORY
    version: str = "factory"
    seq: int = 0
    rollout: str = ""


class Held(Struct, frozen=True, kw_only=True):
    """What is kept for each model name. ``previous`` None: the factory model; beside a current factory model: what gave
    way to it when the process did not get well."""

    current: Slot = Slot()
    previous: Slot | None = None
    floor: int = 0
    pinned: bool = False  # by the operator at the device: rollouts are not looked at


class Trial(Struct, frozen=True, kw_only=True):
    """A model that runs and is not trusted yet. ``starts``: of the process with it; ``ran_s``: of its time, as last
    written down (a device that restarts often would else never end it)."""

    candidate: Candidate
    starts: int = 0
    ran_s: float = 0.0


class Bad(Struct, frozen=True):
    """Not to be tried again by this rollout."""

    sha256: str
    rollout: str
    reason: Reason


class Outcome(Struct, frozen=True, kw_only=True):
    """How the last update ended, for ``update/status`` and ``edge-agent models``."""

    state: UpdateState
    model: str
    version: str
    sha256: str
    rollout: str
    reason: Reason | None = None
    detail: str = ""
    evidence: dict[str, float | int | str] = field(default_factory=dict)
    wall_ns: int = 0


class DeviceState(Struct, frozen=True, kw_only=True):
    """All of state.json. ``pending``: fetched or being fetched, not running; ``time_floor_ns``: the latest wall clock
    that was known to be right; ``unhealthy``: starts of the process since one that became healthy."""

    models: dict[str, Held] = field(default_factory=dict)
    pending: Candidate | None = None
    trial: Trial | None = None
    bad: tuple[Bad, ...] = ()
    last: Outcome | None = None
    time_floor_ns: int = 0
    unhealthy: int = 0
