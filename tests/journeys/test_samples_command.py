"""``edge-agent samples``: what a person reads, and a folder that the converters take as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converters.datasets import open_dataset
from edge_agent.commands import samples
from edge_agent.core.card_schema import Feature
from edge_agent.errors import ConfigError
from edge_agent.io.sample_store import SampleFolder
from tests.converters.dataset_folders import ANOMALY, CLASSIFICATION, DETECTION, REGRESSION, card
from tests.simulators.agent_toml import MODEL, belt, head, inspect, machine
from tests.simulators.command_line import edge_agent
from tests.simulators.kept_samples import kept, name_of, picture

ROOM = 2**22
FAULT = {"task": "classification", "classes": []}
BOTH = {"fault": FAULT, "wear": {"task": "regression", "value": 0.5, "unit": "mm"}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    second = inspect("second")
    path.write_text(head(1883) + belt() + machine() + inspect() + second + MODEL + '[drift]\npath = "learnt"\n')
    return path


@pytest.fixture
def store(config: Path) -> SampleFolder:
    return SampleFolder(config.parent / "learnt" / "samples", ROOM)


def exported(config: Path, *options: str, code: int = 0) -> Path:
    folder = config.parent / "out"
    assert samples.main(["export", str(folder), "--config", str(config), *options]) == code
    return folder


def test_a_person_reads_what_is_kept(config: Path, store: SampleFolder, capsys: pytest.CaptureFixture[str]) -> None:
    store.put(kept(1, reason="unusual"), picture(1))
    store.put(kept(2, labels={"fault": "good"}), None)
    assert samples.main(["--config", str(config)]) == 0
    title, first, second = capsys.readouterr().out.splitlines()
    assert title == f"{config.parent}/learnt/samples: 2 samples (1 random, 1 unusual)"
    assert first == f"2026-09-21T14:14:20.000Z  unusual      picture  {name_of(1)}"
    assert second == f'2026-09-21T14:15:20.000Z  random       -        {name_of(2)}  fault: "good"'


def test_a_program_reads_the_same(config: Path, store: SampleFolder) -> None:
    store.put(kept(1, labels={"fault": 2}), picture(1))
    store.put(kept(2, pipeline="second"), None)
    done = edge_agent(config.parent, "samples", "--config", config, "--pipeline", "inspect", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["schema"] == "edge-agent/samples/1"
    (sample,) = said["samples"]
    assert sample == {
        "id": name_of(1),
        "pipeline": "inspect",
        "time": "2026-09-21T14:14:20.000Z",
        "clock_synced": True,
        "reason": "random",
        "rank": 0.01,
        "picture": True,
        "labels": {"fault": 2},
        "model": {"name": "conveyor", "version": "1.0.0", "sha256": "ab" * 32},
    }


def test_the_converters_read_what_was_exported(config: Path, store: SampleFolder) -> None:
    features = [{"weight": 100.5, "temperature": 49.0}, {"weight": 99.0, "temperature": None}] * 5
    for number, said in enumerate(features):
        labels = {"fault": ("good", "hollow", 2)[number % 3]} if number < 7 else {}
        store.put(kept(number, features=said, labels=labels), picture(number))
    folder = exported(config)
    dataset = open_dataset(str(folder), card())
    assert len(dataset) == 10
    first, second = dataset.example(0), dataset.example(1)
    assert (first.id, first.features, first.labels) == (
        name_of(0),
        {"weight": 100.5, "temperature": 49.0},
        {"fault": 0},
    )
    assert (second.features, second.filled) == ({"weight": 99.0, "temperature": 20.0}, ("temperature",))
    assert first.images["image"].shape == (24, 32, 3)
    assert abs(first.images["image"].astype(int) - picture(0)).mean() < 2
    labelled = [*dataset.rows("train"), *dataset.rows("test")]
    assert sorted(labelled) == list(range(7))
    assert list(dataset.rows("calibration")) == [7, 8, 9]
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["prediction"]["id"] for line in lines] == [name_of(number) for number in range(10)]


def test_without_any_label_the_samples_are_a_representative_set(config: Path, store: SampleFolder) -> None:
    for number in range(6):
        store.put(kept(number), picture(number))
    dataset = open_dataset(str(exported(config)), card())
    assert (len(dataset), len(dataset.rows("calibration"))) == (6, 5)


def test_units_and_names_that_mean_something_else_come_through(config: Path, store: SampleFolder) -> None:
    units = {"label": "degF", "temperature": "", "image/x": "mm"}
    values = {"label": 122.0, "temperature": 5.0, "image/x": 2.0}
    store.put(kept(0, features=values, units=units), picture(0))
    store.put(kept(1, features=values, units=units), picture(0))
    wanted = (Feature(name="label", unit="degC"), Feature(name="temperature"), Feature(name="image/x", unit="m"))
    found = open_dataset(str(exported(config)), card(features=wanted)).example(0).features
    assert found == pytest.approx({"label": 50.0, "temperature": 5.0, "image/x": 0.002})


def test_labels_of_several_outputs_are_truth_where_a_row_has_all_of_them(config: Path, store: SampleFolder) -> None:
    for number in range(8):
        labels = {"fault": "good"} if number < 3 else {"fault": "worn", "wear": 0.25} if number < 6 else {"wear": 1}
        store.put(kept(number, labels=labels, outputs=BOTH), picture(number))
    dataset = open_dataset(str(exported(config)), card(outputs=(CLASSIFICATION, REGRESSION)))
    assert sorted([*dataset.rows("train"), *dataset.rows("test")]) == [3, 4, 5]
    assert dataset.example(3).labels == {"fault": 2, "wear": 0.25}


def test_an_anomaly_label_is_truth_and_that_of_a_detection_is_not(config: Path, store: SampleFolder) -> None:
    outputs = {"odd": {"task": "anomaly"}, "objects": {"task": "detection"}}
    for number in range(5):
        labels = {"odd": number % 2 == 0, "objects": "worn"}
        store.put(kept(number, labels=labels, outputs=outputs), picture(number))
    dataset = open_dataset(str(exported(config)), card(outputs=(ANOMALY, DETECTION)))
    assert [dataset.example(number).labels for number in range(2)] == [{"odd": True}, {"odd": False}]


def test_a_model_without_pictures_needs_none(config: Path, store: SampleFolder) -> None:
    for number in range(3):
        store.put(kept(number, tensors=()), None)
    assert len(open_dataset(str(exported(config)), card(images=()))) == 3


def test_what_can_be_no_row_is_left_out_and_told(
    config: Path, store: SampleFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put(kept(0, units={"weight": "kg"}), picture(0))
    for number in (1, 2, 3):
        store.put(kept(number), picture(number))
    store.put(kept(4), None)
    (config.parent / "learnt" / "samples" / f"{name_of(2)}.jpg").write_bytes(b"no picture")
    folder = exported(config)
    said = capsys.readouterr()
    assert said.out == f"{folder}: 2 samples, 0 of them labelled\n"
    assert said.err.splitlines() == [
        "left out: 1 of a model with other inputs than the newest one's",
        "left out: 1 whose picture has gone or is damaged",
        "left out: 1 without a picture: set images = true in [drift.samples]",
    ]
    assert len(open_dataset(str(folder), card())) == 2


def test_with_nothing_to_export_the_result_is_bad_and_the_folder_empty(
    config: Path, store: SampleFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put(kept(0, tensors=("left", "right")), picture(0))
    folder = exported(config, "--json", code=1)
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], list(said["left_out"].values())) == (0, [1])
    assert list(folder.iterdir()) == []


def test_what_cannot_be_meant_is_refused(config: Path, store: SampleFolder) -> None:
    store.put(kept(0), picture(0))
    store.put(kept(0, pipeline="second"), picture(0))
    with pytest.raises(ConfigError, match="choose one with --pipeline"):
        exported(config)
    folder = exported(config, "--pipeline", "second")
    with pytest.raises(ConfigError, match="name a new folder"):
        samples.main(["export", str(folder), "--pipeline", "second", "--config", str(config)])
    with pytest.raises(ConfigError, match="it has: inspect, second"):
        samples.main(["--pipeline", "third", "--config", str(config)])
    for wrong in (["export"], ["list", "somewhere"]):
        with pytest.raises(SystemExit) as caught:
            samples.main([*wrong, "--config", str(config)])
        assert caught.value.code == 2
