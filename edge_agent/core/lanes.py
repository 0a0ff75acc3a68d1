"""The waiting line of one lane: what is made now, what was made before this connection, and what lies on the disk.

In memory a record waits in one of three places: ``live`` (made since the connection), ``loaded`` (a page of the disk's
backlog) or ``recent`` (made before the connection and not on the disk yet, so newer than all that lies there).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from edge_agent.outgoing import Loaded, Record

BEFORE_ALL = -(2**62)  # below every number


class Entry(Struct, eq=False):
    """One record and where it is. ``stored``: the disk has it; ``writing``: a batch with it is on its way there."""

    number: int  # as outgoing.Kept
    record: Record
    put_ns: int
    stored: bool = False
    writing: bool = False
    buffered: bool = False  # belongs to the backlog
    sent: bool = False  # handed to the broker at least once
    gone: bool = False  # acknowledged, discarded or replaced


class LaneQueue:
    """``cursor``: all stored records with a number above it, and not in memory, are still to be loaded."""

    def __init__(self) -> None:
        self.live: deque[Entry] = deque()
        self.loaded: deque[Entry] = deque()
        self.recent: deque[Entry] = deque()
        self.cursor = BEFORE_ALL
        self.end = True  # nothing on the disk lies behind the cursor
        self.loading = False
        self.readable = True  # False: the disk failed, so nobody can wait for what lies there
        self._rewound: int | None = None  # the lowest number spilled while a page was on its way

    def __len__(self) -> int:
        return len(self.live) + len(self.loaded) + len(self.recent)

    def __iter__(self) -> Iterator[Entry]:
        yield from self.recent
        yield from self.live
        yield from self.loaded

    def put(self, entry: Entry, *, live: bool) -> None:
        entry.buffered = not live
        (self.live if live else self.recent).append(entry)

    def given_back(self, entry: Entry, *, live: bool) -> None:
        """It goes out again before what waits with it."""
        entry.buffered |= not live
        (self.loaded if entry.buffered else self.live).appendleft(entry)

    def disconnected(self) -> None:
        """What was live belongs to the backlog now."""
        for entry in self.live:
            entry.buffered = True
        self.recent.extend(self.live)
        self.live.clear()

    def backlog(self) -> deque[Entry] | None:
        """Where the oldest record of the backlog waits; None: there is none, or it has to be loaded first."""
        if self.loaded:
            return self.loaded
        whole = self.end and not self.loading  # what the disk has is older
        return self.recent if self.recent and (whole or not self.readable) else None

    def put_in_order(self) -> None:
        """After some were given back: what lies on the disk is newer than ``loaded`` and older than ``recent``."""
        waiting = sorted([*self.loaded, *self.recent], key=lambda entry: entry.number)
        self.loaded = deque(entry for entry in waiting if entry.number <= self.cursor)
        self.recent = deque(entry for entry in waiting if entry.number > self.cursor)

    def spilled(self, entry: Entry) -> None:
        """The entry left the memory; the disk has it."""
        if self.loading:
            self._rewound = min(entry.number, entry.number if self._rewound is None else self._rewound)
        self.cursor = min(self.cursor, entry.number - 1)
        self.end = False

    def arrived(self, page: Loaded) -> None:
        """A page came: go on behind it, or where something was spilled meanwhile."""
        self.loading = False
        self.cursor = max(self.cursor, page.last)
        self.end = page.end
        if self._rewound is not None:
            self.cursor = min(self.cursor, self._rewound - 1)
            self.end = False
        self._rewound = None

    def unreadable(self) -> None:
        """The disk failed: what it has comes later, out of its order, and what is in memory need not wait for it."""
        self.loading, self.readable = False, False

    def start_over(self) -> None:
        """Another file, or the same one opened again: read from its beginning."""
        self.readable = True
        self.cursor, self.end, self.loading, self._rewound = BEFORE_ALL, False, False, None
