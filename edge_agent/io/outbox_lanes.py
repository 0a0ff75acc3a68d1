"""The waiting records in the outbox's file, in two lanes. Every change of a lane goes with its change of the ledger.

All of it happens inside a transaction of the caller. After an error the object is thrown away with its connection:
what it remembers of runs and routes may have been rolled back.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from edge_agent.io.outbox_ledger import Changes
from edge_agent.io.outbox_rows import COLUMNS, TABLES, Route, Row, decode, encode, seed
from edge_agent.io.outbox_schema import DamageError
from edge_agent.outgoing import CountKey, Kept, Lane, Loaded, Record, Trim
from edge_agent.records import DiscardReason

_AT_ONCE: Final = 500  # ranks in one statement; SQLite before 3.32 takes 999 parameters
_PAGE: Final = 500  # rows that a trim looks at in one go; SQLite before 3.32 takes 999 parameters


class Lanes:
    """``base`` is the rank of the record with the number 0."""

    def __init__(self, connection: sqlite3.Connection, boot_id: str, base: int) -> None:
        self._connection = connection
        self._boot_id = boot_id
        self._base = base
        self._highest = highest_rank(connection)
        self._boots: dict[int, str] = dict(connection.execute("SELECT id, boot_id FROM run"))
        self._runs = {boot: run for run, boot in self._boots.items()}
        self._routes: dict[int, Route] = {}
        self._accounts: dict[int, tuple[str, int]] = {}
        self._by_topic: dict[str, list[tuple[int, Route]]] = {}
        self._seeds: dict[tuple[int, int], int] = {}
        for route_id, *columns in connection.execute("SELECT * FROM route"):
            # a route that makes no sense is no damage to the file: its rows are
            with contextlib.suppress(ValueError, TypeError):
                self._know(route_id, Route.from_columns(columns))

    def run(self, boot_id: str) -> int:
        """The id of a run. One that the file does not know yet is older than all that it knows: it is a run whose
        file was put aside."""
        if boot_id not in self._runs:
            run = min(self._boots) - 1
            self._connection.execute("INSERT INTO run VALUES(?, ?, 0, 0, 0, 0, 0, 1)", (run, boot_id))
            self._runs[boot_id], self._boots[run] = run, boot_id
        return self._runs[boot_id]

    def insert(self, kept: Sequence[Kept], changes: Changes) -> None:
        """Rows that are there already are replaced, and counted once."""
        if not kept:
            return
        rows: dict[Lane, dict[int, Row]] = {lane: {} for lane in Lane}
        for item in kept:
            run, route = self.run(item.stamp.boot_id), self._route(item.record)
            rank = self._base + item.number
            row = encode(rank, item, run, route, self._seed(run, route))
            rows[Lane.of(self._routes[route].kind)][rank] = row
        ranks = [rank for lane in rows.values() for rank in lane]
        if self._highest is not None and min(ranks) <= self._highest:
            self._remove(ranks, changes)
        self._highest = max(ranks) if self._highest is None else max(self._highest, *ranks)
        for lane, by_rank in rows.items():
            marks = ", ".join("?" * 9)
            sql = f"INSERT INTO {TABLES[lane]}({COLUMNS}) VALUES({marks})"
            self._connection.executemany(sql, sorted(by_rank.values()))
            sizes: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
            for _rank, run, route, *_times, body in by_rank.values():
                sizes[run, route].append(len(body))
            for (run, route), each in sizes.items():
                self._count(changes, run, route, len(each), sum(each))
        self._keep_last_values({row[2] for row in rows[Lane.EVENTS].values()}, changes)

    def remove(self, numbers: Iterable[int], changes: Changes) -> None:
        """Numbers that are not there are no error."""
        self._remove([self._base + number for number in numbers], changes)

    def trim(self, trim: Trim, total: int, changes: Changes) -> dict[CountKey, dict[str, int]]:
        """Give predictions up, from the oldest, until one may stay. ``total``: bytes in the file before ``changes``.
        Returns how many by run, stream and reason."""
        trimmed: dict[CountKey, dict[str, int]] = {}
        position = self._base + trim.after
        total += changes.bytes
        expiring = trim.before_wall_ns is not None or trim.before_mono_ns is not None
        own, before = self.run(self._boot_id), (trim.before_wall_ns, trim.before_mono_ns)
        while True:
            last, spared = position, []
            page = self._connection.execute(
                "SELECT rank, run, route, coalesce(length(body), 0), (clock_synced AND coalesce(wall_ns < ?, 0)) "
                "OR (run = ? AND coalesce(since_ns < ?, 0)) FROM prediction WHERE rank > ? ORDER BY rank LIMIT ?",
                (before[0], own, before[1], position, _PAGE),
            )
            with contextlib.closing(page):
                for rank, run, route, size, expired in page:
                    _check_order(last, rank)
                    if rank - self._base in trim.spare:
                        last = rank
                        spared.append(rank)
                        continue
                    expiring = expiring and bool(expired)
                    if not expiring and total <= trim.bytes_most:
                        break
                    last = rank
                    reason = DiscardReason.EXPIRED if expiring else DiscardReason.OUTBOX_FULL
                    total -= self._give_up(run, route, size, reason.value, changes, trimmed)
            if last == position:
                return trimmed
            but = f"AND rank NOT IN ({', '.join('?' * len(spared))})"
            self._connection.execute(
                f"DELETE FROM prediction WHERE rank > ? AND rank <= ? {but}", (position, last, *spared)
            )
            position = last

    def load(self, lane: Lane, after: int, count_most: int, bytes_most: int) -> Loaded:
        """The next records above ``after``, read no further than needed."""
        records: list[Kept] = []
        damaged: dict[int, CountKey] = {}
        last, size, most = after, 0, max(1, count_most)
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM {TABLES[lane]} WHERE rank > ? ORDER BY rank LIMIT ?", (self._base + after, most + 1)
        )
        with contextlib.closing(rows):
            for looked_at, row in enumerate(rows):
                _check_order(last + self._base, row[0])
                number, boot_id, route = row[0] - self._base, self._boots.get(row[1], ""), self._routes.get(row[2])
                kept = None
                if boot_id and route is not None:
                    own = boot_id == self._boot_id
                    kept = decode(row, number, boot_id, route, self._seed(row[1], row[2]), own)
                size += kept.record.size if kept else 0
                if looked_at and (looked_at >= most or size > bytes_most):
                    return Loaded(records, last, False, damaged)
                if kept:
                    records.append(kept)
                else:
                    damaged[number] = (boot_id, self._accounts[row[2]][0] if route is not None else "")
                last = number
        return Loaded(records, last, True, damaged)

    def _remove(self, ranks: Sequence[int], changes: Changes) -> None:
        """By what is really there."""
        ranks = sorted(set(ranks))
        for first in range(0, len(ranks), _AT_ONCE):
            some = ranks[first : first + _AT_ONCE]
            where = f"rank IN ({', '.join('?' * len(some))})"
            for table in TABLES.values():
                found = self._connection.execute(
                    f"SELECT run, route, count(*), sum(length(body)) FROM {table} WHERE {where} GROUP BY run, route",
                    some,
                ).fetchall()
                if found:
                    self._connection.execute(f"DELETE FROM {table} WHERE {where}", some)
                for run, route, count, size in found:
                    self._count(changes, run, route, -count, -(size or 0))

    def _give_up(
        self, run: int, route: int, size: int, reason: str, changes: Changes, trimmed: dict[CountKey, dict[str, int]]
    ) -> int:
        """Book one row; returns the bytes that it was charged with."""
        if not self._count(changes, run, route, -1, -size):
            return 0
        stream, overhead = self._accounts[route]
        changes[run, stream].discard(reason, 1)
        reasons = trimmed.setdefault((self._boots[run], stream), {})
        reasons[reason] = reasons.get(reason, 0) + 1
        return size + overhead

    def _keep_last_values(self, routes: Iterable[int], changes: Changes) -> None:
        for topic in {self._routes[route].topic for route in routes if self._routes[route].replaces}:
            same = [route_id for route_id, route in self._by_topic[topic] if route.replaces]
            where = f"route IN ({', '.join('?' * len(same))})"
            ranks = self._connection.execute(f"SELECT rank FROM event WHERE {where} ORDER BY rank", same).fetchall()
            self._remove([rank for (rank,) in ranks[:-1]], changes)

    def _count(self, changes: Changes, run: int, route: int, records: int, body_bytes: int) -> bool:
        """False: a damaged row points to no run or route, so nobody knows whose it was (write_off counts it)."""
        if run not in self._boots or route not in self._accounts:
            return False
        stream, overhead = self._accounts[route]
        change = changes[run, stream]
        change.stored += records
        change.bytes += body_bytes + records * overhead
        return True

    def _route(self, record: Record) -> int:
        for route_id, route in self._by_topic.get(record.topic, ()):
            if route.fits(record):
                return route_id
        route = Route.of(record)
        cursor = self._connection.execute(
            "INSERT INTO route(kind, topic, schema, retain, qos, expiry_s, pipeline) VALUES(?, ?, ?, ?, ?, ?, ?)",
            route.columns(),
        )
        assert cursor.lastrowid is not None
        self._know(cursor.lastrowid, route)
        return cursor.lastrowid

    def _know(self, route_id: int, route: Route) -> None:
        self._routes[route_id] = route
        self._accounts[route_id] = route.account()
        self._by_topic.setdefault(route.topic, []).append((route_id, route))

    def _seed(self, run: int, route: int) -> int:
        found = self._seeds.get((run, route))
        if found is None:
            found = self._seeds[run, route] = seed(self._boots[run], self._routes[route])
        return found


def _check_order(before: int, rank: int) -> None:
    """A damaged tree can lead back to a page that was read already: nobody may go round in it for ever."""
    if rank <= before:
        raise DamageError(f"is damaged (record {rank} comes after {before})")


def highest_rank(connection: sqlite3.Connection) -> int | None:
    """None: no record waits."""
    highest = [connection.execute(f"SELECT max(rank) FROM {table}").fetchone()[0] for table in TABLES.values()]
    return max((rank for rank in highest if rank is not None), default=None)
