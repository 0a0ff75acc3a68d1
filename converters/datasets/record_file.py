"""TFRecord files without TensorFlow: the framing, and the message tf.train.Example.

A record is its length (uint64, little-endian), the masked CRC-32C of these eight bytes, the content, and its masked
CRC-32C (tensorflow/core/lib/io/record_writer.h). The message is parsed by the official protobuf library, from a
description made here (tensorflow/core/example/example.proto and feature.proto).
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from converters.datasets.crc32c import masked
from edge_agent.errors import ConfigError

RECORD_BYTES_MOST = 256 * 2**20  # a picture of 64 million pixels is 192 MB raw: more is a damaged length
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LISTS = (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))

Values = dict[str, list[Any]]  # of one Example: bytes, floats or whole numbers by key


def scan(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, content) of every record, its checksums checked; of a compressed file the offset after unpacking.

    Raises ConfigError with the record's number.
    """
    number = 0
    try:
        with open_records(path) as stream:
            while header := stream.read(_HEADER.size):
                number += 1
                yield stream.tell(), _record(stream, header, f"{path}, record {number}")
    except (EOFError, zlib.error, OSError) as error:
        raise ConfigError(f"{path}, after record {number}: can't be read: {error}") from error


def open_records(path: Path) -> BinaryIO:
    """The file, unpacked on the way where it is compressed. Raises OSError."""
    # GzipFile has all of BinaryIO that is used here, and says so nowhere
    return cast(BinaryIO, gzip.open(path, "rb")) if is_compressed(path) else path.open("rb")


def is_compressed(path: Path) -> bool:
    """Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _record(stream: BinaryIO, header: bytes, where: str) -> bytes:
    cut = f"{where}: the file ends inside it: it was not written or copied to its end"
    if len(header) < _HEADER.size:
        raise ConfigError(cut)
    length, crc = _HEADER.unpack(header)
    if masked(header[:8]) != crc:
        raise ConfigError(f"{where}: the checksum of its length is wrong: the file is damaged, or no TFRecord")
    if length > RECORD_BYTES_MOST:
        raise ConfigError(f"{where}: {length} bytes; at most {RECORD_BYTES_MOST} are read")
    content = stream.read(length)
    footer = stream.read(_FOOTER.size)
    if len(content) < length or len(footer) < _FOOTER.size:
        raise ConfigError(cut)
    if masked(content) != _FOOTER.unpack(footer)[0]:
        raise ConfigError(f"{where}: the checksum of its content is wrong: the file is damaged")
    return content


def parse_example(content: bytes, where: str) -> Values:
    """The features of a tf.train.Example. Raises ConfigError."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    message = _example_class()()
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise ConfigError(f"{where}: not a tf.train.Example: {error}") from error
    values = {}
    # sorted: a map has no order, not even the same one in two runs
    for key, feature in sorted(message.features.feature.items()):
        kind = feature.WhichOneof("kind")
        values[key] = list(getattr(feature, kind).value) if kind else []
    return values


@cache
def _example_class() -> Any:
    """The message class; a pool of its own, since TensorFlow would register the same names in the common one."""
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    types = {"BytesList": "TYPE_BYTES", "FloatList": "TYPE_FLOAT", "Int64List": "TYPE_INT64"}
    for name, kind in types.items():
        file.message_type.add(name=name).field.add(name="value", number=1, label="LABEL_REPEATED", type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(_LISTS, start=1):
        feature.field.add(**_message(name, number, kind), oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label="LABEL_OPTIONAL", type="TYPE_STRING")
    entry.field.add(**_message("value", 2, "Feature"))
    features.field.add(**{**_message("feature", 1, "Features.FeatureEntry"), "label": "LABEL_REPEATED"})
    file.message_type.add(name="Example").field.add(**_message("features", 1, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _message(name: str, number: int, kind: str) -> dict[str, Any]:
    wanted = {"name": name, "number": number, "type_name": f".tensorflow.{kind}"}
    return {**wanted, "label": "LABEL_OPTIONAL", "type": "TYPE_MESSAGE"}
