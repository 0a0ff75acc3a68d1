"""Golden samples: chosen on one machine, they must tell a good interpreter from a bad model on any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from converters.__main__ import main
from converters.device_model import DeviceModel
from converters.dressing import redress
from converters.golden import MOST, check_golden, choose_golden, golden_bytes, read_golden
from converters.tflite.archive import bare_model, with_members
from edge_agent.core.card_schema import GOLDEN_MEMBER
from edge_agent.errors import ModelError
from edge_agent.io.model_file import parse_model
from tests.converters.conveyor import MODEL, draw
from tests.converters.rows import Rows


@pytest.fixture(scope="module")
def drawn() -> Rows:
    return draw(80)


@pytest.fixture(scope="module")
def model() -> DeviceModel:
    return DeviceModel(MODEL.read_bytes(), path=MODEL)


def test_one_sample_of_each_class_is_chosen_and_it_is_the_models_own_answer(model: DeviceModel, drawn: Rows) -> None:
    golden = choose_golden(MODEL.read_bytes(), model, drawn, range(len(drawn)))
    outputs = golden.outputs["fault"]
    assert outputs.reshape(len(outputs), -1).argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    for index in range(len(outputs)):
        again = model.invoke({name: rows[index] for name, rows in golden.inputs.items()})
        assert np.array_equal(again["fault"], outputs[index])


def test_the_card_says_why_the_tolerance_is_what_it_is(model: DeviceModel, drawn: Rows) -> None:
    rule = choose_golden(MODEL.read_bytes(), model, drawn, range(len(drawn))).rule
    assert rule.argmax
    assert "differ by at most" in rule.reason
    assert "80 samples" in rule.reason


@pytest.mark.parametrize("delegate", ["xnnpack", "cpu"])
def test_a_sound_model_passes_on_both_kinds_of_kernels(model: DeviceModel, drawn: Rows, delegate: str) -> None:
    content = redress(model, dataset=drawn)
    check = check_golden(content, MODEL, delegate=delegate)
    assert check.ok
    assert 0 < check.samples <= MOST


def test_a_model_whose_weights_were_damaged_does_not_pass(model: DeviceModel, drawn: Rows) -> None:
    content = redress(model, dataset=drawn)
    members = parse_model(content, MODEL).members
    bare = bytearray(bare_model(content))
    middle = len(bare) // 2
    for position in range(middle - 8000, middle + 8000):
        bare[position] ^= 0x55
    with pytest.raises(ModelError) if _refused(bytes(bare)) else _nothing():
        assert not check_golden(with_members(bytes(bare), members), MODEL, delegate="cpu").ok


def test_the_same_arrays_give_the_same_bytes(model: DeviceModel, drawn: Rows) -> None:
    golden = choose_golden(MODEL.read_bytes(), model, drawn, range(20))
    assert golden_bytes(golden) == golden_bytes(golden)
    assert read_golden({GOLDEN_MEMBER: golden_bytes(golden)}, MODEL).inputs.keys() == golden.inputs.keys()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_golden_samples_that_cannot_be_read_are_a_model_error(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"golden\.npz can't be read|has no samples"):
        read_golden({GOLDEN_MEMBER: content}, Path("m.tflite"))


def test_a_model_without_golden_samples_is_told_how_to_get_them() -> None:
    with pytest.raises(ModelError, match="edge-convert golden"):
        read_golden({}, Path("m.tflite"))


def test_the_command_checks_the_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", str(MODEL), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"]
    assert [check["delegate"] for check in answer["checks"]] == ["xnnpack", "cpu"]


def _refused(bare: bytes) -> bool:
    try:
        DeviceModel(with_members(bare, parse_model(MODEL.read_bytes(), MODEL).members), path=MODEL)
    except ModelError:
        return True
    return False


def _nothing():  # type: ignore[no-untyped-def]
    from contextlib import nullcontext

    return nullcontext()
