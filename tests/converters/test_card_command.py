"""The card as a file: written from a model, edited, validated; what is wrong is said before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converters.__main__ import main
from converters.card_file import card_toml, edited, read_card
from edge_agent.core.card_schema import Budgets, Card, ClassificationOutput
from edge_agent.core.model_card import checked_card
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import read_model
from edge_agent.io.tflite_metadata import standard_metadata
from tests.converters.conveyor import MODEL


def test_the_card_of_a_model_is_written_as_toml_that_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    assert main(["card", "write", str(MODEL), "-o", str(path)]) == 0
    raw, _, _ = read_card(path)
    card = checked_card(raw, "test")
    assert card.name == "conveyor"
    assert card.outputs[0].labels == ("good", "scratched", "hollow", "overheated", "worn_bearing")
    assert {item.tensor for item in card.inputs} == {"image", "sensors"}


def test_a_written_card_fits_the_model_that_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    main(["card", "write", str(MODEL), "-o", str(path)])
    assert main(["card", "validate", str(path), "--against", str(MODEL)]) == 0
    assert main(["card", "validate", str(MODEL)]) == 0


def test_an_edit_changes_the_card_and_the_standard_metadata_and_keeps_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    arguments = ["--set", "version=9.8.7", "--set", "outputs[0].threshold=0.25", "--set", "budgets.p95_ms=30"]
    assert main(["card", "edit", str(MODEL), *arguments, "-o", str(out)]) == 0
    before, after = read_model(MODEL), read_model(out)
    assert after.card is not None and before.card is not None
    assert (after.card["version"], after.card["budgets"]) == ("9.8.7", {"p95_ms": 30})
    assert after.card["outputs"][0]["threshold"] == 0.25
    assert after.card["provenance"] == before.card["provenance"]
    assert checked_card(after.card, "new").golden == checked_card(before.card, "old").golden
    assert after.members.keys() == before.members.keys()
    assert after.members["edge-agent/golden.npz"] == before.members["edge-agent/golden.npz"]
    metadata = standard_metadata(after.content)
    assert metadata is not None and metadata.version == "9.8.7"


def test_an_edited_model_still_computes_what_it_did(tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    assert main(["card", "edit", str(MODEL), "--set", "name=other", "-o", str(out)]) == 0
    assert main(["golden", str(out)]) == 0


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("outputs[0].threshhold=0.3", "threshhold is not a key"),
        ("outputs[7].threshold=0.3", "no place"),
        ("version", "KEY=VALUE"),
        ('inputs[0].resize="cubic"', "allowed:"),
        ('inputs[0].tensor="picture"', "picture"),
    ],
)
def test_a_wrong_edit_says_what_is_wrong_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], assignment: str, message: str
) -> None:
    out = tmp_path / "out.tflite"
    assert main(["card", "edit", str(MODEL), "--set", assignment, "-o", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_labels_can_be_edited_and_must_be_as_many_as_the_tensor_has_elements(tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    labels = 'outputs[0].labels=["a", "b", "c", "d", "e"]'
    assert main(["card", "edit", str(MODEL), "--set", labels, "-o", str(out)]) == 0
    assert read_model(out).members["labels.txt"] == b"a\nb\nc\nd\ne\n"
    assert main(["card", "edit", str(MODEL), "--set", 'outputs[0].labels=["a"]', "-o", str(out)]) == 2


@pytest.mark.parametrize("text", ["name = ", "\xff\xfe", "nmae = 'x'", "[[inputs]]\nrole = 'picture'\ntensor = 'x'\n"])
def test_a_card_file_that_is_wrong_names_the_file(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "card.toml"
    path.write_bytes(text.encode("latin-1"))
    assert main(["card", "validate", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_validate_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "validate", str(MODEL), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]


def test_values_are_toml_and_anything_else_is_text() -> None:
    card = Card(outputs=(ClassificationOutput(tensor="y"),))
    changed = edited(card, ["version=1.2.0", "name=belt two", "outputs[0].top_k=3", "budgets.p95_ms=12.5"])
    assert (changed.version, changed.name, changed.budgets) == ("1.2.0", "belt two", Budgets(p95_ms=12.5))
    assert changed.outputs[0].top_k == 3
    assert checked_card(read_toml(card_toml(changed)), "test") == changed


def test_a_card_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text("[]")
    with pytest.raises(ConfigError, match="expected an object"):
        read_card(path)


def read_toml(text: str) -> dict[str, object]:
    from edge_agent.config.convert import parse_toml

    return parse_toml(text, "test")
