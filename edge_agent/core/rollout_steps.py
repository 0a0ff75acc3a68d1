"""What happens to an update and what is to be done about it: the two alphabets of core/rollout.py."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from edge_agent.records import Event
from edge_agent.rollouts import Candidate, DeviceState, Outcome, Reason, Slot

Evidence = dict[str, float | int | str]
"""What was measured, for people: name with unit -> value."""

# --- what happens ----------------------------------------------------------------------------------------------------


class Wake(Struct, frozen=True):
    """A bell, the poll, an operator: look whether there is something new. ``source`` other than None: a folder to look
    in, instead of the configured repository."""

    why: str
    source: str | None = None


class Checked(Struct, frozen=True):
    """The metadata is good. ``candidate`` None: nothing for this device now (``detail`` says why: none, a window, a
    pause, the floor); ``retry_ns``: when that may change by itself (wall clock). ``paused``: rollout ids that are
    paused, ``live``: those that are active; a trial or a pending model of a rollout in neither was stopped.
    ``refusals``: of the rollouts that mean this device, by id, those that will not run here: refused, or given up."""

    candidate: Candidate | None
    detail: str = ""
    retry_ns: int | None = None
    live: frozenset[str] = frozenset()
    paused: frozenset[str] = frozenset()
    refused: Outcome | None = None  # the newest meant for this device that may not run (the floor, profile)
    refusals: dict[str, Reason] = field(default_factory=dict)


class Progress(Struct, frozen=True):
    """Of the transfer, in bytes that are on the disk."""

    done: int
    of: int


class Done(Struct, frozen=True):
    """The action under way went well: Fetch, Verify, Swap. ``evidence`` is measured."""

    evidence: Evidence = field(default_factory=dict)


class Failed(Struct, frozen=True):
    """The action under way, or the writing of the state, failed. ``final``: the model is at fault, not the world: the
    pair of hash and rollout is not tried again."""

    reason: Reason
    detail: str
    final: bool = False
    evidence: Evidence = field(default_factory=dict)


class Shadowed(Struct, frozen=True):
    """A report of the shadow: agreement 0 to 1 over ``samples``, latencies in ms, memory in MB."""

    samples: int
    agreement: float
    p95_ms: float
    memory_mb: float


class ShadowFailed(Struct, frozen=True):
    """The shadow has ended by itself. It is no errand, and may come beside one."""

    failed: Failed


class Sick(Struct, frozen=True):
    """The model on trial does harm."""

    reason: Reason
    detail: str
    evidence: Evidence = field(default_factory=dict)


class Hold(Struct, frozen=True):
    """Unsigned: begin nothing new until then (None: go on)."""

    until_wall_ns: int | None


class Ask(Struct, frozen=True):
    """The operator at the device."""

    what: Literal["pin", "unpin", "rollback"]
    model: str


class Tick(Struct, frozen=True):
    """Time passed; comes at least at each ``next_deadline``."""


Happening = Wake | Checked | Progress | Done | Failed | Shadowed | ShadowFailed | Sick | Hold | Ask | Tick


# --- what is to be done ----------------------------------------------------------------------------------------------


class Save(Struct, frozen=True):
    """Write the state down before anything that follows; where that fails, nothing that follows is done and Failed
    with DISK_FULL or DISK_FAILED comes back."""

    state: DeviceState


class Check(Struct, frozen=True):
    """Answered by Checked or Failed."""

    source: str | None = None


class Fetch(Struct, frozen=True):
    """Into a slot, resumed where a part lies. Answered by Progress, Done or Failed."""

    candidate: Candidate


class Verify(Struct, frozen=True):
    """In a child. Answered by Done or Failed."""

    candidate: Candidate


class Shadow(Struct, frozen=True):
    """Begin; answered by Shadowed from time to time, or ShadowFailed."""

    candidate: Candidate


class Unshadow(Struct, frozen=True):
    """End it."""


class Swap(Struct, frozen=True):
    """Load the candidate beside the live model and route ``share`` of the samples to it. Answered by Done or Failed."""

    candidate: Candidate
    share: float


class SwapBack(Struct, frozen=True):
    """Route all samples of the pipelines of ``model`` to this slot again. Answered by Done or Failed."""

    model: str
    to: Slot


class Settle(Struct, frozen=True):
    """The trial is over and good: all samples to it; the model before it may be unloaded."""

    model: str


class Collect(Struct, frozen=True):
    """Delete every slot and part but these, by hash."""

    keep: frozenset[str]


class Cancel(Struct, frozen=True):
    """Stop the action under way; it is not answered any more."""


class Report(Struct, frozen=True):
    """``update/status`` has changed."""


class Tell(Struct, frozen=True):
    event: Event


Action = Save | Check | Fetch | Verify | Shadow | Unshadow | Swap | SwapBack | Settle | Collect | Cancel | Report | Tell
