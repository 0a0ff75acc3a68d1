"""The window over one file: messages that get lost, doubled, reordered, late and forged; the clock is the test's."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import NotThereError, TransportError
from edge_agent.io.fetch.chunks import (
    CHUNK_BYTES_MOST,
    Chunk,
    Get,
    Head,
    decode_chunk,
    decode_get,
    encode_chunk,
    encode_get,
)
from edge_agent.io.fetch.window import CHUNK_BYTES_FIRST, CHUNK_BYTES_LEAST, TIMEOUT_FIRST_S, WINDOW, Window
from tests.simulators.served_folder import CONTENT

SIZE = len(CONTENT)


def answer(get: Get, content: bytes = CONTENT) -> Chunk:
    return Chunk(Head(get.id, get.path, get.offset, len(content)), content[get.offset : get.offset + get.length])


def whole(window: Window, now_s: float = 0.0) -> bytes:
    """By a server that answers all at once."""
    got = b""
    while not window.done:
        for get in list(window.questions(now_s)):
            window.answer(answer(get), now_s + 0.01)
        now_s += 0.02
        got += b"".join(window.take())
    return got


@pytest.mark.parametrize("size", [None, SIZE])
def test_a_file_comes_whole(size: int | None) -> None:
    assert whole(Window("x", 0, size=size, most=SIZE)) == CONTENT


@pytest.mark.parametrize("begin", [1, CHUNK_BYTES_MOST, SIZE - 1, SIZE])
def test_the_rest_of_a_file_comes_from_where_it_was(begin: int) -> None:
    assert whole(Window("x", begin, size=SIZE, most=SIZE)) == CONTENT[begin:]


def test_an_empty_file_is_one_answer() -> None:
    window = Window("x", 0, size=None, most=10)
    (get,) = window.questions(0)
    window.answer(answer(get, b""), 1)
    assert window.done


def test_four_questions_are_open_and_no_more() -> None:
    window = Window("x", 0, size=SIZE, most=SIZE)
    assert len(list(window.questions(0))) == WINDOW
    assert list(window.questions(1)) == []


def test_large_pieces_only_where_the_way_is_quick() -> None:
    window = Window("x", 0, size=10**7, most=10**7)
    first = list(window.questions(0))
    assert {get.length for get in first} == {CHUNK_BYTES_FIRST}
    window.answer(answer(first[0], bytes(10**7)), 0.1)
    assert [get.length for get in window.questions(0.1)] == [CHUNK_BYTES_MOST]


def test_a_question_without_an_answer_is_asked_again_under_its_number() -> None:
    window = Window("x", 0, size=10, most=10)
    (get,) = window.questions(0)
    assert window.wait_s(0) == TIMEOUT_FIRST_S
    assert list(window.questions(TIMEOUT_FIRST_S - 0.01)) == []
    assert list(window.questions(TIMEOUT_FIRST_S)) == [get]
    assert window.wait_s(TIMEOUT_FIRST_S) == 2 * TIMEOUT_FIRST_S


def test_a_late_answer_counts() -> None:
    window = Window("x", 0, size=10, most=10)
    (get,) = window.questions(0)
    list(window.questions(TIMEOUT_FIRST_S))
    assert window.answer(answer(get, bytes(10)), TIMEOUT_FIRST_S + 0.1) == 10
    assert list(window.take()) == [bytes(10)]
    assert window.done


def test_a_way_that_drops_large_messages_is_asked_for_smaller_ones() -> None:
    """Also a way that is slow: a large piece would not be through before it is asked for again."""
    window = Window("x", 0, size=SIZE, most=SIZE)
    now_s, got, asked = 0.0, b"", 0
    while not window.done:
        for get in list(window.questions(now_s)):
            asked += 1
            if get.length <= CHUNK_BYTES_LEAST:
                window.answer(answer(get), now_s)
        got += b"".join(window.take())
        now_s += max(0.01, window.wait_s(now_s))
        assert asked < 1000
    assert got == CONTENT


def test_what_was_overtaken_was_lost_and_is_asked_again_at_once() -> None:
    window = Window("x", 0, size=10**6, most=10**6)
    lost, answered, *_ = window.questions(0)
    window.answer(answer(answered, bytes(10**6)), 0.1)
    assert next(iter(window.questions(0.1))) == lost


def test_a_new_connection_is_asked_for_all_that_is_open() -> None:
    window = Window("x", 0, size=SIZE, most=SIZE)
    before = list(window.questions(0))
    window.disconnected()
    assert [get.offset for get in window.questions(0.1)] == [get.offset for get in before]


@pytest.mark.parametrize(
    "forged",
    [
        Head(12345, "x", 0, SIZE),
        Head(0, "x", 0, SIZE),
        Head(-1, "y", 0, SIZE),
        Head(-1, "x", 1, SIZE),
        Head(-1, "x", 0, 5),
    ],
)
def test_an_answer_to_another_question_is_none(forged: Head) -> None:
    window = Window("x", 0, size=SIZE, most=SIZE)
    (get, *_) = window.questions(0)
    head = Head(get.id if forged.id == -1 else forged.id, forged.path, forged.offset, forged.size)
    assert window.answer(Chunk(head, bytes(get.length)), 0) == 0
    assert list(window.take()) == []


@pytest.mark.parametrize("length", [0, CHUNK_BYTES_FIRST + 1])
def test_an_answer_of_a_wrong_length_is_none(length: int) -> None:
    window = Window("x", 0, size=SIZE, most=SIZE)
    (get, *_) = window.questions(0)
    assert window.answer(Chunk(Head(get.id, "x", 0, SIZE), bytes(length)), 0) == 0


def test_a_server_that_gives_less_is_asked_for_the_rest() -> None:
    window = Window("x", 0, size=SIZE, most=SIZE)
    got, now_s = b"", 0.0
    while not window.done:
        for get in list(window.questions(now_s)):
            window.answer(
                Chunk(Head(get.id, "x", get.offset, SIZE), CONTENT[get.offset :][: min(get.length, 700)]), now_s
            )
        got += b"".join(window.take())
        now_s += 0.01
    assert got == CONTENT


def test_what_the_server_says_of_a_file() -> None:
    window = Window("x", 0, size=None, most=100)
    (get,) = window.questions(0)
    with pytest.raises(NotThereError):
        window.answer(Chunk(Head(get.id, status=404), b""), 0)
    with pytest.raises(TransportError, match="status 400"):
        window.answer(Chunk(Head(get.id, status=400), b""), 0)
    with pytest.raises(TransportError, match="has 101 bytes; at most 100"):
        window.answer(answer(get, bytes(101)), 0)
    window = Window("x", 0, size=50, most=50)
    (get,) = window.questions(0)
    with pytest.raises(TransportError, match="has 60 bytes at the server; 50 were expected"):
        window.answer(answer(get, bytes(60)), 0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(0, SIZE),
    known=st.booleans(),
    loss=st.floats(0, 0.5),
    double=st.floats(0, 0.5),
    reorder=st.floats(0, 0.5),
    delay_s=st.floats(0.001, 8),
)
def test_every_file_comes_whole_over_any_way(
    seed: int, size: int, known: bool, loss: float, double: float, reorder: float, delay_s: float
) -> None:
    chance, content = random.Random(seed), CONTENT[:size]
    window = Window("x", 0, size=size if known else None, most=size)
    way: deque[tuple[float, Get]] = deque()
    now_s, got, asked, held_most = 0.0, b"", 0, 0
    while not window.done:
        for get in window.questions(now_s):
            asked += 1
            way.extend([(now_s + delay_s, get)] * (chance.random() >= loss) * (1 + (chance.random() < double)))
        if len(way) > 1 and chance.random() < reorder:
            way[0], way[1] = way[1], way[0]
        while way and way[0][0] <= now_s:
            window.answer(answer(way.popleft()[1], content), now_s)
        held_most = max(held_most, sum(map(len, window._arrived.values())))
        got += b"".join(window.take())
        now_s += min(delay_s / 3, max(0.001, window.wait_s(now_s)))
        assert asked < 5000
    assert got == content
    assert held_most <= 3 * WINDOW * CHUNK_BYTES_MOST


@given(st.binary(max_size=200))
def test_no_payload_harms(payload: bytes) -> None:
    for decode in (decode_get, decode_chunk):
        try:
            decode(payload)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 4000,
        b'{"a":' * 700 + b"\n",
        b"[" * 10**6,
        b'{"id":1,"path":"x","offset":-1,"length":5}\n',
        b'{"id":1.5,"path":"x","offset":0,"length":5}\n',
        b'{"id":1,"path":"x","offset":99999999999999999999,"length":5}\n',
        b'{"id":1,"path":"' + b"x" * 2000 + b'","offset":0,"length":5}\n',
    ],
)
def test_what_is_no_question_and_no_answer(payload: bytes) -> None:
    with pytest.raises(ValueError):
        decode_get(payload)
    if b"length" not in payload or b"-1" in payload:
        with pytest.raises(ValueError):
            decode_chunk(payload)


def test_what_goes_over_the_wire() -> None:
    get = Get(7, "metadata/x", 5, 9)
    assert encode_get(get) == b'{"id":7,"path":"metadata/x","offset":5,"length":9}'
    assert decode_get(encode_get(get)) == get
    payload = encode_chunk(Head(7, "metadata/x", 5, 100), b"\nbytes\n")
    assert payload == b'{"id":7,"path":"metadata/x","offset":5,"size":100,"status":200}\n\nbytes\n'
    assert decode_chunk(payload) == Chunk(Head(7, "metadata/x", 5, 100), b"\nbytes\n")
