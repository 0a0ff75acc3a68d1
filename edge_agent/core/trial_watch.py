"""Whether the model on trial does harm: a rule over counts, so that a camera or a broker that is away is no alarm."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from edge_agent.core.latency import Quantiles
from edge_agent.core.rollout_steps import Evidence, Sick
from edge_agent.rollouts import Reason

LATENCIES_LEAST: Final = 100  # before a 95th percentile means anything: five of them are above it
FRAMES_LEAST: Final = 100  # before a share of lost frames does
LOST_MORE: Final = 0.05  # of the frames, more than before the trial
WINDOW_NS: Final = 60 * 10**9  # over which latencies and lost frames are counted
SILENT_NS: Final = 30 * 10**9  # frames are offered and not one is answered
MEMORY_LOOKS: Final = 3  # in a row over the budget: building an interpreter peaks


class Budget(Struct, frozen=True, kw_only=True):
    """What is allowed. ``p95_ms`` of an invoke, ``memory_mb`` more than before the swap (None: no bound); ``lost``:
    share of frames (0 to 1) that the live model lost before the trial."""

    p95_ms: float | None = None
    memory_mb: float | None = None
    lost: float = 0.0


class TrialCounts(Struct, frozen=True, kw_only=True):
    """What happened since the look before, over all pipelines of the model.

    ``offered``: frames that were to go to the candidate; ``lost``: frames, of ``frames``, that found no free slot;
    ``latency``: of the candidate's invokes; ``memory_mb``: of this process now, less what it had before the swap.
    ``steady`` False: in this time something other than the model may have cost frames and time (the broker or the
    camera was away or came back, heat slowed the board): only errors count.
    """

    offered: int
    invoked: int
    latency: Quantiles
    frames: int = 0
    lost: int = 0
    invoke_errors: int = 0
    bad_outputs: int = 0  # not finite, or not what the card says
    error: str = ""  # the first of them, as a sentence
    memory_mb: float | None = None
    steady: bool = True


class Tried(Struct, frozen=True):
    """A trial's report while all is well: hand it to ``Machine.handle``. A trial without a sample is not committed."""

    samples: int
    evidence: Evidence


class TrialWatch:
    """One for each trial and process."""

    def __init__(self, budget: Budget, now_ns: int) -> None:
        """``now_ns``: monotonic, when the swap was done."""
        self._budget = budget
        self._samples = 0
        self._latency = Quantiles()  # of this window; the last whole one is what is told
        self._frames = self._lost = 0
        self._window_ns = self._answered_ns = now_ns
        self._memory_over = 0
        self._evidence: Evidence = {}

    def look(self, now_ns: int, counts: TrialCounts) -> Sick | Tried:
        """Call every second or so."""
        self._samples += counts.invoked
        if counts.invoked or not counts.offered or not counts.steady:
            self._answered_ns = now_ns
        if counts.steady:
            self._latency.merge(counts.latency)
            self._frames += counts.frames
            self._lost += counts.lost
        self._measure(counts)
        found = self._errors(counts) or self._silent(now_ns) or self._memory(counts) or self._window()
        if now_ns - self._window_ns >= WINDOW_NS:
            self._window_ns, self._latency, self._frames, self._lost = now_ns, Quantiles(), 0, 0
        return found or Tried(self._samples, dict(self._evidence))

    def _measure(self, counts: TrialCounts) -> None:
        self._evidence["samples"] = self._samples
        if self._latency.count:
            self._evidence["p95_ms"] = round(self._latency.quantile(0.95) / 1e6, 3)
        if self._frames:
            self._evidence["lost"] = round(self._lost / self._frames, 4)
        if counts.memory_mb is not None:
            self._evidence["memory_mb"] = round(counts.memory_mb, 1)

    def _sick(self, reason: Reason, detail: str) -> Sick:
        return Sick(reason, detail, dict(self._evidence))

    def _errors(self, counts: TrialCounts) -> Sick | None:
        if counts.invoke_errors:
            self._evidence["invoke_errors"] = counts.invoke_errors
            return self._sick(Reason.INVOKE, counts.error or "its run fails")
        if counts.bad_outputs:
            self._evidence["bad_outputs"] = counts.bad_outputs
            return self._sick(Reason.OUTPUT, counts.error or "its output is not finite")
        return None

    def _silent(self, now_ns: int) -> Sick | None:
        silent_ns = now_ns - self._answered_ns
        if silent_ns < SILENT_NS:
            return None
        return self._sick(Reason.WATCHDOG, f"frames come, and none was answered for {silent_ns / 1e9:.0f} s")

    def _memory(self, counts: TrialCounts) -> Sick | None:
        most_mb = self._budget.memory_mb
        over = most_mb is not None and counts.memory_mb is not None and counts.memory_mb > most_mb
        self._memory_over = self._memory_over + 1 if over else 0
        if self._memory_over < MEMORY_LOOKS:
            return None
        return self._sick(Reason.MEMORY, f"{counts.memory_mb:.0f} MB more than before it, {most_mb:.0f} MB are allowed")

    def _window(self) -> Sick | None:
        most_ms = self._budget.p95_ms
        if most_ms is not None and self._latency.count >= LATENCIES_LEAST:
            p95_ms = self._latency.quantile(0.95) / 1e6
            if p95_ms > most_ms * _QUANTILE_ERROR:
                return self._sick(
                    Reason.LATENCY, f"95 % of its runs take up to {p95_ms:.1f} ms, {most_ms:g} ms are allowed"
                )
        if self._frames >= FRAMES_LEAST:
            lost = self._lost / self._frames
            if lost > self._budget.lost + LOST_MORE:
                return self._sick(
                    Reason.FRAMES_LOST, f"{lost:.0%} of frames are lost, {self._budget.lost:.0%} before it"
                )
        return None


_QUANTILE_ERROR: Final = 1.05  # of core/latency.py: no alarm for the error of a bucket
