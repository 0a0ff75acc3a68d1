"""The nouns of the way out: what is published, kept until the broker has it, and counted. Values only.

A *run* is one life of the process, named by its boot_id. A *stream* is what the ledger counts by: the predictions of
one pipeline, its drift reports, or the events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from enum import Enum, IntEnum

from msgspec import Struct, field

EVENTS = "event"  # the stream of all events


class Schema(str, Enum):
    PREDICTION = "edge-agent/prediction/1"
    STATE = "edge-agent/state/1"
    STATS = "edge-agent/stats/1"
    EVENT = "edge-agent/event/1"
    INFO = "edge-agent/info/1"
    SETTING = "edge-agent/setting/1"
    RESPONSE = "edge-agent/response/1"
    UPDATE = "edge-agent/update-status/1"
    DRIFT = "edge-agent/drift/1"


class Kind(IntEnum):
    """From the first to be discarded to the last."""

    PREDICTION = 0
    STATS = 1
    DRIFT = 2
    STATE = 3  # retained: info, settings, the last value
    RESPONSE = 4
    EVENT = 5
    ALARM = 6  # an event of severity warning or error
    ROLLOUT = 7

    @property
    def durable(self) -> bool:
        """Whether it is worth the disk: what is made anew at the next start, or nobody waits for then, is not."""
        return self not in (Kind.STATS, Kind.STATE, Kind.RESPONSE)

    @property
    def urgent(self) -> bool:
        """Whether it goes to the disk at once, whatever ``durability`` says."""
        return self >= Kind.ALARM


class Lane(IntEnum):
    """The two queues of the store: each is read in the order in which it was written."""

    PREDICTIONS = 0
    EVENTS = 1  # everything else

    @classmethod
    def of(cls, kind: Kind) -> Lane:
        return cls.PREDICTIONS if kind is Kind.PREDICTION else cls.EVENTS


class Stamp(Struct, frozen=True):
    """Who made a record and when, as known at its production: all that a later run has to seal it with."""

    boot_id: str
    wall_ns: int
    clock_synced: bool


class Record(Struct, frozen=True):
    """One message before its seal. ``schema`` None: the body is the whole payload (``availability``)."""

    kind: Kind
    topic: str
    schema: Schema | None
    body: bytes
    mono_ns: int  # when the thing happened; for a frame of a file that is media time, which may run ahead
    retain: bool = False
    qos: int = 1
    expiry_s: int | None = None
    pipeline: str | None = None
    arrival_ns: int | None = None  # of the frame, to measure the time to the acknowledgement
    earlier: Stamp | None = None  # of a record that an earlier run made: its monotonic times mean nothing now

    @property
    def since_ns(self) -> int:
        """When it was made in this process: what age is counted from."""
        return self.mono_ns if self.arrival_ns is None else self.arrival_ns

    @property
    def size(self) -> int:
        """Bytes that it is charged with: the body, the topic and the object around them."""
        return len(self.body) + len(self.topic) + 200

    @property
    def replaceable(self) -> bool:
        """Whether a newer one of its topic takes its place. A drift report is retained, and yet all are delivered:
        their counts add up."""
        return self.retain and self.kind is not Kind.DRIFT

    @property
    def stream(self) -> str | None:
        """What the ledger counts it under; None for what it does not count (state, responses)."""
        if self.kind is Kind.PREDICTION:
            return f"prediction/{self.pipeline}"
        if self.kind is Kind.DRIFT:
            return f"drift/{self.pipeline}"
        return EVENTS if self.kind in (Kind.EVENT, Kind.ALARM) else None


class Count(Struct):
    """What became of the records of one run and stream. At every checkpoint
    produced = acknowledged + stored + the sum of discarded."""

    produced: int = 0
    acknowledged: int = 0
    stored: int = 0
    discarded: dict[str, int] = field(default_factory=dict)  # by DiscardReason's value

    def lost(self) -> int:
        return sum(self.discarded.values())


CountKey = tuple[str, str]
"""(boot_id, stream)."""


class Kept(Struct, frozen=True):
    """A record and its place in the order of this process: from 0 for its own, below 0 for those of earlier runs.

    ``stamp``: boot_id, wall clock and synchronisation at its production.
    """

    number: int
    record: Record
    stamp: Stamp


class Refusal(Struct, frozen=True):
    """The broker's word on a message that it did not take. ``for_good`` False: later it may (a quota, for example)."""

    reason: str
    for_good: bool


class SetAside(Struct, frozen=True):
    """A record that the broker refused for good, kept for a person to look at; bounded."""

    record: Record
    stamp: Stamp
    reason: str


class Trim(Struct, frozen=True):
    """Which predictions the store gives up, oldest first: those of this run older than ``before_mono_ns``, those whose
    wall clock was synchronised and older than ``before_wall_ns`` (None: none), and as many as exceed ``bytes_most``.

    Never those with a number up to ``after`` or in ``spare``: they are in memory and may be on their way, so only the
    memory's owner can say what became of them."""

    after: int
    bytes_most: int
    before_wall_ns: int | None = None
    spare: Set[int] = frozenset()
    before_mono_ns: int | None = None


class Batch(Struct, frozen=True):
    """One commit, whole or not at all. ``counts``: increments of produced, acknowledged and discarded since the last
    batch (``stored`` is the store's own business, by what it inserts and deletes)."""

    insert: Sequence[Kept] = ()
    delete: Sequence[int] = ()  # numbers; one that is not there is no error
    counts: Mapping[CountKey, Count] = field(default_factory=dict)
    aside: Sequence[SetAside] = ()
    trim: Trim | None = None
    clean: bool = False  # the last batch of a clean stop


class Committed(Struct, frozen=True):
    """``records`` and ``bytes``: what the store holds now, all runs together. ``trimmed``: what the trim gave up, by
    run and stream: reason -> count."""

    records: int
    bytes: int
    trimmed: Mapping[CountKey, Mapping[str, int]] = field(default_factory=dict)


class Loaded(Struct, frozen=True):
    """A page of a lane in its order. ``last`` is the number of the last row that was looked at (``after`` of the
    request if there was none); ``end``: nothing lies behind it. ``damaged`` numbers failed their checksum: rows that
    nobody may send."""

    records: Sequence[Kept]
    last: int
    end: bool
    damaged: Mapping[int, CountKey] = field(default_factory=dict)


class RunRow(Struct, frozen=True):
    """The ledger's row of one run. ``counts`` by stream, as of its last checkpoint; acknowledgements and discards of
    its records by later runs are added to it."""

    boot_id: str
    started_wall_ns: int
    checkpoint_wall_ns: int
    clock_synced: bool  # at the start
    clean: bool
    counts: Mapping[str, Count]


class Opened(Struct, frozen=True):
    """``set_aside``: why an earlier file could not be used and where it lies now; ``unclean``: the row of the last
    run, where it had no clean stop; ``bytes_most``: what the file system has room for (None: not known)."""

    records: int
    bytes: int
    set_aside: str | None = None
    unclean: RunRow | None = None
    bytes_most: int | None = None
