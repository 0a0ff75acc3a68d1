"""What the performance of a model keeps over a restart, and the timeline that goes on over it."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any, Final

import msgspec
from msgspec import Struct

from edge_agent.monitoring import Moment

SCHEMA: Final = b"edge-agent/performance-state/1\n"
_DIGEST: Final = hashlib.sha256().digest_size


class State(Struct):
    """``model``: sha256 of whose it is; ``at_s`` and ``wall_ns``: when it was written, None without a synchronised
    clock; ``kept``, ``echoed`` and ``heads``: KeptResults', Performance's and HeadMeter's own."""

    model: str
    at_s: int
    wall_ns: int | None
    runs: dict[str, int]
    earlier: bool
    answers: dict[str, int]
    window: int
    since_wall_ns: int | None
    kept: list[bytes]
    echoed: bytes
    heads: list[Any]


def pack(state: State) -> bytes:
    body = zlib.compress(msgspec.msgpack.encode(state), 1)  # written each quarter of an hour, to a card
    return SCHEMA + hashlib.sha256(body).digest() + body


def unpack(content: bytes) -> State:
    """Raises ValueError for another version and for damage."""
    if not content.startswith(SCHEMA):
        raise ValueError("the performance's state is of another version")
    digest, body = content[len(SCHEMA) :][:_DIGEST], content[len(SCHEMA) + _DIGEST :]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("the performance's state is damaged: it does not have its checksum")
    return msgspec.msgpack.decode(zlib.decompress(body), type=State)


class Timeline:
    """Whole seconds that never go back: by CLOCK_MONOTONIC within a run, by the wall clock from one run to the next
    where it was synchronised in both (else the time between them is not counted)."""

    def __init__(self) -> None:
        self._base_s = 0
        self._left_wall_ns: int | None = None
        self._begun_ns = 0

    def begin(self, now: Moment) -> None:
        """Of a run."""
        if self._left_wall_ns is not None and now.synced:
            self._base_s += max(0, (now.wall_ns - self._left_wall_ns) // 10**9)
        self._left_wall_ns, self._begun_ns = None, now.mono_ns

    def resume(self, at_s: int, wall_ns: int | None) -> None:
        """Where an earlier run left off; ``begin`` follows."""
        self._base_s, self._left_wall_ns = at_s, wall_ns

    def at_s(self, now: Moment) -> int:
        return self._base_s + max(0, now.mono_ns - self._begun_ns) // 10**9
