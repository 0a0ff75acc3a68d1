"""What a person is warned of before a conversion looks good: unscaled features, and a model that only guesses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import converters
from benchmarks.converters.world import card
from converters.__main__ import main
from tests.simulators.float_models import digits_and_wine

ROOT = Path(__file__).resolve().parents[2]
ROWS = f"{ROOT}/benchmarks/converters/world.py:rows"


def convert(tmp_path: Path, said: dict[str, Any], *, own: bool = False) -> tuple[str, ...]:
    """The notes of a conversion."""
    source = tmp_path / "codes.tflite"
    source.write_bytes(digits_and_wine(own_normalisation=own).content)
    goal = converters.Goal(limit=200, epochs=0, max_drop=1.0)
    notes: tuple[str, ...] = converters.convert(
        str(source), card=said, data=ROWS, output=tmp_path / "out.tflite", goal=goal
    ).notes
    return notes


def unscaled() -> dict[str, Any]:
    said = card()
    for feature in said["inputs"][1]["features"]:
        for key in ("mean", "std", "clip"):
            del feature[key]
    return said


def test_a_sound_conversion_warns_of_nothing(tmp_path: Path) -> None:
    assert not [note for note in convert(tmp_path, card()) if note.startswith("warning")]


def test_features_that_the_card_does_not_scale_are_named_and_so_is_a_model_that_guesses(tmp_path: Path) -> None:
    notes = "\n".join(convert(tmp_path, unscaled()))
    assert "'proline': scaled by the card it still reaches" in notes
    assert "no better than a guess" in notes


def test_a_card_that_scales_with_anothers_figures_is_found(tmp_path: Path) -> None:
    said = card()
    said["inputs"][1]["features"][12]["mean"] = 5000.0
    assert "'proline': the card's clip cuts" in "\n".join(convert(tmp_path, said))


def test_a_model_that_scales_its_features_itself_is_said_in_the_answer_and_its_raw_inputs_are_no_alarm(
    tmp_path: Path,
) -> None:
    notes = "\n".join(convert(tmp_path, unscaled(), own=True))
    assert "normalised inside the model" in notes
    assert "still reaches" not in notes
    assert "'chemistry' stays float32" in notes


def test_a_score_that_is_not_defined_is_never_a_bound_that_holds(tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    source = tmp_path / "codes.tflite"
    source.write_bytes(digits_and_wine().content)
    said = card()
    said["outputs"] = [{"task": "regression", "tensor": "code", "name": "code", "element": 1}]
    names = [feature["name"] for feature in said["inputs"][1]["features"]]
    means = [feature["mean"] for feature in said["inputs"][1]["features"]]
    data = tmp_path / "constant.npz"
    np.savez(
        data,
        image=rng.integers(0, 255, (300, 32, 32, 3), dtype=np.uint8),
        features=np.tile(means, (300, 1)) * rng.uniform(0.9, 1.1, (300, 13)),
        feature_names=np.array(names),
        label=np.full(300, 0.1),
    )
    result = converters.convert(str(source), card=said, data=str(data), output=tmp_path / "out.tflite")
    assert "judged by its agreement with float" in "\n".join(result.notes)
    assert result.reference.score == pytest.approx(1.0)
    assert result.deployed.score < 1.0


def test_the_report_and_the_model_need_files_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "codes.tflite"
    source.write_bytes(digits_and_wine().content)
    out = str(tmp_path / "same")
    assert main(["convert", str(source), "--data", ROWS, "-o", out, "--report", out, "--json"]) == 2
    assert "name another file" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scheme", "dynamic", "--keep-float", "image_dense"],
        ["--scheme", "float16", "--io", "uint8"],
        ["--scheme", "mixed"],
    ],
)
def test_an_option_that_a_scheme_does_not_have_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    from converters.card_file import card_toml
    from edge_agent.core.model_card import checked_card

    source, said = tmp_path / "codes.tflite", tmp_path / "card.toml"
    source.write_bytes(digits_and_wine().content)
    said.write_text(card_toml(checked_card(card(), "world")))
    out = tmp_path / "out.tflite"
    given = ["quantize", str(source), "--card", str(said), "--data", ROWS, *arguments, "-o", str(out)]
    assert main(given) == 2
    assert not out.exists()
