"""Bytes that the outbox writes a day, in simulated time: the real policy and store with real commits, an hour within
seconds. Time is an argument of the one and a clock of the other, so neither sees a difference."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, Final

from benchmarks.costs import MB, device_written_bytes, written_bytes
from benchmarks.messages import BOOT_ID, PIPELINE, TOPICS, bodies, record
from edge_agent import limits
from edge_agent.core.outbox import Bounds, Outbox
from edge_agent.core.spool import WallClock
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.stages.publisher import TICK_S

DAY_S: Final = 86_400
CHECKPOINTS_S: Final = 7200  # nothing but one checkpoint in ten minutes: two hours show twelve
COMMITS_MOST: Final = 18_000  # in one simulation
_EPOCH_NS: Final = 1_760_000_000 * 10**9
_MEMORY: Final = 16 * 2**20

MODES: Final = {"healthy": "connected, batch", "offline": "offline, batch", "every": "connected, every"}
FULL: Final = "full"
"""Offline with the bound of the disk reached: for each new prediction an old one goes."""


class _Clock:
    """``ports.Clock`` that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self, mono_ns: int) -> int:
        return _EPOCH_NS + mono_ns

    def synced(self) -> bool:
        return True


class _Life:
    """A publisher's life without its threads: what it puts in, takes out and tells the store, and when."""

    def __init__(self, path: Path, rate: float, mode: str, disk: int) -> None:
        self._clock = _Clock()
        self._store = SqliteOutbox(path, self._clock)
        bounds = Bounds(_MEMORY, disk, 7 * DAY_S * 10**9, 0, every=mode == "every")
        self._outbox = Outbox(bounds, BOOT_ID, durable=True)
        self._connected = mode in ("healthy", "every")
        self._outbox.connected(self._connected)
        self._outbox.opened(self._store.open(BOOT_ID))
        self._period_ns = round(1e9 / rate)
        self._next_ns = 0
        self._tokens = count()
        self._bodies = bodies(10**6)
        self.commits = 0

    def live(self, seconds: float) -> None:
        end_ns = self._clock.now_ns + round(seconds * 1e9)
        topic = TOPICS.prediction(PIPELINE)
        tick_ns = round(TICK_S * 1e9)
        while self._clock.now_ns < end_ns:
            tick_at_ns = (self._clock.now_ns // tick_ns + 1) * tick_ns
            self._clock.now_ns = now_ns = min(self._next_ns, tick_at_ns)
            if now_ns == self._next_ns:
                self._next_ns += self._period_ns
                self._outbox.put(record(topic, next(self._bodies), now_ns), now_ns)
            self._turn(now_ns)

    def close(self) -> None:
        self._store.close()

    def _turn(self, now_ns: int) -> None:
        """Until there is nothing to do at this moment; the broker answers at once."""
        while True:
            while self._connected and (entry := self._outbox.take(now_ns)) is not None:
                token = next(self._tokens)
                self._outbox.sent(token, entry)
                self._outbox.acknowledged(token, now_ns)
            while (wanted := self._outbox.wanted_page()) is not None:
                lane, after, bytes_most = wanted
                loaded = self._store.load(lane, after, limits.PAGE_RECORDS, bytes_most)
                self._outbox.page(lane, loaded, now_ns)
            batch = self._outbox.batch(WallClock(_EPOCH_NS, True), now_ns)
            if batch is None:
                return
            self._outbox.committed(self._store.commit(batch), now_ns)
            self.commits += 1


def disk_writes(path: str, rate: float, mode: str, device: bool) -> dict[str, Any]:
    """Megabytes a day. ``device``: count what the whole block device writes."""
    seconds = CHECKPOINTS_S if mode == "healthy" else min(3600.0, COMMITS_MOST / rate)
    size = record("", next(bodies(1)), 0).size + len(TOPICS.prediction(PIPELINE))
    full = mode == FULL
    life = _Life(Path(path), rate, mode, round(seconds / 4 * rate) * size if full else 2**40)
    life.live(seconds / 2 if full else 60)  # what the beginning of a file costs is left out
    before, commits = _written(path, device), life.commits
    life.live(seconds)
    day = DAY_S / seconds / MB * (_written(path, device) - before)
    commits = life.commits - commits
    life.close()
    return {
        "mb_a_day": day,
        "commits_a_day": commits * DAY_S / seconds,
        "bytes_each": day * MB / DAY_S / rate,
        "seconds": seconds,
    }


def _written(path: str, device: bool) -> int:
    return device_written_bytes(Path(path).parent) if device else written_bytes()
