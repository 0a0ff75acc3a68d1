"""The counts of one pipeline. frames = predictions + discards of frames; predictions = acknowledged + waiting +
discards of predictions: whatever the daemon drops is found here under a named reason."""

from __future__ import annotations

import threading
from collections import Counter

from edge_agent.core.latency import Quantiles
from edge_agent.core.wire import milliseconds
from edge_agent.records import DiscardReason, Latency

STAGES = ("capture", "align", "preprocess", "invoke", "decode", "total", "puback")


class PipelineCounters:
    """Safe for threads: the capture, invoke and publisher threads all count here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._discards: Counter[str] = Counter()
        self._latency = {stage: Quantiles() for stage in STAGES}

    def count(self, what: str, by: int = 1) -> None:
        with self._lock:
            self._counts[what] += by

    def discard(self, reason: DiscardReason, by: int = 1) -> None:
        with self._lock:
            self._discards[reason.value] += by

    def predicted(self, latency: Latency) -> None:
        with self._lock:
            self._counts["predictions"] += 1
            for stage in STAGES[:-1]:
                self._latency[stage].add(getattr(latency, stage))

    def acknowledged(self, since_frame_ns: int | None) -> None:
        """``since_frame_ns``: from the frame's arrival to the broker's PUBACK."""
        with self._lock:
            self._counts["acknowledged"] += 1
            if since_frame_ns is not None:
                self._latency["puback"].add(since_frame_ns)

    def get(self, what: str) -> int:
        with self._lock:
            return self._counts[what]

    def discards(self) -> dict[str, int]:
        """Discarded frames and predictions by reason."""
        with self._lock:
            return dict(self._discards)

    def report(self) -> dict[str, object]:
        """The pipeline's part of ``stats``; latencies are those since the last report."""
        with self._lock:
            latency = {stage: _quantiles(quantiles.take()) for stage, quantiles in self._latency.items()}
            return {
                **{what: self._counts[what] for what in ("frames", "predictions", "published", "acknowledged")},
                "discards": dict(self._discards),
                "latency_ms": latency,
            }


def _quantiles(window: Quantiles) -> dict[str, float | None]:
    names = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: milliseconds(window.quantile(q)) if window.count else None for name, q in names.items()}
