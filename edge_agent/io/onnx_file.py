"""What an ONNX file says of itself: the files that ride in its metadata, its version, its seal.

Read from the bytes alone. Protocol buffers have no magic number, so every field of the outermost message is walked;
the graph inside is the runtime's to verify. The bytes may come from anywhere: damage is a ValueError.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

MARK: Final = ";base64"  # ends the key of a member that is no UTF-8 text, which alone a metadata value may hold
SEAL_KEY: Final = "edge-agent/sha256"
SEAL_DIGITS: Final = 64  # the seal's value, and the last bytes of the file: a digest of everything before them
FIELDS_MOST: Final = 4096  # of a ModelProto: real ones have a few, and one for each metadata entry
TEXT_BYTES_MOST: Final = 4096

# onnx.proto, fields of ModelProto: a varint, or a length and bytes
IR_VERSION, MODEL_VERSION, GRAPH, OPSET, METADATA = 1, 5, 7, 8, 14
_NUMBERS: Final = (IR_VERSION, MODEL_VERSION)
KEY, VALUE = 1, 2  # fields of a StringStringEntryProto
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) are in no ONNX file
_HEX: Final = frozenset(b"0123456789abcdef")


class Field(NamedTuple):
    """One field: ``first`` is where its tag begins, ``start`` and ``end`` enclose its bytes; a varint has ``value``."""

    number: int
    wire: int
    first: int
    start: int
    end: int
    value: int = 0


class OnnxContent(NamedTuple):
    """``members``: metadata entries by name, decoded. ``version``: of the model, "" where none is said."""

    members: dict[str, bytes]
    version: str
    notes: tuple[str, ...]


def looks_like_onnx(content: bytes) -> bool:
    """Whether it begins as every writer begins: with the field ir_version."""
    return content[:1] == b"\x08"


def read_onnx(content: bytes, *, members_most: int, bytes_most: int) -> OnnxContent:
    """Raises ValueError where these are not the bytes of an ONNX model."""
    version, seen, entries = 0, set(), []
    for field in fields(content):
        if field.wire != _wire_of(field):
            raise ValueError(f"field {field.number} at byte {field.first} is of another kind than an ONNX model's")
        if field.number in (IR_VERSION, GRAPH) and field.number in seen:
            raise ValueError(f"field {field.number} is there twice")
        if field.number == MODEL_VERSION:
            version = field.value
        elif field.number == METADATA:
            entries.append(field)
        seen.add(field.number)
    if missing := {IR_VERSION: "version", GRAPH: "graph", OPSET: "operator set"}.keys() - seen:
        raise ValueError(f"it has no field {min(missing)}, as every ONNX model has")
    notes: list[str] = []
    raw = _entries(content, entries, notes)
    if (broken := _broken_seal(content, raw.pop(SEAL_KEY, None))) is not None:
        notes.append(broken)
    members = _decoded(raw, notes)
    total = sum(map(len, members.values()))
    if len(members) > members_most or total > bytes_most:
        notes.append(
            f"the metadata has {len(members)} entries of {total} bytes, at most {members_most} entries and "
            f"{bytes_most} bytes are read: none of them is"
        )
        members = {}
    return OnnxContent(members, str(version) if version else "", tuple(notes))


def fields(content: bytes, start: int = 0, end: int | None = None, *, most: int = FIELDS_MOST) -> Iterator[Field]:
    """The fields of one message. Raises ValueError where the bytes are no message, or one of more than ``most``."""
    position, last = start, len(content) if end is None else end
    for _ in range(most):
        if position == last:
            return
        first = position
        tag, position = _varint(content, position, last)
        number, wire, value = tag >> 3, tag & 7, 0
        begin = position
        if wire == VARINT:
            value, position = _varint(content, position, last)
        elif wire == BYTES:
            size, begin = _varint(content, position, last)
            position = begin + size
        elif wire in (FIXED64, FIXED32):
            position += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"byte {first} begins no field")
        if number == 0 or position > last:
            raise ValueError(f"the field at byte {first} reaches beyond the end")
        yield Field(number, wire, first, begin, position, value)
    if position < last:
        raise ValueError(f"it has more than {most} fields")


def seal_digits(before: bytes) -> bytes:
    """What ends a sealed file, for everything before."""
    return hashlib.sha256(before).hexdigest().encode()


def _varint(content: bytes, position: int, last: int) -> tuple[int, int]:
    """(the number, where the next begins)."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= last:
            raise ValueError(f"it ends in the middle of a number, at byte {position}")
        octet = content[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
    raise ValueError(f"a number at byte {position - 10} has no end")


def _wire_of(field: Field) -> int:
    return VARINT if field.number in _NUMBERS else BYTES


def _entries(content: bytes, found: list[Field], notes: list[str]) -> dict[str, bytes]:
    """Raw values by key. Of a key that is there twice the last counts, as everywhere in protocol buffers."""
    raw: dict[str, bytes] = {}
    for entry in found:
        try:
            parts = {part.number: content[part.start : part.end] for part in fields(content, entry.start, entry.end)}
            key = parts.get(KEY, b"")
            if len(key) > TEXT_BYTES_MOST:
                raise ValueError(f"a key of {len(key)} bytes")
            raw[key.decode("utf-8")] = parts.get(VALUE, b"")
        except ValueError as error:  # UnicodeDecodeError is one
            notes.append(f"the metadata entry at byte {entry.first} is damaged ({error}): not read")
    return raw


def _decoded(raw: Mapping[str, bytes], notes: list[str]) -> dict[str, bytes]:
    members = {}
    for key, value in raw.items():
        if not key.endswith(MARK):
            members[key] = value
            continue
        try:
            members[key.removesuffix(MARK)] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            notes.append(f"{key!r} in the metadata is not base64 ({error}): not read")
    return members


def _broken_seal(content: bytes, said: bytes | None) -> str | None:
    """What is wrong with it; files of other tools have none. The last bytes tell of a seal whose key was damaged."""
    tail = content[-SEAL_DIGITS:]
    if said is None and not _HEX.issuperset(tail):
        return None
    if said == tail == seal_digits(content[:-SEAL_DIGITS]):
        return None
    return "the file is not as its converter wrote it: the digest at its end does not match"
