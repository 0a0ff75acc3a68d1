"""Records for the outbox's store, a clock that stands still, and what must always be true of its file."""

from __future__ import annotations

from pathlib import Path

from edge_agent.io.outbox_ledger import LedgerFile, read_ledger
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.outgoing import Batch, Count, CountKey, Kept, Kind, Lane, Record, Schema, Stamp

STARTED_NS = 1_790_000_000 * 10**9
ALL = -(2**62)  # below every number
KEY = ("run-1", "prediction/inspect")


class StillClock:
    """``ports.Clock``; a test moves ``now_ns``."""

    def __init__(self, now_ns: int = STARTED_NS) -> None:
        self.now_ns = now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns - STARTED_NS

    def wall_ns(self, mono_ns: int) -> int:
        return mono_ns + STARTED_NS

    def synced(self) -> bool:
        return True


def prediction(number: int, boot_id: str = "run-1", *, body: bytes | None = None, synced: bool = True) -> Kept:
    """Number N was made N seconds after STARTED_NS."""
    record = Record(
        kind=Kind.PREDICTION,
        topic="edge-agent/line1/prediction/inspect",
        schema=Schema.PREDICTION,
        body=b'{"seq":%d}' % number if body is None else body,
        mono_ns=number * 10**9,
        expiry_s=600,
        pipeline="inspect",
        arrival_ns=number * 10**9 + 7,
    )
    return Kept(number, record, Stamp(boot_id, STARTED_NS + number * 10**9, synced))


def alarm(number: int, boot_id: str = "run-1") -> Kept:
    record = Record(Kind.ALARM, "edge-agent/line1/event", Schema.EVENT, b'{"kind":"camera_lost"}', number * 10**9)
    return Kept(number, record, Stamp(boot_id, STARTED_NS + number * 10**9, True))


def rollout(number: int, body: bytes, boot_id: str = "run-1") -> Kept:
    record = Record(Kind.ROLLOUT, "edge-agent/line1/update/status", None, body, number * 10**9, retain=True)
    return Kept(number, record, Stamp(boot_id, STARTED_NS + number * 10**9, True))


def put(*kept: Kept) -> Batch:
    """A batch that inserts them and counts them as produced."""
    return Batch(insert=kept, counts=produced(*kept))


def acknowledge(*kept: Kept) -> Batch:
    counts = {key: Count(acknowledged=count.produced) for key, count in produced(*kept).items()}
    return Batch(delete=[item.number for item in kept], counts=counts)


def produced(*kept: Kept) -> dict[CountKey, Count]:
    counts: dict[CountKey, Count] = {}
    for item in kept:
        if item.record.stream:
            counts.setdefault((item.stamp.boot_id, item.record.stream), Count()).produced += 1
    return counts


def unaccounted(ledger: LedgerFile) -> dict[CountKey, int]:
    """By how many records a row of the ledger does not add up: must be empty."""
    return {
        (run.boot_id, stream): off
        for run in ledger.runs
        for stream, count in run.counts.items()
        if (off := count.produced - count.acknowledged - count.stored - count.lost())
    }


def counts_of(path: Path, boot_id: str = "run-1", stream: str = "prediction/inspect") -> Count:
    rows = {run.boot_id: run.counts for run in read_ledger(path).runs}
    return rows[boot_id].get(stream, Count())


def reopen(path: Path, boot_id: str) -> SqliteOutbox:
    outbox = SqliteOutbox(path, StillClock())
    assert outbox.open(boot_id).set_aside is None
    return outbox


def everything(store: SqliteOutbox, lane: Lane = Lane.PREDICTIONS) -> list[Kept]:
    loaded = store.load(lane, ALL, 10_000, 2**30)
    assert loaded.end
    assert not loaded.damaged
    return list(loaded.records)


def numbers(store: SqliteOutbox, lane: Lane = Lane.PREDICTIONS) -> list[int]:
    return [kept.number for kept in everything(store, lane)]
