"""The benchmark's task is what it says: real data, two inputs that are both needed, and test rows that are new. Its
tables go where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.converters import routes, table, trained, world
from benchmarks.converters.__main__ import main
from converters.datasets import open_dataset
from converters.device_model import DeviceModel
from converters.environments import python_of
from converters.errors import EnvironmentMissingError
from converters.progress import Silent
from edge_agent.core.model_card import checked_card
from edge_agent.errors import ConfigError
from tests.simulators.float_models import digits_and_wine

ROWS = f"{Path(world.__file__)}:rows"


@pytest.fixture(scope="module")
def sets():
    return {split: world.draw(split) for split in world.COUNTS}


def test_the_same_split_is_drawn_every_time(sets):
    again = world.draw("calibration")
    assert all(np.array_equal(sets["calibration"][key], again[key]) for key in again)


def test_rows_have_the_promised_shapes_and_every_code(sets):
    for split, count in world.COUNTS.items():
        drawn = sets[split]
        assert drawn["pixels"].shape == (count, world.SIDE, world.SIDE, 3)
        assert drawn["pixels"].dtype == np.uint8
        assert drawn["readings"].shape == (count, len(world.UNITS))
        assert set(drawn["labels"]) == set(range(10))


def test_no_wine_of_the_test_set_is_in_another_set(sets):
    """A wine is its thirteen readings; no two of the collection agree in all of them."""
    tested = {tuple(row) for row in sets["test"]["readings"]}
    for split in ("train", "calibration"):
        assert not tested & {tuple(row) for row in sets[split]["readings"]}


def score(sets, *parts):
    """Accuracy of nearest neighbours on those inputs, each scaled by its own spread."""

    def values(split):
        found = {
            "image": sets[split]["pixels"][:, ::4, ::4].mean(axis=3).reshape(world.COUNTS[split], -1) / 100.0,
            "chemistry": (sets[split]["readings"] - mean) / std,
        }
        return np.hstack([found[part] for part in parts])

    mean, std = world.scaling()
    neighbours = KNeighborsClassifier(5).fit(values("train"), sets["train"]["labels"])
    return neighbours.score(values("test"), sets["test"]["labels"])


def test_neither_input_alone_is_enough(sets):
    assert score(sets, "image") < 0.5  # a digit leaves three cultivars open
    assert score(sets, "chemistry") < 0.2  # a cultivar leaves all ten digits open
    assert score(sets, "image", "chemistry") > 0.6


def test_raw_ranges_differ_by_more_than_a_thousand(sets):
    """What makes this a hard case: one scale for all sensors would leave the small ones no step."""
    spans = np.ptp(sets["train"]["readings"], axis=0)
    assert spans.max() / spans.min() > 1000


@pytest.fixture(scope="module")
def opened():
    """(the hybrid with the world's card, the world's rows as a data set)"""
    model = DeviceModel(digits_and_wine().content, card=world.card())
    return model, open_dataset(ROWS, model.card)


def test_the_card_is_one_and_the_rows_fit_it(sets, opened):
    checked_card(world.card(), "world", ConfigError)
    _, dataset = opened
    rows = dataset.rows("test")
    assert len(rows) == world.COUNTS["test"]
    example = dataset.example(rows[7])
    assert np.array_equal(example.images["image"], sets["test"]["pixels"][7])
    assert list(example.features.values()) == sets["test"]["readings"][7].tolist()
    assert example.labels == {"code": sets["test"]["labels"][7]}


def test_training_gets_what_the_device_makes_of_a_row(sets, opened, tmp_path):
    folder = trained.arrays(tmp_path)
    model, dataset = opened
    prepared = model.prepare(dataset.example(dataset.rows("test")[3]))
    image = np.load(folder / "test-image.npy")[3].astype(np.float32) / np.float32(255)
    assert np.allclose(prepared["image"][0], image, atol=1e-6)
    assert np.allclose(prepared["chemistry"][0], np.load(folder / "test-chemistry.npy")[3], atol=1e-6)
    assert np.load(folder / "test-code.npy")[3] == sets["test"]["labels"][3]


def test_a_table_is_markdown_with_numbers_at_the_right():
    text = table.markdown(("name", "value"), [["a|b", "1"]])
    assert text.splitlines() == ["| name | value |", "| --- | ---: |", "| a\\|b | 1 |"]


def test_a_table_replaces_the_one_before_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmark: routes -->\nold\n<!-- end: routes -->\nafter\n")
    table.write_between("routes", "new", page)
    table.write_between("routes", "newer", page)
    assert page.read_text() == "before\n<!-- benchmark: routes -->\nnewer\n<!-- end: routes -->\nafter\n"
    with pytest.raises(ValueError, match="techniques"):
        table.write_between("techniques", "x", page)


def test_a_missing_environment_is_a_row_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CONVERT_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("EDGE_CONVERT_TORCH", raising=False)
    row = routes.route("torch", tmp_path, tmp_path, quick=True, limit=1, progress=Silent())
    assert row[0] == "torch"
    assert "environment" in row[1]
    assert len(row) == len(routes.COLUMNS)


@pytest.mark.keras
def test_the_benchmark_runs_a_route_and_a_technique(tmp_path, capsys):
    keras_environment()
    assert main(["--quick", "--routes", "keras3", "--techniques", "int8", "--folder", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines}
    trained_score, float_score = (float(cell) for cell in cells["keras3"][:2])
    assert abs(trained_score - float_score) < 0.06  # 900 rows there, 200 here
    assert float(cells["int8"][2]) > 0.9  # agreement
    assert cells["float32"][2] == "1.0000"


def keras_environment():
    try:
        python_of("keras")
    except EnvironmentMissingError as error:
        pytest.skip(str(error))


def test_the_documentation_has_a_place_for_both_tables():
    page = table.PAGE.read_text()
    for name in ("routes", "techniques"):
        assert page.count(f"<!-- benchmark: {name} -->") == page.count(f"<!-- end: {name} -->") == 1
