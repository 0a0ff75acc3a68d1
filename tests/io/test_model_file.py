"""Reading model files: real ones, damaged ones, hostile ones, and files that are no models at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import pytest

from edge_agent.core import card_schema
from edge_agent.errors import ModelError
from edge_agent.io import model_file
from edge_agent.io.model_file import read_model
from edge_agent.records import ModelFile

MODELS = (
    "mobilenet_v1_0.25_128_quant.tflite",
    "mobilenet_v1_0.25_128_quant_edgetpu.tflite",
    "tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "traffic_model.tflite",
)


# --- flatbuffers by hand: field number -> what puts the value into the table ----------------------------------------

Put = Callable[[flatbuffers.Builder, int], None]


def table(builder: flatbuffers.Builder, fields: dict[int, Put]) -> int:
    builder.StartObject(max(fields, default=-1) + 1)
    for number, put in fields.items():
        put(builder, number)
    return int(builder.EndObject())


def offset(value: int) -> Put:
    return lambda builder, number: builder.PrependUOffsetTRelativeSlot(number, value, 0)


def octet(value: int) -> Put:
    return lambda builder, number: builder.PrependUint8Slot(number, value, 0)


def integer(value: int) -> Put:
    return lambda builder, number: builder.PrependUint32Slot(number, value, 0)


def vector(builder: flatbuffers.Builder, tables: list[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for item in reversed(tables):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())


def numbers(builder: flatbuffers.Builder, values: list[Any]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        (builder.PrependFloat32 if isinstance(value, float) else builder.PrependUint32)(value)
    return int(builder.EndVector())


def tensor_metadata(
    builder: flatbuffers.Builder,
    name: str,
    content: tuple[int, dict[int, Put]] | None = None,
    normalization: tuple[list[float], list[float]] | None = None,
    files: list[tuple[str, int]] | None = None,
) -> int:
    fields = {0: offset(builder.CreateString(name))}
    if content:
        properties = table(builder, content[1])
        fields[3] = offset(table(builder, {0: octet(content[0]), 1: offset(properties)}))
    if normalization:
        options = {n: offset(numbers(builder, values)) for n, values in enumerate(normalization)}
        other = table(builder, {0: octet(3), 1: offset(table(builder, {}))})
        unit = table(builder, {0: octet(1), 1: offset(table(builder, options))})
        fields[4] = offset(vector(builder, [other, unit]))
    if files:
        entries = [table(builder, {0: offset(builder.CreateString(n)), 2: octet(kind)}) for n, kind in files]
        fields[6] = offset(vector(builder, entries))
    return table(builder, fields)


def tflite(metadata: bytes | None = None) -> bytes:
    """A model without a graph: enough for everything that reads files."""
    builder = flatbuffers.Builder()
    fields: dict[int, Put] = {0: integer(3)}
    if metadata is not None:
        buffers = [table(builder, {}), table(builder, {0: offset(builder.CreateByteVector(metadata))})]
        entry = table(builder, {0: offset(builder.CreateString("TFLITE_METADATA")), 1: integer(1)})
        fields |= {4: offset(vector(builder, buffers)), 6: offset(vector(builder, [entry]))}
    builder.Finish(table(builder, fields), b"TFL3")
    return bytes(builder.Output())


def detector_metadata(order: list[int]) -> bytes:
    builder = flatbuffers.Builder()
    image = tensor_metadata(builder, "image", (2, {0: octet(2)}), ([10.0], [20.0, 30.0, 40.0]))
    boxes = tensor_metadata(builder, "location", (3, {0: offset(numbers(builder, order)), 1: octet(1)}))
    category = tensor_metadata(
        builder, "category", (1, {}), files=[("readme.txt", 1), ("labels.txt", 3), ("de.txt", 3)]
    )
    lists = {2: offset(vector(builder, [image])), 3: offset(vector(builder, [boxes, category]))}
    subgraph = table(builder, lists)
    fields = {0: offset(builder.CreateString("Detector")), 2: offset(builder.CreateString("v3"))}
    builder.Finish(table(builder, {**fields, 3: offset(vector(builder, [subgraph]))}), b"M001")
    return bytes(builder.Output())


def with_zip(content: bytes, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", compression, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def read(tmp_path: Path, content: bytes) -> ModelFile:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    return read_model(path)


# --- good files ----------------------------------------------------------------------------------------------------


def test_real_models_are_read_with_their_metadata_and_labels(shared: Path) -> None:
    for name in MODELS[:3]:
        path = shared / "models" / name
        file = read_model(path)
        assert file.content == path.read_bytes()
        assert file.sha256 == hashlib.sha256(file.content).hexdigest()
        assert list(file.members) == ["imagenet_labels.txt"]
        assert len(file.members["imagenet_labels.txt"].splitlines()) == 1001
        assert file.metadata is not None
        assert file.metadata.name == "ImageClassifier"
        (image,), (scores,) = file.metadata.inputs, file.metadata.outputs
        assert (image.content, image.color, image.mean, image.std) == ("image", "rgb", (127.5,), (127.5,))
        assert (scores.content, scores.labels, scores.labels_of) == ("feature", "imagenet_labels.txt", "elements")
        assert (file.card, file.notes) == (None, ())
        assert (file.form == "edgetpu") == ("edgetpu" in name)


def test_a_real_model_without_metadata_or_zip_is_just_a_model(shared: Path) -> None:
    file = read_model(shared / "models" / "traffic_model.tflite")
    assert (file.card, file.metadata, file.members, file.notes) == (None, None, {}, ())


def test_every_part_of_the_standard_metadata_that_is_used_is_read(tmp_path: Path) -> None:
    metadata = read(tmp_path, tflite(detector_metadata([1, 0, 3, 2]))).metadata
    assert metadata is not None
    assert (metadata.name, metadata.version) == ("Detector", "v3")
    (image,) = metadata.inputs
    assert (image.content, image.color, image.mean, image.std) == ("image", "gray", (10.0,), (20.0, 30.0, 40.0))
    boxes, category = metadata.outputs
    assert (boxes.name, boxes.content, boxes.labels) == ("location", "bounding_box", None)
    assert (category.content, category.labels, category.labels_of) == ("feature", "labels.txt", "values")


def test_boxes_in_an_order_that_is_not_decoded_are_not_called_boxes(tmp_path: Path) -> None:
    metadata = read(tmp_path, tflite(detector_metadata([0, 1, 2, 3]))).metadata
    assert metadata is not None
    assert metadata.outputs[0].content == "unknown"


def test_the_card_and_its_companions_ride_in_a_zip_behind_the_model(tmp_path: Path) -> None:
    card = {"name": "conveyor", "inputs": [{"role": "image", "tensor": "x"}], "outputs": [{"task": "regression"}]}
    members = {"edge-agent/card.json": json.dumps(card).encode(), "edge-agent/golden.npz": b"\0" * 100, "l.txt": b"a"}
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = read(tmp_path, with_zip(tflite(detector_metadata([1, 0, 3, 2])), members, compression))
        assert (file.card, file.members, file.notes) == (card, members, ())
        assert file.metadata is None  # a card that names its inputs and outputs leaves nothing to look up


def test_a_card_that_leaves_roles_out_keeps_the_metadata_beside_it(tmp_path: Path) -> None:
    content = with_zip(tflite(detector_metadata([1, 0, 3, 2])), {"edge-agent/card.json": b'{"name": "x"}'})
    file = read(tmp_path, content)
    assert file.card == {"name": "x"}
    assert file.metadata is not None


def test_reader_and_card_agree_on_the_name_of_the_member() -> None:
    assert model_file.CARD_MEMBER == card_schema.CARD_MEMBER


# --- not a model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page, not a model"),
        (b"\xef\xbb\xbf \r\n<html>", "is a web page, not a model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (
            bytes(range(200, 256)) * 20,
            "is not a TFLite model: bytes 4 to 7 are b'\\xcc\\xcd\\xce\\xcf', expected b'TFL3'",
        ),
        (b"TFL", "is not a TFLite model"),
        (b"\x1c\0\0\0TFL3", "is truncated or damaged: its 8 bytes end before"),
        (tflite()[:18], "is truncated or damaged"),
        (b"\xff\xff\xff\xffTFL3" + b"\0" * 40, "is truncated or damaged"),
        (b"\x10\0\0\0TFL3" + b"\0" * 40, "is truncated or damaged"),
    ],
)
def test_a_file_that_is_no_model_is_called_what_it_is(tmp_path: Path, content: bytes, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(tmp_path, content)
    assert text in str(caught.value)
    assert str(tmp_path / "m.tflite") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    cases = {"absent": "does not exist", ".": "is a folder", "fifo": "is not a regular file", "loop": "can't be read"}
    for name, text in cases.items():
        with pytest.raises(ModelError, match=text):
            read_model(tmp_path / name)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    with path.open("wb") as file:
        file.truncate(513 * 2**20)
    with pytest.raises(ModelError, match="has 513 MiB, at most 512 MiB are allowed"):
        read_model(path)


@pytest.mark.parametrize("card", [b"{", b"\xff", b"[" * 100_000, b"[1]", b'"text"', b"null"])
def test_a_card_that_is_no_json_object_is_refused(tmp_path: Path, card: bytes) -> None:
    with pytest.raises(ModelError, match=r"m\.tflite: edge-agent/card\.json is ") as caught:
        read(tmp_path, with_zip(tflite(), {"edge-agent/card.json": card}))
    assert "\n" not in str(caught.value)


# --- damage behind the model -------------------------------------------------------------------------------------


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    members = {f"{n}.txt": b"\0" * (33 * 2**20) for n in range(2)}
    file = read(tmp_path, with_zip(tflite(), members, zipfile.ZIP_DEFLATED))
    assert len(file.content) < 2**20
    assert file.members == {}
    (note,) = file.notes
    assert "2 files of 69206016 bytes unpacked" in note


def test_too_many_members_are_not_read(tmp_path: Path) -> None:
    file = read(tmp_path, with_zip(tflite(), {f"{n}.txt": b"" for n in range(65)}))
    assert file.members == {}
    assert "65 files" in file.notes[0]


def test_a_method_without_a_memory_bound_is_not_unpacked(tmp_path: Path) -> None:
    file = read(tmp_path, with_zip(tflite(), {"l.txt": b"a\n" * 99}, zipfile.ZIP_LZMA))
    assert (file.members, file.notes) == ({}, ("'l.txt' in the zip is neither stored nor deflated: not read",))


def test_a_damaged_member_costs_only_itself(tmp_path: Path) -> None:
    content = with_zip(tflite(), {"a.txt": b"first" * 9, "b.txt": b"second" * 9})
    file = read(tmp_path, content.replace(b"first", b"FIRST"))
    assert file.members == {"b.txt": b"second" * 9}
    assert "'a.txt' in the zip is damaged (Bad CRC-32" in file.notes[0]


def test_a_zip_that_was_cut_off_is_noted(tmp_path: Path) -> None:
    file = read(tmp_path, with_zip(tflite(), {"l.txt": b"a\n" * 99})[:-10])
    assert file.members == {}
    assert "has no end (a truncated file?)" in file.notes[0]


def test_damaged_metadata_is_noted_and_not_used(tmp_path: Path) -> None:
    good = detector_metadata([1, 0, 3, 2])
    for damaged in (good[:40], good.replace(b"M001", b"M002"), b"\xff" * 60, b""):
        file = read(tmp_path, tflite(damaged))
        assert file.metadata is None
        assert "TFLITE_METADATA buffer is damaged" in file.notes[0]


def damage(content: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, or a piece cut out or doubled, where it hurts: head, metadata, zip, or anywhere."""
    metadata, directory = content.find(b"M001"), content.rfind(b"PK\x01\x02")
    regions = [(0, 64), (0, 4096), (0, len(content))]
    regions += [(metadata - 4, metadata + 760)] * 2 if metadata > 0 else []
    regions += [(directory, len(content))] * 2 if directory > 0 else []
    first, last = chance.choice(regions)
    if chance.random() < 0.2:
        start = chance.randrange(first, last)
        end = min(len(content), start + chance.randrange(1, 5000))
        piece = content[start:end] * 2 if chance.random() < 0.5 else b""
        return content[:start] + piece + content[end:]
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        damaged[chance.randrange(first, last)] = chance.choice([0, 255, 127, 128, chance.randrange(256)])
    return bytes(damaged)


def test_300_mutated_copies_of_real_models_are_read_or_refused(shared: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    outcomes = {"read": 0, "noted": 0, "refused": 0}
    for number in range(300):
        name = MODELS[number % 20 // 19 * 2 + number % 2]  # the large ones for one copy in twenty
        content = damage((shared / "models" / name).read_bytes(), chance)
        try:
            file = read(tmp_path, content)
        except ModelError as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error)
        else:
            outcomes["noted" if file.notes else "read"] += 1
            assert file.content == content
    assert min(outcomes.values()) > 10
