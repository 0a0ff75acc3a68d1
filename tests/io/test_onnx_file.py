"""ONNX files as bytes: recognised or refused, with their members, their version and their seal."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from converters.jetson.onnx_members import bare_onnx_file, with_onnx_members
from converters.jetson.protobuf import bytes_field, text_field, varint, varint_field
from edge_agent.errors import ModelError
from edge_agent.io import onnx_file
from edge_agent.io.model_file import MEMBERS_MOST, parse_model
from edge_agent.records import ModelFile
from tests.simulators import onnx_models

PATH = Path("m.onnx")
BARE = onnx_models.hybrid()
CARD = json.dumps(onnx_models.hybrid_card()).encode()
MEMBERS = {"edge-agent/card.json": CARD, "edge-agent/golden.npz": b"PK\x03\x04\xff\xfe\0", "labels.txt": "ä\n".encode()}
SEALED = with_onnx_members(BARE, MEMBERS)
BROKEN_SEAL = "the file is not as its converter wrote it: the digest at its end does not match"


def parsed(content: bytes) -> ModelFile:
    return parse_model(content, PATH)


def refusal(content: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        parsed(content)
    assert "\n" not in str(caught.value)
    assert str(PATH) in str(caught.value)
    return str(caught.value)


def entry(key: bytes, value: bytes) -> bytes:
    return bytes_field(14, bytes_field(1, key) + bytes_field(2, value))


def test_a_bare_model_is_just_a_model() -> None:
    file = parsed(BARE)
    assert (file.form, file.card, file.metadata, file.members, file.notes) == ("onnx", None, None, {}, ())


def test_members_of_any_bytes_ride_in_the_metadata_and_come_back_as_they_were() -> None:
    file = parsed(SEALED)
    assert (file.form, file.members, file.notes) == ("onnx", MEMBERS, ())
    assert file.card == onnx_models.hybrid_card()


def test_the_model_without_its_members_is_the_model_to_the_byte() -> None:
    assert bare_onnx_file(SEALED) == BARE
    assert with_onnx_members(bare_onnx_file(SEALED), MEMBERS) == SEALED


def test_what_onnx_runtime_shows_as_metadata_is_what_was_put_in() -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install '.[onnx]'")
    shown = onnxruntime.InferenceSession(SEALED, providers=["CPUExecutionProvider"]).get_modelmeta()
    assert shown.custom_metadata_map["edge-agent/card.json"] == CARD.decode()
    assert shown.custom_metadata_map["edge-agent/golden.npz;base64"] == "UEsDBP/+AA=="
    assert shown.custom_metadata_map["labels.txt"] == "ä\n"
    assert set(shown.custom_metadata_map) == {*MEMBERS, "edge-agent/golden.npz;base64", "edge-agent/sha256"} - {
        "edge-agent/golden.npz"
    }


def test_metadata_of_other_tools_and_their_version_are_read() -> None:
    file = parsed(BARE + varint_field(5, 7) + entry(b"names", b"{0: 'cat'}") + entry(b"stride", b"32"))
    assert file.members == {"names": b"{0: 'cat'}", "stride": b"32"}
    assert file.metadata is not None
    assert file.metadata.version == "7"
    assert file.notes == ()


def test_of_an_entry_that_is_there_twice_the_last_counts() -> None:
    assert parsed(BARE + entry(b"a", b"1") + entry(b"a", b"2")).members == {"a": b"2"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x08", "ends in the middle of a number"),
        (b"\x08" + b"\xff" * 20, "has no end"),
        (b"\x08\x08", "it has no field 7"),
        (varint_field(1, 8) + bytes_field(7, b"x"), "it has no field 8"),
        (BARE[:-1], "reaches beyond the end"),
        (BARE[:500], "reaches beyond the end"),
        (BARE + b"\x03", "ends in the middle of a number|begins no field"),
        (BARE + b"\x73", "begins no field"),
        (BARE + b"\x00\x00", "reaches beyond the end"),
        (BARE + varint_field(14, 1), "field 14 at byte .* is of another kind"),
        (BARE + varint_field(1, 9), "field 1 is there twice"),
        (BARE + bytes_field(7, b"x"), "field 7 is there twice"),
        (varint_field(1, 8) * 5000, "there twice"),
        (b"\x08\x08" + bytes_field(8, b"") * 5000, "more than 4096 fields"),
        (varint_field(1, 8) + varint(7 << 3 | 2) + varint(2**40), "reaches beyond the end"),
    ],
)
def test_what_is_no_onnx_model_is_refused_with_its_reason(content: bytes, words: str) -> None:
    message = refusal(content)
    assert message.startswith("m.onnx is neither a TFLite model nor an ONNX model, or a damaged one: ")
    assert re.search(words, message)


def test_another_file_is_called_what_it_is_not() -> None:
    assert "nor does it begin as an ONNX model does" in refusal(b"PK\x03\x04 a zip, or whatever")


def test_damaged_entries_cost_only_themselves() -> None:
    file = parsed(
        BARE + entry(b"\xff\xfe", b"x") + entry(b"a;base64", b"!!") + bytes_field(14, b"\x0a\x09") + entry(b"l", b"v")
    )
    assert file.members == {"l": b"v"}
    assert len(file.notes) == 3
    assert all("not read" in note for note in file.notes)


def test_more_metadata_than_a_device_holds_is_not_read() -> None:
    many = b"".join(entry(b"%d" % number, b"") for number in range(MEMBERS_MOST + 1))
    file = parsed(BARE + many)
    assert file.members == {}
    assert "65 entries" in file.notes[0]


@pytest.mark.parametrize("card", [b"{", b"[1]", b'"text"'])
def test_a_card_that_is_no_json_object_is_refused(card: bytes) -> None:
    assert "edge-agent/card.json is " in refusal(BARE + entry(b"edge-agent/card.json", card))


def test_a_changed_byte_anywhere_breaks_the_seal_or_the_file() -> None:
    chance = random.Random(5)
    outcomes = {"refused": 0, "noted": 0}
    for _ in range(300):
        copy = bytearray(SEALED)
        copy[chance.randrange(len(copy))] ^= 1 << chance.randrange(8)
        try:
            notes = parsed(bytes(copy)).notes
        except ModelError as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error)
        else:
            assert BROKEN_SEAL in notes
            outcomes["noted"] += 1
    assert min(outcomes.values()) > 2


def test_a_seal_whose_key_was_damaged_is_still_one() -> None:
    assert parsed(SEALED.replace(b"edge-agent/sha256", b"edge-agent/sha255")).notes == (BROKEN_SEAL,)


def test_an_entry_added_behind_the_seal_breaks_it() -> None:
    assert parsed(SEALED + text_field(2, "tool")).notes == (BROKEN_SEAL,)


def test_random_bytes_are_refused_or_read_and_never_more() -> None:
    chance = random.Random(11)
    for _ in range(2000):
        content = b"\x08" + chance.randbytes(chance.randrange(200))
        try:
            list(onnx_file.fields(content))
        except ValueError as error:
            assert "\n" not in str(error)
        with pytest.raises(ModelError):
            parsed(content)
