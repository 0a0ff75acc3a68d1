"""The whole way, from a trained float model to a file for the device, without TensorFlow: on a real hybrid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import converters
from converters.__main__ import main
from converters.card_file import card_toml
from converters.device_model import DeviceModel, load_device_model
from converters.records import Example
from edge_agent.core.model_card import checked_card
from edge_agent.io.model_file import read_model
from tests.simulators.float_models import digits_and_wine

ROOT = Path(__file__).resolve().parents[2]
ROWS = f"{ROOT}/benchmarks/converters/world.py:rows"


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from benchmarks.converters.world import card

    path = tmp_path_factory.mktemp("card") / "card.toml"
    path.write_text(card_toml(checked_card(card(), "world")))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "codes.tflite"
    path.write_bytes(digits_and_wine().content)
    return path


@pytest.fixture(scope="module")
def converted(trained: Path, card: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:  # type: ignore[type-arg]
    """The converted file and the command's JSON answer."""
    out = tmp_path_factory.mktemp("out") / "model.tflite"
    answer = converters.convert(str(trained), card=card, data=ROWS, output=out)
    return out, answer.to_json()


def test_the_result_is_full_int8_within_the_bound_at_the_first_rung(converted: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    path, answer = converted
    model = load_device_model(path)
    assert {spec.dtype.name for spec in (*model.inputs, *model.outputs)} == {"int8"}
    assert answer["met"]
    assert len(answer["ladder"]["rungs"]) == 1
    assert answer["score"] >= answer["reference_score"] - 0.005


def test_the_file_carries_card_labels_golden_and_provenance(converted: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    file = read_model(converted[0])
    assert {"labels.txt", "edge-agent/card.json", "edge-agent/golden.npz"} <= file.members.keys()
    assert file.card is not None
    conversion = file.card["provenance"]["conversion"]
    assert conversion["source"]["file"] == "codes.tflite"
    assert conversion["scheme"] == "int8"
    assert conversion["method"] == "min-max of 300 samples"
    assert conversion["data"]["rows"] == 7200
    assert "ai-edge-quantizer" in conversion["versions"]
    assert str(ROOT) not in json.dumps(file.card)


def test_golden_samples_pass_here(converted: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    assert main(["golden", str(converted[0])]) == 0


def test_raw_readings_go_in_on_the_device(converted: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    from benchmarks.converters.world import UNITS, draw

    drawn = draw("test")
    model = load_device_model(converted[0])
    right = 0
    for number in range(200):
        features = dict(zip(UNITS, drawn["readings"][number].tolist(), strict=True))
        example = Example(str(number), {"image": drawn["pixels"][number]}, features, {})
        best = model.predict(example)["code"]["classes"][0]["index"]
        right += best == drawn["labels"][number]
    assert right / 200 > 0.8


def test_the_same_inputs_give_the_same_bytes(
    trained: Path, card: Path, converted: tuple[Path, dict], tmp_path: Path
) -> None:  # type: ignore[type-arg]
    again = tmp_path / "again.tflite"
    converters.convert(str(trained), card=card, data=ROWS, output=again)
    assert again.read_bytes() == converted[0].read_bytes()


def test_the_daemon_takes_the_file_as_it_is(converted: tuple[Path, dict], capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[type-arg]
    from benchmarks.converters.world import UNITS, draw
    from edge_agent.__main__ import main as edge_agent

    readings = draw("test")["readings"][0].tolist()
    picture = converted[0].parent / "picture.png"
    _save(picture, draw("test")["pixels"][0])
    features = [f"--feature={name}={value}" for name, value in zip(UNITS, readings, strict=True)]
    assert edge_agent(["predict", str(converted[0]), "--image", str(picture), *features, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["name"] == "wine-codes"


def test_a_bound_that_cannot_be_met_writes_nothing_and_shows_the_ladder(
    card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_CONVERT_HOME", str(tmp_path / "none"))  # with a framework, fine-tuning would meet it
    monkeypatch.delenv("EDGE_CONVERT_KERAS", raising=False)
    source, out = tmp_path / "hard.tflite", tmp_path / "out.tflite"
    source.write_bytes(digits_and_wine(hard=True).content)
    arguments = ["convert", str(source), "--card", str(card), "--data", ROWS, "-o", str(out)]
    # an accelerator that takes integers alone leaves no rung for float layers
    assert main([*arguments, "--target", "coral-usb-on-pi", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"]
    assert not out.exists()


def test_the_hard_case_loses_more_than_five_points_in_plain_int8_and_is_recovered(
    card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "hard.tflite", tmp_path / "out.tflite"
    source.write_bytes(digits_and_wine(hard=True).content)
    arguments = ["convert", str(source), "--card", str(card), "--data", ROWS, "-o", str(out), "--max-drop", "0.01"]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ladder"]["rungs"][0]["drop"] > 0.05
    assert answer["reference_score"] - answer["score"] <= 0.01
    kept = answer["ladder"]["rungs"][-1]
    assert kept["final_drop"] <= 0.01
    assert load_device_model(out).card.name == "wine-codes"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--data": "nowhere"}, "nowhere"),
        ({"--card": "missing.toml"}, "missing.toml"),
        ({"--target": "raspberry-pi-9"}, "raspberry-pi"),
        ({"-o": "no/such/folder/model.tflite"}, "no/such/folder"),
        ({"--max-drop": "5"}, "0 to 1"),
    ],
)
def test_what_is_wrong_is_said_before_the_work_begins(
    trained: Path, card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], message: str
) -> None:
    given = {"--card": str(card), "--data": ROWS, "-o": str(tmp_path / "out.tflite"), **change}
    arguments = [part for pair in given.items() for part in pair]
    try:
        code = main(["convert", str(trained), *arguments])
    except SystemExit as error:
        code = error.code  # type: ignore[assignment]
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.tflite").exists()


def test_a_quantised_source_is_refused_with_the_reason(
    converted: tuple[Path, dict],  # type: ignore[type-arg]
    card: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--card", str(card), "--data", ROWS, "-o", str(tmp_path / "out.tflite")]
    assert main(["convert", str(converted[0]), *arguments]) == 2
    assert "already quantised" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["int8", "dynamic", "float16", "16x8", "float32"])
def test_each_scheme_gives_a_model_that_runs(trained: Path, card: Path, tmp_path: Path, scheme: str) -> None:
    out = tmp_path / f"{scheme}.tflite"
    arguments = ["--card", str(card), "--data", ROWS, "--limit", "60", "-o", str(out)]
    assert main(["quantize", str(trained), "--scheme", scheme, *arguments]) == 0
    assert isinstance(load_device_model(out), DeviceModel)


def _save(path: Path, pixels: object) -> None:
    import cv2

    assert cv2.imwrite(str(path), pixels)  # type: ignore[call-overload]
