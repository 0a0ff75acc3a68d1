"""Rows of the outbox's file from records and back. A row has a checksum over all that it says; none is believed
without it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

from msgspec import Struct

from edge_agent.outgoing import Kept, Kind, Lane, Record, Schema, Stamp

TABLES: Final = {Lane.PREDICTIONS: "prediction", Lane.EVENTS: "event"}
COLUMNS: Final = "rank, run, route, mono_ns, since_ns, wall_ns, clock_synced, crc, body"

_INT64_LEAST, _INT64_MOST = -(2**63), 2**63 - 1
_HEAD: Final = struct.Struct("<qqqq?")

Row = tuple[int, int, int, int, int, int, bool, int, bytes]
"""COLUMNS in their order."""


class Route(Struct, frozen=True):
    """What is the same for many records: where they go and how."""

    kind: Kind
    topic: str
    schema: Schema | None
    retain: bool
    qos: int
    expiry_s: int | None
    pipeline: str | None

    @property
    def replaces(self) -> bool:
        """Whether only the last value of the topic is worth keeping."""
        return self.retain and self.kind is Kind.ROLLOUT

    def account(self) -> tuple[str, int]:
        """What the ledger counts its records under ("": stored and not counted), and the bytes that each is charged
        with beside its body."""
        record = Record(self.kind, self.topic, self.schema, b"", 0, pipeline=self.pipeline)
        return record.stream or "", record.size

    def columns(self) -> tuple[object, ...]:
        schema = None if self.schema is None else self.schema.value
        return (int(self.kind), self.topic, schema, self.retain, self.qos, self.expiry_s, self.pipeline)

    def fits(self, record: Record) -> bool:
        """Whether the record goes this way. Asked for each record: identity is enough, and quicker, for the enums."""
        return (
            self.kind is record.kind
            and self.schema is record.schema
            and self.topic == record.topic
            and self.retain == record.retain
            and self.qos == record.qos
            and self.expiry_s == record.expiry_s
            and self.pipeline == record.pipeline
        )

    @classmethod
    def of(cls, record: Record) -> Route:
        return cls(
            Kind(record.kind),
            record.topic,
            record.schema,
            record.retain,
            record.qos,
            record.expiry_s,
            record.pipeline,
        )

    @classmethod
    def from_columns(cls, columns: Sequence[Any]) -> Route:
        """Raises ValueError, TypeError where a column holds what no route has."""
        kind, topic, schema, retain, qos, expiry_s, pipeline = columns
        if not isinstance(topic, str) or not isinstance(qos, int) or not isinstance(expiry_s, int | None):
            raise TypeError(f"a route to {topic!r} with QoS {qos!r} and expiry {expiry_s!r}")
        if not isinstance(pipeline, str | None):
            raise TypeError(f"a route of pipeline {pipeline!r}")
        return cls(Kind(kind), topic, None if schema is None else Schema(schema), bool(retain), qos, expiry_s, pipeline)


def seed(boot_id: str, route: Route) -> int:
    """The checksum of what a row only points to."""
    return crc32(repr((boot_id, *route.columns())).encode())


def encode(rank: int, kept: Kept, run: int, route: int, seed: int) -> Row:
    """The row of a record. Times beyond 64 bits become the farthest that fits."""
    record, stamp = kept.record, kept.stamp
    times = (record.mono_ns, record.since_ns, stamp.wall_ns)
    if min(times) < _INT64_LEAST or max(times) > _INT64_MOST:
        times = tuple(max(_INT64_LEAST, min(_INT64_MOST, time)) for time in times)  # type: ignore[assignment]
    head = _HEAD.pack(rank, *times, stamp.clock_synced)
    return (rank, run, route, *times, stamp.clock_synced, crc32(record.body, crc32(head, seed)), record.body)


def decode(row: Row, number: int, boot_id: str, route: Route, seed: int, own: bool) -> Kept | None:
    """The record of a row; None where the checksum says that it is not what was written. ``own``: of this run."""
    rank, _run, _route, mono_ns, since_ns, wall_ns, synced, crc, body = row
    try:
        head = _HEAD.pack(rank, mono_ns, since_ns, wall_ns, synced)
        if crc32(body, crc32(head, seed)) != crc:
            return None
    except (struct.error, TypeError):  # a column of another type than was written
        return None
    stamp = Stamp(boot_id, wall_ns, bool(synced))
    record = Record(
        kind=route.kind,
        topic=route.topic,
        schema=route.schema,
        body=body,
        mono_ns=mono_ns,
        retain=route.retain,
        qos=route.qos,
        expiry_s=route.expiry_s,
        pipeline=route.pipeline,
        arrival_ns=None if since_ns == mono_ns else since_ns,
        earlier=None if own else stamp,
    )
    return Kept(number, record, stamp)
