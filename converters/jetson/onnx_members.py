"""The files inside an ONNX model: entries of its metadata, which ONNX Runtime shows as ``custom_metadata_map``, and a
digest of everything before at the end of the file.

A metadata value is UTF-8 text, and whoever reads the metadata fails over other bytes: what is no text is written in
base64, and its key ends in ";base64". The graph's own bytes stay as they are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from converters.jetson.protobuf import bytes_field, text_field
from edge_agent.io.onnx_file import KEY, MARK, METADATA, SEAL_DIGITS, SEAL_KEY, VALUE, fields, seal_digits


def bare_onnx_file(content: bytes) -> bytes:
    """Without any metadata entry."""
    return b"".join(content[field.first : field.end] for field in fields(content) if field.number != METADATA)


def with_onnx_members(model: bytes, members: Mapping[str, bytes]) -> bytes:
    """The bare model with the named files, in the given order, and its seal.

    Protocol buffers read a repeated field that comes in parts as one: the entries are put behind the model.
    """
    entries = b"".join(_entry(*_written(name, content)) for name, content in members.items())
    whole = model + entries + _entry(SEAL_KEY, bytes(SEAL_DIGITS))[:-SEAL_DIGITS]
    return whole + seal_digits(whole)


def _written(name: str, content: bytes) -> tuple[str, bytes]:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return name + MARK, base64.b64encode(content)
    return name, content


def _entry(key: str, value: bytes) -> bytes:
    return bytes_field(METADATA, text_field(KEY, key) + bytes_field(VALUE, value))
