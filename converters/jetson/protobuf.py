"""Protocol buffers as they are written: a few fields, without a library or a schema."""

from __future__ import annotations

_VARINT, _BYTES = 0, 2  # wire types: a number, a length and bytes


def varint(value: int) -> bytes:
    """``value`` is 0 or more."""
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3 | _VARINT) + varint(value)


def bytes_field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(content)) + content


def text_field(number: int, text: str) -> bytes:
    return bytes_field(number, text.encode())
