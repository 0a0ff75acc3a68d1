"""The nouns of the collector: what devices said, typed. Values only.

A *run* is one life of a device's process, named by its boot_id; a *stream* is what has a ``seq`` of its own there: the
predictions or the drift reports of one pipeline (``prediction/<pipeline>``, ``drift/<pipeline>``), or the events
(``event``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated

from msgspec import Meta, Struct, field

EVENTS = "event"
PREDICTIONS = "prediction/"  # and the pipeline
DRIFT = "drift/"  # likewise

COUNT_MOST = 2**53  # beyond it a reader of JSON that knows only doubles miscounts
Count = Annotated[int, Meta(ge=0, le=COUNT_MOST)]


class Reason(str, Enum):
    """Why a message is not stored. Each has a counter."""

    UNKNOWN_TOPIC = "unknown_topic"  # none of those that a device publishes
    BAD_NAME = "bad_name"  # a device or a pipeline is named as no configuration allows
    EMPTY = "empty"  # a retained message was cleared
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"  # nested beyond any use
    NOT_JSON = "not_json"
    OTHER_SCHEMA = "other_schema"  # of another program, or of a newer version of this one
    WRONG_TYPE = "wrong_type"  # a key is missing, or holds what it must not
    OTHER_DEVICE = "other_device"  # the payload names another device than the topic
    OTHER_PIPELINE = "other_pipeline"
    SEQ = "seq"  # below 0 or over 2^53
    CONFLICT = "conflict"  # the same identity as a stored one, with other content


class Told(Struct, frozen=True):
    """The device's own word on one stream of a run. produced = acknowledged + stored + memory + all discarded."""

    produced: Count
    acknowledged: Count = 0
    stored: Count = 0  # on its disk
    memory: Count = 0  # in its memory, or on its way
    discarded: dict[str, Count] = field(default_factory=dict)  # by reason

    def not_delivered(self, *, ended: bool = False) -> int:
        """``ended``: a later run of the device was heard of, so this one has no memory any more: what was there is on
        the disk, and comes, or is lost."""
        return self.stored + (0 if ended else self.memory) + sum(self.discarded.values())


class Sequenced(Struct, frozen=True):
    """A prediction, a drift report or an event: (device, boot_id, stream, seq) is its identity."""

    device: str
    boot_id: str
    stream: str
    seq: int
    time: str  # RFC 3339, as the device wrote it
    clock_synced: bool
    payload: bytes
    buffered: bool | None = None  # predictions only
    warning: str | None = None  # of an event of severity warning or error: one line


class Stats(Struct, frozen=True):
    device: str
    boot_id: str
    time: str
    uptime_s: float
    ledger: Mapping[str, Told]  # by stream
    payload: bytes


class Rollout(Struct, frozen=True):
    device: str
    time: str
    payload: bytes


class Info(Struct, frozen=True):
    device: str
    boot_id: str
    payload: bytes


class Availability(Struct, frozen=True):
    device: str
    state: str  # online, offline


class Rejected(Struct, frozen=True):
    topic: str
    reason: Reason
    detail: str
    payload: bytes


Row = Sequenced | Stats | Rollout | Info | Availability
