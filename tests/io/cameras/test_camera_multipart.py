"""The cutting of an MJPEG stream, for every way in which the network may split it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.io.cameras import _multipart
from edge_agent.io.cameras._multipart import Multipart, boundary_of

BODIES = st.lists(st.binary(max_size=60).filter(lambda body: b"--" not in body and not body.endswith(b"-")), min_size=1)


def stream(bodies: list[bytes], *, with_length: bool, newline: bytes = b"\r\n") -> bytes:
    parts = []
    for body in bodies:
        length = b"Content-Length: %d%b" % (len(body), newline) if with_length else b""
        parts.append(b"--frame" + newline + b"Content-Type: image/jpeg" + newline + length + newline + body + newline)
    return b"preamble" + b"".join(parts) + b"--frame" + newline


@given(
    bodies=BODIES,
    with_length=st.booleans(),
    newline=st.sampled_from([b"\r\n", b"\n"]),
    sizes=st.lists(st.integers(1, 80), min_size=1, max_size=8),
)
def test_the_parts_are_the_same_however_the_stream_is_split(bodies, with_length, newline, sizes):
    left = stream(bodies, with_length=with_length, newline=newline)
    parser, parts, size = Multipart("frame"), [], itertools.cycle(sizes)
    while left:
        taken = next(size)
        parts += parser.feed(left[:taken])
        left = left[taken:]
    if with_length:
        assert parts == bodies
    else:
        assert parts == [body + newline for body in bodies]


@given(data=st.binary(max_size=300))
def test_noise_is_no_part_and_no_error(data):
    assert Multipart("frame").feed(data.replace(b"--frame", b"")) == []


def test_a_body_that_holds_the_delimiter_is_kept_whole_where_its_length_is_known():
    body = b"one --frame two"
    assert Multipart("frame").feed(stream([body], with_length=True)) == [body]


def test_a_part_without_an_end_does_not_fill_the_memory():
    parser = Multipart("frame")
    parser.feed(b"--frame\r\n\r\n")
    with pytest.raises(ValueError, match="more than 32 MiB"):
        for _ in range(40):
            parser.feed(bytes(2**20))


def test_a_part_that_announces_too_much_is_refused_at_once():
    with pytest.raises(ValueError, match=f"announces {_multipart.PART_BYTES_MOST + 1} bytes"):
        Multipart("frame").feed(b"--frame\r\nContent-Length: %d\r\n\r\n" % (_multipart.PART_BYTES_MOST + 1))


def test_a_header_without_an_end_is_refused():
    with pytest.raises(ValueError, match="header of more than 16 KiB"):
        Multipart("frame").feed(b"--frame\r\n" + b"X: y\r\n" * 4000)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=frame", "frame"),
        ("multipart/x-mixed-replace;boundary=--frame", "frame"),
        ('Multipart/X-Mixed-Replace; charset=x; Boundary="the frame"', "the frame"),
        ("multipart/x-mixed-replace", None),
        ("multipart/x-mixed-replace; boundary=--", None),
        ("image/jpeg; boundary=frame", None),
        ("", None),
    ],
)
def test_the_boundary_is_found_in_every_way_of_writing_it(content_type, boundary):
    assert boundary_of(content_type) == boundary
