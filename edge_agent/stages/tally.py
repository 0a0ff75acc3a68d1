"""What becomes of the frames of one model, so that a model on trial can be judged by it."""

from __future__ import annotations

import threading
from typing import Final

from msgspec import Struct

from edge_agent.core.latency import Quantiles
from edge_agent.core.trial_watch import TrialCounts
from edge_agent.records import DiscardReason
from edge_agent.stages.counters import PipelineCounters

# A model can be to blame for these; the other reasons are settings, cameras and sensors, or come after the prediction.
_LOST: Final = (DiscardReason.SUPERSEDED, DiscardReason.INTERNAL_ERROR)
_NOT_TAKEN: Final = (
    DiscardReason.RATE,
    DiscardReason.PAUSED,
    DiscardReason.THROTTLED,
    DiscardReason.UNREADABLE,
    DiscardReason.MISSING_FEATURE,
    DiscardReason.MISSING_IMAGE,
    DiscardReason.SHUTDOWN,
)


class Taken(Struct, frozen=True):
    """Frames of a pipeline that a model was to see, and those among them that none saw to the end."""

    frames: int = 0
    lost: int = 0

    @property
    def lost_share(self) -> float:
        """0 to 1."""
        return self.lost / self.frames if self.frames > 0 else 0.0


class Tally:
    """Of one model in one pipeline, since the last ``take``. Safe for threads: the capture, invoke and publisher
    threads all count here."""

    def __init__(self) -> None:
        self.faulty = False  # once it failed, for good
        self._lock = threading.Lock()
        self._offered = self._invoke_errors = self._bad_outputs = 0
        self._error = ""
        self._latency = Quantiles()

    def offered(self) -> None:
        """A frame is to go to this model."""
        with self._lock:
            self._offered += 1

    def ran(self, invoke_ns: int) -> None:
        with self._lock:
            self._latency.add(invoke_ns)

    def failed(self, error: Exception) -> None:
        """Its preprocessing or its run."""
        self.faulty = True
        with self._lock:
            self._invoke_errors += 1
            self._error = self._error or f"{type(error).__name__}: {error}"

    def unreadable(self, error: Exception) -> None:
        """Its outputs are not finite, or not what the card says."""
        self.faulty = True
        with self._lock:
            self._bad_outputs += 1
            self._error = self._error or str(error)

    def take(self, before: Taken, now: Taken) -> TrialCounts:
        """What was counted since the last call; ``before`` and ``now`` are the pipeline's own counts then and now."""
        with self._lock:
            counts = TrialCounts(
                offered=self._offered,
                invoked=self._latency.count,
                latency=self._latency,
                frames=now.frames - before.frames,
                lost=now.lost - before.lost,
                invoke_errors=self._invoke_errors,
                bad_outputs=self._bad_outputs,
                error=self._error,
            )
            self._offered = self._invoke_errors = self._bad_outputs = 0
            self._error = ""
            self._latency = Quantiles()
            return counts


def taken(counters: PipelineCounters) -> Taken:
    """Since the start of the process. A frame that is being counted at this moment may be missing."""
    frames, discards = counters.get("frames"), counters.discards()
    return Taken(
        frames=frames - sum(discards.get(reason.value, 0) for reason in _NOT_TAKEN),
        lost=sum(discards.get(reason.value, 0) for reason in _LOST),
    )
