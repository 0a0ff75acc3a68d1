"""When the memory of this process is worth a word: before the kernel acts, and while it grows. No clock, no files."""

from __future__ import annotations

from statistics import median

from edge_agent import limits
from edge_agent.records import Event

SUBJECT = "memory"


class MemoryWatch:
    """Events over looks at this process and its board. All sizes in MiB."""

    def __init__(self) -> None:
        self._high = False
        self._started_ns: int | None = None
        self._early: list[float] = []  # what the baseline is the median of
        self._grown_mb: float | None = None  # growth is reported from there on; None: no baseline yet

    def look(
        self,
        now_ns: int,
        rss_mb: float | None,
        limit_mb: float | None,
        available_mb: float | None,
        board_mb: float | None,
    ) -> Event | None:
        """What this look brings: ``memory_high``, ``memory_normal``, ``memory_growing`` or nothing.

        ``rss_mb``: resident memory of this process. ``limit_mb``: of its control group; the board's whole memory
        counts where that is less or there is none. ``available_mb``: what the board could still give to anybody.
        """
        bound_mb = min((size for size in (limit_mb, board_mb) if size), default=None)
        used = rss_mb / bound_mb if rss_mb and bound_mb else 0.0
        left = available_mb / board_mb if available_mb is not None and board_mb else 1.0
        state = f"{_mb(rss_mb)} MiB of {_mb(bound_mb)} used, {_mb(available_mb)} MiB of the board's memory available"
        grown_from_mb = None if rss_mb is None else self._growth(now_ns, rss_mb)
        if not self._high and (used > limits.MEMORY_HIGH or left < limits.MEMORY_AVAILABLE_LOW):
            self._high = True
            return Event("memory_high", "warning", SUBJECT, f"{state}: the kernel may soon end this process")
        if self._high and used < limits.MEMORY_NORMAL and left > limits.MEMORY_AVAILABLE_NORMAL:
            self._high = False
            return Event("memory_normal", "info", SUBJECT, state)
        if rss_mb is not None and grown_from_mb is not None:
            self._grown_mb = limits.MEMORY_GROWTH * rss_mb
            return Event("memory_growing", "warning", SUBJECT, f"grown from {grown_from_mb:.0f} MiB: {state}")
        return None

    def _growth(self, now_ns: int, rss_mb: float) -> float | None:
        """The baseline, where growth is to be reported."""
        self._started_ns = now_ns if self._started_ns is None else self._started_ns
        since_s = (now_ns - self._started_ns) / 1e9
        first_s, last_s = limits.MEMORY_BASELINE_S
        if first_s <= since_s <= last_s:
            self._early.append(rss_mb)
        if since_s <= last_s:
            return None
        self._early = self._early or [rss_mb]  # no look came in those seconds: the first one after them
        baseline_mb = median(self._early)
        if self._grown_mb is None:
            least_mb = baseline_mb + limits.MEMORY_GROWTH_LEAST_MB
            self._grown_mb = max(limits.MEMORY_GROWTH * baseline_mb, least_mb)
        return baseline_mb if rss_mb > self._grown_mb else None


def _mb(size: float | None) -> str:
    return "an unknown number of" if size is None else f"{size:.0f}"
