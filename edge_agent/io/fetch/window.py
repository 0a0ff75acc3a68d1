"""Which pieces of one file to ask for over MQTT, and when again. No I/O: messages in, questions out, time an argument.

QoS 0 loses messages, brokers drop what comes too fast, and anybody may answer: an answer counts only when its number,
path and offset are those of a question that is open. What the bytes are worth, the signed hash says later.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from edge_agent.errors import NotThereError, TooLargeError, TransportError
from edge_agent.io.fetch.chunks import CHUNK_BYTES_MOST, GOOD, NOT_THERE, Chunk, Get

WINDOW: Final = 4  # open questions; 4 MiB at 80 ms and 10 Mbit/s: 4.0 s, with one 9.2 s
CHUNK_BYTES_FIRST: Final = 2**14  # until the way is known to be quick
CHUNK_BYTES_LEAST: Final = 2**12
QUICK_S: Final = 2.0  # an answer within that: the largest chunks
TIMEOUT_FIRST_S, TIMEOUT_LEAST_S, TIMEOUT_MOST_S = 2.0, 1.0, 30.0
_SMOOTHING, _VARIATION = 1 / 8, 1 / 4  # of round trips, as TCP does (RFC 6298, section 2)


class _Open(Struct):
    """A question that is not answered yet. ``order``: among all that were asked."""

    get: Get
    asked_s: float
    order: int
    again: bool = False
    lost: bool = False


class Window:
    """Of one file, used once. ``size``: of the whole file, where it is known; ``most`` bytes are taken."""

    def __init__(
        self, path: str, begin: int, *, size: int | None, most: int, chunk_most: int = CHUNK_BYTES_MOST
    ) -> None:
        self.size = size
        self._path = path
        self._most = most
        self._next = begin  # first byte that was not given out by ``take``
        self._limit = WINDOW
        self._chunk_most = chunk_most
        self._number = secrets.randbits(48)  # nobody who can't read our questions can answer them
        self._order = 0
        self._todo: list[tuple[int, int]] = []  # a heap of (offset, end), not asked for yet
        self._open: dict[int, _Open] = {}
        self._arrived: dict[int, bytes] = {}  # by offset, beyond _next
        self._round_trip_s: float | None = None
        self._variation_s = 0.0
        self._timeout_s = TIMEOUT_FIRST_S
        self._silent = 0  # time-outs since the last answer
        if size is None:
            self._todo = [(begin, begin + self._chunk())]
        elif begin < size:
            self._todo = [(begin, size)]

    @property
    def done(self) -> bool:
        """All was given out by ``take``."""
        return self.size is not None and self._next >= self.size

    @property
    def taken(self) -> int:
        """Up to which byte."""
        return self._next

    def questions(self, now_s: float) -> Iterator[Get]:
        """To be published now, one after another."""
        for question in list(self._open.values()):
            late = now_s - question.asked_s >= self._timeout_s
            if late:
                self._slower()
            if late or question.lost:
                del self._open[question.get.id]
                yield from self._ask(question.get, now_s, again=True)
        while self._todo and len(self._open) < self._limit and self._todo[0][0] < self._reach():
            offset, end = heapq.heappop(self._todo)
            self._number += 1
            yield from self._ask(Get(self._number, self._path, offset, end - offset), now_s, again=False)

    def wait_s(self, now_s: float) -> float:
        """Until there may be another question, if nothing arrives."""
        return max(0.0, min((one.asked_s + self._timeout_s - now_s for one in self._open.values()), default=0.0))

    def answer(self, chunk: Chunk, now_s: float) -> int:
        """Returns how many bytes of use came: none where it answers no open question.

        Raises NotThereError; TransportError when the file is not as long as it should be."""
        head, data = chunk.head, chunk.data
        question = self._open.get(head.id)
        if question is None:
            return 0
        get = question.get
        if head.status == NOT_THERE:
            raise NotThereError(f"{self._path} is not there, says the server at the other end of MQTT")
        if head.status != GOOD:
            raise TransportError(f"{self._path}: the server at the other end of MQTT answers with status {head.status}")
        if (head.path, head.offset) != (get.path, get.offset) or not self._fits(get, head.size, len(data)):
            return 0
        self._sized(head.size)
        del self._open[get.id]
        self._timed(question, now_s)
        for other in self._open.values():  # brokers and servers keep the order: what is overtaken was lost
            other.lost |= other.order < question.order
        if data:
            self._arrived[get.offset] = data
        if (reached := get.offset + len(data)) < min(get.offset + get.length, head.size):
            heapq.heappush(self._todo, (reached, min(get.offset + get.length, head.size)))
        return len(data)

    def take(self) -> Iterator[bytes]:
        """What has arrived, in order."""
        while (data := self._arrived.pop(self._next, None)) is not None:
            self._next += len(data)
            yield data

    def disconnected(self) -> None:
        """All questions are asked anew."""
        for question in self._open.values():
            heapq.heappush(self._todo, (question.get.offset, question.get.offset + question.get.length))
        self._open.clear()

    def _fits(self, get: Get, size: int, length: int) -> bool:
        return length <= get.length and get.offset + length <= size and (length > 0 or get.offset >= size)

    def _sized(self, size: int) -> None:
        if self.size not in (None, size):
            raise TransportError(f"{self._path} has {size} bytes at the server; {self.size} were expected")
        if size > self._most:
            raise TooLargeError(f"{self._path} has {size} bytes; at most {self._most} are taken")
        if self.size is None:
            self.size = size
            asked = max(one.get.offset + one.get.length for one in self._open.values())
            if asked < size:
                heapq.heappush(self._todo, (asked, size))

    def _timed(self, question: _Open, now_s: float) -> None:
        self._silent = 0
        self._limit = min(WINDOW, self._limit + 1)
        took_s = now_s - question.asked_s
        if question.again:  # which of the two times when it was asked is not known
            if self._round_trip_s is None:
                return
        elif self._round_trip_s is None:
            self._round_trip_s, self._variation_s = took_s, took_s / 2
        else:
            self._variation_s += _VARIATION * (abs(took_s - self._round_trip_s) - self._variation_s)
            self._round_trip_s += _SMOOTHING * (took_s - self._round_trip_s)
        timeout_s = self._round_trip_s + 4 * self._variation_s
        self._timeout_s = min(TIMEOUT_MOST_S, max(TIMEOUT_LEAST_S, timeout_s))

    def _slower(self) -> None:
        """A question got no answer in time: more time, and one question after another. When the next gets none either,
        smaller pieces: the way may be slow, or the broker drop large messages."""
        self._silent += 1
        self._limit = 1
        self._timeout_s = min(TIMEOUT_MOST_S, 2 * self._timeout_s)
        if self._silent > 1:
            self._chunk_most = max(CHUNK_BYTES_LEAST, self._chunk_most // 2)

    def _ask(self, get: Get, now_s: float, *, again: bool) -> Iterator[Get]:
        """Under the same number, so that a late answer counts, unless the piece is too large by now."""
        length = min(get.length, self._chunk())
        if length < get.length:
            heapq.heappush(self._todo, (get.offset + length, get.offset + get.length))
            if again:
                self._number += 1
            get = Get(self._number if again else get.id, get.path, get.offset, length)
        self._order += 1
        self._open[get.id] = _Open(get, now_s, self._order, again)
        yield get

    def _chunk(self) -> int:
        quick = self._round_trip_s is not None and self._round_trip_s < QUICK_S
        return min(self._chunk_most, CHUNK_BYTES_MOST if quick else CHUNK_BYTES_FIRST)

    def _reach(self) -> int:
        """What arrives out of order waits in memory: no more than that."""
        return self._next + 2 * WINDOW * CHUNK_BYTES_MOST
