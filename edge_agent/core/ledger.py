"""What became of everything that was published, counted by run and stream, so that it adds up at every moment:
produced = acknowledged + stored + waiting in memory + discarded under a named reason.

The store's copy gets increments, one batch after the other, so that a batch that fails loses no count.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.outgoing import Count, CountKey, Record
from edge_agent.records import DiscardReason


class Ledger:
    """Not safe for threads: one owner, the outbox."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        self._own: dict[str, Count] = {}
        self._published: dict[str, int] = {}
        self._increments: dict[CountKey, Count] = {}
        self._losses: list[tuple[str, str, int]] = []

    def produced(self, record: Record) -> None:
        for count in self._counts(record):
            count.produced += 1

    def published(self, record: Record) -> None:
        """Handed to the broker for the first time in this run."""
        if record.earlier is None and record.stream is not None:
            _add(self._published, record.stream, 1)

    def acknowledged(self, record: Record) -> None:
        for count in self._counts(record):
            count.acknowledged += 1

    def stored(self, record: Record, by: int) -> None:
        """On the disk and not acknowledged: of this run's totals only, the store counts its own rows."""
        if record.earlier is None and record.stream is not None:
            self._of(record.stream).stored += by

    def discarded(self, record: Record, reason: DiscardReason) -> None:
        if record.stream is not None:
            self.lost(self._key(record.stream, record), reason.value, 1)

    def lost(self, key: CountKey, reason: str, by: int) -> None:
        """Discard records that are known by their run and stream only."""
        _add(self._increments.setdefault(key, Count()).discarded, reason, by)
        self._own_lost(key, reason, by)

    def trimmed(self, trimmed: Mapping[CountKey, Mapping[str, int]]) -> None:
        """What the store itself gave up, and has counted in its copy."""
        for key, reasons in trimmed.items():
            for reason, by in reasons.items():
                self._own_lost(key, reason, by)
                if key[0] == self._boot_id:
                    self._of(key[1]).stored -= by

    def damaged(self, key: CountKey) -> None:
        """A row of the store that can't be read."""
        self.lost(key, DiscardReason.DAMAGED.value, 1)
        if key[0] == self._boot_id:
            self._of(key[1]).stored -= 1

    def begin_anew(self) -> None:
        """The store is gone with what only it had: that is lost. The next batch carries all of this run so far."""
        for stream, count in self._own.items():
            if count.stored:
                self._own_lost((self._boot_id, stream), DiscardReason.DAMAGED.value, count.stored)
                count.stored = 0
        self._increments = {
            (self._boot_id, stream): Count(count.produced, count.acknowledged, 0, dict(count.discarded))
            for stream, count in self._own.items()
        }

    def known_of(self, record: Record) -> None:
        """A record of an earlier run begins anew in a store that does not know that run."""
        if record.stream is not None and record.earlier is not None:
            self._increments.setdefault(self._key(record.stream, record), Count()).produced += 1

    def take(self) -> dict[CountKey, Count]:
        """The increments since the last time, for one batch."""
        increments, self._increments = self._increments, {}
        return increments

    def put_back(self, counts: Mapping[CountKey, Count]) -> None:
        """The batch failed: nothing of it was counted."""
        for key, count in counts.items():
            mine = self._increments.setdefault(key, Count())
            mine.produced += count.produced
            mine.acknowledged += count.acknowledged
            for reason, by in count.discarded.items():
                _add(mine.discarded, reason, by)

    def take_losses(self) -> list[tuple[str, str, int]]:
        """This run's discards since the last time: stream, reason, count."""
        losses, self._losses = self._losses, []
        return losses

    def report(self) -> dict[str, dict[str, object]]:
        """This run, by stream, as ``stats`` shows it."""
        return {
            stream: {
                "produced": count.produced,
                "published": self._published.get(stream, 0),
                "acknowledged": count.acknowledged,
                "stored": count.stored,
                "memory": count.produced - count.acknowledged - count.stored - count.lost(),
                "discarded": dict(count.discarded),
            }
            for stream, count in self._own.items()
        }

    def _own_lost(self, key: CountKey, reason: str, by: int) -> None:
        boot_id, stream = key
        if boot_id == self._boot_id:
            _add(self._of(stream).discarded, reason, by)
            self._losses.append((stream, reason, by))

    def _counts(self, record: Record) -> tuple[Count, ...]:
        stream = record.stream
        if stream is None:
            return ()
        increment = self._increments.setdefault(self._key(stream, record), Count())
        return (increment,) if record.earlier else (increment, self._of(stream))

    def _key(self, stream: str, record: Record) -> CountKey:
        return (record.earlier.boot_id if record.earlier else self._boot_id, stream)

    def _of(self, stream: str) -> Count:
        return self._own.setdefault(stream, Count())


def _add(counts: dict[str, int], reason: str, by: int) -> None:
    counts[reason] = counts.get(reason, 0) + by
