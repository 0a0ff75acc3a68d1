"""A piece of a file over MQTT: the question on ``update/get``, the answer on ``update/chunk`` of the same device."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

CHUNK_BYTES_MOST: Final = 2**16  # with its head below what brokers take: AWS IoT takes 128 KiB, and none less
HEAD_BYTES_MOST: Final = 4096

T = TypeVar("T")
_Count = Annotated[int, Meta(ge=0, lt=2**53)]

GOOD, MALFORMED, NOT_THERE = 200, 400, 404


class Get(Struct, frozen=True):
    """The question. ``id`` is the device's, and comes back with the answer."""

    id: _Count
    path: Annotated[str, Meta(max_length=1024)]
    offset: _Count
    length: _Count


class Head(Struct, frozen=True):
    """What the answer begins with, on a line of its own. ``size``: of the whole file."""

    id: _Count
    path: str = ""
    offset: _Count = 0
    size: _Count = 0
    status: int = GOOD


class Chunk(Struct, frozen=True):
    head: Head
    data: bytes


_encoder = msgspec.json.Encoder()
_gets = msgspec.json.Decoder(Get)
_heads = msgspec.json.Decoder(Head)


def encode_get(get: Get) -> bytes:
    return _encoder.encode(get)


def decode_get(payload: bytes) -> Get:
    """Raises ValueError for anything else, whatever it is."""
    if len(payload) > HEAD_BYTES_MOST:
        raise ValueError("too long for a question")
    return _decoded(_gets, payload)


def encode_chunk(head: Head, data: bytes = b"") -> bytes:
    return _encoder.encode(head) + b"\n" + data


def decode_chunk(payload: bytes) -> Chunk:
    """Raises ValueError for anything else, whatever it is."""
    end = payload.find(b"\n", 0, HEAD_BYTES_MOST)
    if end < 0:
        raise ValueError("no head")
    return Chunk(_decoded(_heads, payload[:end]), payload[end + 1 :])


def _decoded(decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    try:
        return decoder.decode(text)
    except RecursionError:  # of brackets in brackets in an unknown member
        raise ValueError("nested too deeply") from None
