"""Data sets in the forms that users have them, read for a card: what they mean, and what is refused and how."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.datasets import open_dataset
from converters.datasets.columns import Column
from converters.datasets.splits import CALIBRATION_MOST, divide
from converters.records import Box
from edge_agent.core.card_schema import Feature
from edge_agent.core.physical_units import QUANTITIES
from edge_agent.errors import ConfigError
from tests.converters.dataset_folders import (
    ANOMALY,
    CLASSIFICATION,
    DETECTION,
    FEATURES,
    REGRESSION,
    card,
    picture,
    write_pictures,
    write_table,
)

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"
HEADER = ("image", "weight", "temperature", "label")


@pytest.fixture
def folder(tmp_path):
    """Ten pictures and a samples.csv that fits the card."""
    names = write_pictures(tmp_path, 10, "images/{}.png")
    rows = [(name, 100 + number, 50.5, ("good", "hollow", "worn")[number % 3]) for number, name in enumerate(names)]
    write_table(tmp_path, HEADER, rows)
    return tmp_path


def refused(spec, resolved, **options):
    with pytest.raises(ConfigError) as caught:
        open_dataset(str(spec), resolved, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def one_row(folder, header, row, resolved=None):
    """The only example of a table with one row; its picture is image.png where the header has one."""
    write_pictures(folder, 1, "image.png")
    write_table(folder, header, [row])
    return open_dataset(str(folder), resolved or card()).example(0)


# -- a folder with a CSV


def test_a_folder_with_a_csv_gives_pictures_features_and_labels(folder):
    dataset = open_dataset(str(folder), card())
    example = dataset.example(4)
    assert len(dataset) == 10
    assert example.id == "images/4.png"
    np.testing.assert_array_equal(example.images["image"], picture(4))
    assert example.features == {"weight": 104.0, "temperature": 50.5}
    assert example.labels == {"fault": 1}
    assert (example.filled, example.trained, dataset.notes[:-1]) == ((), None, ())


def test_reading_a_row_twice_gives_the_same(folder):
    dataset = open_dataset(str(folder), card())
    first, second = dataset.example(3), dataset.example(3)
    np.testing.assert_array_equal(first.images["image"], second.images["image"])
    assert (first.id, first.features, first.labels) == (second.id, second.features, second.labels)


def test_the_csv_itself_can_be_named_and_need_not_be_called_samples(folder):
    (folder / "samples.csv").rename(folder / "mine.csv")
    by_folder, by_file = (open_dataset(str(spec), card()) for spec in (folder, folder / "mine.csv"))
    assert len(by_folder) == len(by_file) == 10
    assert by_folder.sha256() == by_file.sha256()


def test_the_table_of_the_documentation_is_read(tmp_path):
    (table,) = re.findall(r"```csv\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "samples.csv").write_text(table)
    write_pictures(tmp_path, 3, "images/000{}.png")
    features = [*FEATURES, Feature(name="vibration", unit="mm/s", mean=2.0)]
    dataset = open_dataset(str(tmp_path), card(features=features, classes=("good", "worn_bearing")))
    first, second = dataset.example(0), dataset.example(1)
    assert first.features == pytest.approx({"weight": 118.2, "temperature": 51.8889, "vibration": 2.51}, abs=1e-4)
    assert (first.id, second.filled, second.labels) == ("p-1", ("temperature",), {"fault": 1})
    assert (dataset.rows("train"), dataset.rows("test")) == ((0,), (1,))


def test_of_several_tables_samples_csv_is_taken_and_none_is_guessed(folder):
    (folder / "other.csv").write_text("nothing\n1\n")
    assert len(open_dataset(str(folder), card())) == 10
    (folder / "samples.csv").rename(folder / "mine.csv")
    assert "mine.csv, other.csv" in refused(folder, card())


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_any_usual_kind_of_csv_is_read(tmp_path, delimiter, end, encoding):
    write_pictures(tmp_path, 1, "a b.png")
    row = ('"a b.png"', " 104.5", "50 ", "worn")
    write_table(tmp_path, HEADER, [row, ("", "", "", "")], delimiter=delimiter, end=end, encoding=encoding)
    dataset = open_dataset(str(tmp_path), card())
    assert len(dataset) == 1
    assert dataset.example(0).features == {"weight": 104.5, "temperature": 50.0}
    assert dataset.example(0).labels == {"fault": 2}


def test_a_column_without_a_name_is_left_out(tmp_path):
    example = one_row(tmp_path, ("", *HEADER), ("0", "image.png", "1", "2", "good"))
    assert example.features == {"weight": 1.0, "temperature": 2.0}


def test_a_unit_in_brackets_is_converted_to_the_cards(tmp_path):
    header = ("image", "weight [kg]", "temperature[degF]", "label")
    example = one_row(tmp_path, header, ("image.png", "0.1", "212", "0"))
    assert example.features == pytest.approx({"weight": 100.0, "temperature": 100.0})


def test_a_label_of_a_regression_may_have_a_unit(tmp_path):
    header = ("image", "label [cm]")
    example = one_row(tmp_path, header, ("image.png", "1.5"), card([REGRESSION], features=()))
    assert example.labels == pytest.approx({"wear": 15.0})


def units_of_one_quantity():
    return st.sampled_from(sorted(QUANTITIES)).flatmap(
        lambda quantity: st.tuples(*[st.sampled_from(sorted(QUANTITIES[quantity]))] * 2)
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(units=units_of_one_quantity(), value=st.floats(-1e6, 1e6))
def test_a_value_written_in_any_unit_of_the_quantity_comes_back(tmp_path, units, value):
    card_unit, file_unit = units
    resolved = card(features=[Feature(name="it", unit=card_unit)])
    from edge_agent.core.physical_units import conversion

    to_file = Column("it", *conversion(card_unit, file_unit))
    written = to_file.convert(value)
    example = one_row(tmp_path, ("image", f"it [{file_unit}]"), ("image.png", repr(written)), resolved)
    scale = max(abs(value), abs(to_file.offset / to_file.scale), 1e-300)
    assert example.features["it"] == pytest.approx(value, rel=1e-9, abs=1e-9 * scale)


@pytest.mark.parametrize("cell", ["", "nan", "NaN", " "])
def test_an_empty_cell_or_nan_is_missing_and_the_cards_fill_stands_in(tmp_path, cell):
    example = one_row(tmp_path, HEADER, ("image.png", cell, cell, "good"))
    assert example.features == {"weight": 100.0, "temperature": 20.0}  # the mean, and the fill that the card says
    assert example.filled == ("weight", "temperature")


def test_a_feature_with_a_reserved_name_is_written_with_its_prefix(tmp_path):
    resolved = card(features=[Feature(name="id"), Feature(name="label")])
    example = one_row(
        tmp_path, ("image", "id", "feature/id", "feature/label [K]"), ("image.png", "x", "3", "4"), resolved
    )
    assert (example.id, example.features) == ("x", {"id": 3.0, "label": 4.0})


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("heavy", "found 'heavy', a number is needed"),
        ("1_000", "found '1_000'"),
        ("inf", "a finite number is needed"),
        ('"1,5"', "write a decimal point"),
    ],
)
def test_what_is_no_number_is_told_with_file_line_and_column(tmp_path, cell, told):
    write_pictures(tmp_path, 1, "image.png")
    write_table(tmp_path, HEADER, [("image.png", "1", "2", "good"), ("image.png", cell, "2", "good")])
    message = refused(tmp_path, card())
    assert f'{tmp_path / "samples.csv"}, line 3, column "weight": ' in message
    assert told in message


def test_a_missing_feature_names_it_the_columns_and_the_nearest(folder):
    text = (folder / "samples.csv").read_text().replace("temperature", "Temprature [degC]")
    (folder / "samples.csv").write_text(text)
    message = refused(folder, card())
    assert 'no column "temperature"' in message
    assert 'did you mean "Temprature [degC]"?' in message
    assert 'columns found: "image", "weight"' in message


def test_an_unknown_pair_of_units_is_refused(folder):
    text = (folder / "samples.csv").read_text().replace("temperature", "temperature [bar]")
    (folder / "samples.csv").write_text(text)
    message = refused(folder, card())
    assert '"bar" can\'t be converted to "degC"' in message
    assert 'column "temperature [bar]"' in message


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (("picture", "weight", "temperature"), 'no column "image/image" or "image"'),
        (("image", "weight", "weight [kg]", "temperature"), "leave one out"),
        (("image", "weight", "temperature", "temperature"), "two columns are named 'temperature'"),
        (("image", "weight", "temperature", "Label"), "write 'label'"),
        (("image", "weight", "temperature", "label/wear"), 'name it "label/fault"'),
        (("image", "weight", "temperature", "boxes"), "the card has no output of detection"),
        (("image", "weight", "temperature", "label [mm]"), "is no regression"),
    ],
)
def test_a_header_that_does_not_fit_the_card_is_refused(tmp_path, header, told):
    write_pictures(tmp_path, 1, "image.png")
    write_table(tmp_path, header, [["image.png", *["1"] * (len(header) - 1)]])
    assert told in refused(tmp_path, card())


def test_columns_that_nothing_uses_are_noted(tmp_path):
    write_pictures(tmp_path, 1, "image.png")
    write_table(tmp_path, (*HEADER, "operator"), [("image.png", "1", "2", "0", "me")])
    assert any('columns that nothing uses: "operator"' in note for note in open_dataset(str(tmp_path), card()).notes)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the first row is empty"),
        (b"image,label\n", "the data set has no rows"),
        (b"image,label\nx.png\n", "line 2: 1 cells, the header has 2"),
        ("image,label\nx\u00e9.png,0\n".encode("latin-1"), "not UTF-8"),
        (b'image,label\n"x.png,0\n', "not a CSV file"),
        (b"image,label\n,0\n", 'line 2, column "image": empty'),
        (b"image,label\nx.png,0\n", "no such file"),
        (b"image,label\na\\x.png,0\n", "write / between folders"),
    ],
)
def test_a_table_that_is_damaged_is_refused_when_it_is_opened(tmp_path, content, told):
    (tmp_path / "samples.csv").write_bytes(content)
    assert told in refused(tmp_path, card(features=()))


def test_a_picture_that_is_gone_is_found_at_opening_a_damaged_one_at_reading(folder):
    (folder / "images/7.png").write_bytes(b"no picture")
    dataset = open_dataset(str(folder), card())
    with pytest.raises(ConfigError, match=r"samples\.csv, line 9: .*7\.png: not a picture"):
        dataset.example(7)
    (folder / "images/7.png").unlink()
    assert "line 9" in refused(folder, card())


def test_a_model_that_takes_several_pictures_names_each_column(tmp_path):
    left, right = write_pictures(tmp_path, 2)
    write_table(tmp_path, ("image/left", "image/right"), [(left, right)])
    resolved = card(images=("left", "right"), features=())
    example = open_dataset(str(tmp_path), resolved).example(0)
    np.testing.assert_array_equal(example.images["left"], picture(0))
    np.testing.assert_array_equal(example.images["right"], picture(1))
    write_table(tmp_path, ("image/left", "image"), [(left, right)])
    assert 'no column "image/right"' in refused(tmp_path, resolved)


def test_a_model_without_pictures_needs_none(tmp_path):
    write_table(tmp_path, ("weight", "temperature", "label"), [(1, 2, "worn")])
    example = open_dataset(str(tmp_path), card(images=())).example(0)
    assert (example.id, example.images, example.labels) == ("row-1", {}, {"fault": 2})


# -- labels


@pytest.mark.parametrize(
    ("output", "cell", "label"),
    [
        (CLASSIFICATION, "hollow", 1),
        (CLASSIFICATION, "2", 2),
        (CLASSIFICATION, "2.0", 2),
        (REGRESSION, "-1.25e2", -125.0),
        (ANOMALY, "1", True),
        (ANOMALY, "False", False),
        (DETECTION, '"[[""worn"", 0.1, 0.2, 0.3, 0.4]]"', (Box(2, (0.1, 0.2, 0.3, 0.4)),)),
        (DETECTION, '"[[0, 0, 0, 1, 1], [1, 0, 0, 1, 1]]"', (Box(0, (0, 0, 1, 1)), Box(1, (0, 0, 1, 1)))),
        (DETECTION, "[]", ()),
    ],
)  # fmt: skip
def test_a_label_is_what_the_task_says(tmp_path, output, cell, label):
    column = "boxes" if output is DETECTION else "label"
    example = one_row(tmp_path, ("image", column), ("image.png", cell), card([output], features=()))
    assert example.labels == {output.name: label}


@pytest.mark.parametrize(
    ("output", "cell", "told"),
    [
        (CLASSIFICATION, "holow", '(did you mean "hollow"?); allowed are "good", "hollow", "worn", or an index'),
        (CLASSIFICATION, "3", "out of range"),
        (CLASSIFICATION, "-1", "is no class"),
        (REGRESSION, "much", "a number is needed"),
        (ANOMALY, "2", "1 or true for anomalous"),
        (DETECTION, "worn", "is no JSON"),
        (DETECTION, '"[[9, 0, 0, 1, 1]]"', "class 9 is out of range"),
        (DETECTION, '"[[0, 0, 0, 120, 80]]"', "divide pixels by its width and height"),
        (DETECTION, '"[[0, 0.5, 0, 0.2, 1]]"', "is empty: x0 < x1"),
        (DETECTION, '"[[0, 0.5, 0]]"', "as a box"),
    ],
)  # fmt: skip
def test_a_label_that_can_not_be_is_told_with_what_is_allowed(tmp_path, output, cell, told):
    column = "boxes" if output is DETECTION else "label"
    write_pictures(tmp_path, 1, "image.png")
    write_table(tmp_path, ("image", column), [("image.png", cell)])
    message = refused(tmp_path, card([output], features=()))
    assert told in message
    assert f'line 2, column "{column}"' in message


def test_a_class_whose_name_is_a_number_goes_by_its_name(tmp_path):
    example = one_row(tmp_path, ("image", "label"), ("image.png", "1"), card(features=(), classes=("3", "2", "1")))
    assert example.labels == {"fault": 2}


def test_a_name_that_two_classes_have_is_no_class(tmp_path):
    write_pictures(tmp_path, 1, "image.png")
    write_table(tmp_path, ("image", "label"), [("image.png", "???")])
    assert "give the index" in refused(tmp_path, card(features=(), classes=("???", "good", "???")))


def test_without_labels_in_the_card_an_index_is_needed(tmp_path):
    resolved = card(features=(), classes=())
    assert one_row(tmp_path, ("image", "label"), ("image.png", "7"), resolved).labels == {"fault": 7}
    write_table(tmp_path, ("image", "label"), [("image.png", "cat")])
    assert "the card has no labels" in refused(tmp_path, resolved)


def test_several_outputs_have_a_column_each(tmp_path):
    resolved = card([CLASSIFICATION, REGRESSION, DETECTION], features=())
    header = ("image", "label/fault", "label/wear", "boxes")
    example = one_row(tmp_path, header, ("image.png", "good", "0.5", "[]"), resolved)
    assert example.labels == {"fault": 0, "wear": 0.5, "objects": ()}
    write_table(tmp_path, ("image", "label"), [("image.png", "good")])
    assert 'name it "label/fault" or "label/wear"' in refused(tmp_path, resolved)


def test_a_data_set_may_have_no_labels_at_all(folder):
    lines = (folder / "samples.csv").read_text().splitlines()
    (folder / "samples.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    dataset = open_dataset(str(folder), card())
    assert all(dataset.example(row).labels == {} for row in range(len(dataset)))


def test_truth_that_only_some_test_rows_have_is_refused_and_calibration_rows_need_none(tmp_path):
    names = write_pictures(tmp_path, 4)
    header = ("image", "label", "split")
    rows = [
        (names[0], "good", "train"),
        (names[1], "", "calibration"),
        (names[2], "good", "test"),
        (names[3], "0", "test"),
    ]
    write_table(tmp_path, header, rows)
    assert open_dataset(str(tmp_path), card(features=())).example(1).labels == {}
    write_table(tmp_path, header, [*rows[:3], (names[3], "", "test")])
    message = refused(tmp_path, card(features=()))
    assert "1 of 2 test rows have no label/fault" in message
    assert "line 5" in message


# -- splits


def test_what_is_not_split_gives_every_fifth_row_for_test(folder):
    dataset = open_dataset(str(folder), card())
    assert tuple(dataset.rows("test")) == (4, 9)
    assert tuple(dataset.rows("train")) == (0, 1, 2, 3, 5, 6, 7, 8)
    assert set(dataset.rows("calibration")) <= set(dataset.rows("train"))


def test_a_split_column_is_followed_and_validation_calibrates(tmp_path):
    names = write_pictures(tmp_path, 5)
    words = ("Train", "test", "validation", "val", "calibration")
    write_table(tmp_path, ("image", "split"), list(zip(names, words, strict=True)))
    dataset = open_dataset(str(tmp_path), card(features=()))
    assert [tuple(dataset.rows(split)) for split in ("train", "calibration", "test")] == [(0,), (2, 3, 4), (1,)]
    assert any("only 3 rows to calibrate with" in note for note in dataset.notes)
    write_table(tmp_path, ("image", "split"), [(names[0], "holdout")])
    assert "found 'holdout'; allowed are train, calibration, validation, val, test" in refused(
        tmp_path, card(features=())
    )


SPLITS = st.lists(st.sampled_from([None, "train", "calibration", "test"]), min_size=1, max_size=60)


@given(splits=SPLITS)
def test_no_row_that_tests_is_trained_or_calibrated_on_and_none_is_lost(splits):
    division = divide(splits)
    assert division.test
    assert not set(division.test) & {*division.train, *division.calibration}
    assert {*division.test, *division.train, *division.calibration} == set(range(len(splits)))
    for rows in (division.train, division.calibration, division.test):
        assert list(rows) == sorted(set(rows))
    for number, split in enumerate(splits):
        if split == "test":
            assert number in division.test


@given(count=st.integers(5, 300), more=st.integers(0, 50))
def test_rows_that_are_appended_change_nothing_for_those_before(count, more):
    before, after = divide([None] * count), divide([None] * (count + more))
    assert before.test == tuple(row for row in after.test if row < count)
    assert before.train == tuple(row for row in after.train if row < count)


def test_calibration_rows_are_spread_over_training_rows_sorted_by_class():
    division = divide(["train"] * 3000 + ["test"])
    assert len(division.calibration) == CALIBRATION_MOST
    assert all(sum(low <= row < low + 300 for row in division.calibration) == 30 for low in range(0, 2701, 90))
    assert max(division.calibration) >= 2980


def test_a_data_set_without_test_rows_gives_some_and_says_so():
    division = divide(["train"] * 10)
    assert division.test == (4, 9)
    assert "no row is for test: 2 of the train rows are taken for it" in division.notes
    assert divide(["calibration"] * 10).test == (4, 9)


def test_of_a_few_rows_the_last_one_tests():
    assert divide([None] * 3).test == (2,)
    assert divide([None] * 3).train == (0, 1)
    assert divide([None]).test == (0,)


def test_a_data_set_of_test_rows_alone_tests_and_says_what_is_wanting_to_calibrate(tmp_path):
    names = write_pictures(tmp_path, 3)
    write_table(tmp_path, ("image", "split"), [(name, "test") for name in names])
    dataset = open_dataset(str(tmp_path), card(features=()))
    assert tuple(dataset.rows("test")) == (0, 1, 2)
    with pytest.raises(ConfigError, match=r"no rows for calibration \(3 test\): mark some as calibration or train"):
        dataset.rows("calibration")


# -- ids and hashes


def test_ids_that_stand_twice_are_told_apart(tmp_path):
    write_pictures(tmp_path, 1, "a.png")
    write_table(tmp_path, ("image", "id"), [("a.png", "x"), ("a.png", "x"), ("a.png", "x#2"), ("a.png", "")])
    dataset = open_dataset(str(tmp_path), card(features=()))
    ids = [dataset.example(row).id for row in range(4)]
    assert len(set(ids)) == 4
    assert (ids[0], ids[2], ids[3]) == ("x", "x#2", "a.png")


def test_the_hash_is_of_the_table_and_of_every_picture(folder, tmp_path):
    first = open_dataset(str(folder), card()).sha256()
    assert first == open_dataset(str(folder), card()).sha256()
    cv2.imwrite(str(folder / "images/3.png"), picture(99))
    second = open_dataset(str(folder), card()).sha256()
    (folder / "samples.csv").write_text((folder / "samples.csv").read_text().replace("50.5", "50.6"))
    third = open_dataset(str(folder), card()).sha256()
    assert len({first, second, third}) == 3


# -- a folder for each class


def test_a_folder_for_each_class_needs_no_csv(tmp_path):
    for number, name in enumerate(("good", "hollow", "worn")):
        write_pictures(tmp_path, 2 + number, name + "/{}.png")
    dataset = open_dataset(str(tmp_path), card(features=()))
    assert [dataset.example(row).labels["fault"] for row in range(len(dataset))] == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert dataset.example(2).id == "hollow/0.png"


def test_folders_of_splits_may_hold_those_of_classes(tmp_path):
    for split in ("train", "val", "test"):
        write_pictures(tmp_path, 2, split + "/worn/{}.png")
    dataset = open_dataset(str(tmp_path), card(features=()))
    assert [len(dataset.rows(split)) for split in ("train", "calibration", "test")] == [2, 2, 2]


def test_pictures_straight_in_a_folder_have_no_labels(tmp_path):
    write_pictures(tmp_path, 3)
    assert open_dataset(str(tmp_path), card(features=())).example(0).labels == {}


@pytest.mark.parametrize(
    ("files", "resolved", "told"),
    [
        (("good/{}.png",), card(), "write {folder}/samples.csv"),
        (("goood/{}.png",), card(features=()), 'did you mean "good"?'),
        (("good/{}.png", "{}.png"), card(features=()), "different depths"),
        (("fold/good/{}.png",), card(features=()), "allowed are train"),
        (("good/{}.png",), card([REGRESSION], features=()), "the card has 0 classifications"),
        ((), card(features=()), "no pictures in it"),
    ],
)
def test_folders_that_do_not_say_everything_are_refused(tmp_path, files, resolved, told):
    for names in files:
        write_pictures(tmp_path, 1, names)
    assert told.format(folder=tmp_path) in refused(tmp_path, resolved)


# -- .npz


def arrays(count=6, **more):
    """What a training script saves: RGB pictures, features in the card's order, class numbers."""
    rgb = np.stack([picture(number)[..., ::-1] for number in range(count)])
    features = np.arange(2.0 * count).reshape(count, 2)
    return {"image": rgb, "features": features, "label": np.arange(count) % 3, **more}


def saved(folder, **content):
    np.savez(folder / "data.npz", **{name: value for name, value in content.items() if value is not None})
    return folder / "data.npz"


def test_an_npz_has_rgb_pictures_and_features_in_the_cards_order(tmp_path):
    dataset = open_dataset(str(saved(tmp_path, **arrays())), card())
    example = dataset.example(4)
    np.testing.assert_array_equal(example.images["image"], picture(4))
    assert example.features == {"weight": 8.0, "temperature": 9.0}
    assert (example.labels, example.id) == ({"fault": 1}, "row-5")


def test_an_npz_may_name_its_features_with_units_in_another_order(tmp_path):
    more = {"feature_names": np.array(["temperature", "other", "weight"]), "feature_units": np.array(["K", "", "kg"])}
    path = saved(tmp_path, **arrays(2, features=np.array([[273.15, 1, 2], [np.nan, 1, 3]]), **more))
    dataset = open_dataset(str(path), card())
    assert dataset.example(0).features == pytest.approx({"temperature": 0.0, "weight": 2000.0})
    assert dataset.example(1).filled == ("temperature",)


def test_an_npz_may_have_an_array_for_each_feature(tmp_path):
    more = {"weight": np.array([1, 2]), "feature/temperature [K]": np.array([273.15, 274.15], np.float64)}
    path = saved(tmp_path, **arrays(2, features=None, **more))
    assert open_dataset(str(path), card()).example(1).features == pytest.approx({"weight": 2.0, "temperature": 1.0})


@pytest.mark.parametrize("shape", [(3, 6, 8), (3, 6, 8, 1)])
def test_grey_pictures_of_an_npz_become_bgr(tmp_path, shape):
    grey = np.arange(3 * 48).reshape(shape).astype(np.uint8)
    example = open_dataset(str(saved(tmp_path, image=grey)), card(features=())).example(2)
    assert example.images["image"].shape == (6, 8, 3)
    assert (example.images["image"] == grey[2].reshape(6, 8, 1)).all()


def test_texts_splits_ids_and_training_inputs_of_an_npz(tmp_path):
    more = {
        "label": np.array(["worn", "good", ""]),
        "split": np.array([b"train", b"test", b"calibration"]),
        "id": np.array(["a", "b", "c"]),
        "trained/image": np.ones((3, 4, 4, 3), np.float64),
    }
    dataset = open_dataset(str(saved(tmp_path, **arrays(3, features=None, **{**more}))), card(features=()))
    example = dataset.example(0)
    assert (example.id, example.labels) == ("a", {"fault": 2})
    assert tuple(dataset.rows("test")) == (1,)
    assert example.trained["image"].shape == (4, 4, 3)
    assert example.trained["image"].dtype == np.float32


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": np.zeros((6, 4, 4, 3), np.float32)}, "multiply pixels in 0..1 by 255"),
        ({"image": np.zeros((6, 4, 4, 3), np.int64)}, "use .astype('uint8')"),
        ({"image": np.zeros((6, 4, 4, 4), np.uint8)}, "(n, height, width, 3) uint8 RGB"),
        ({"image": None, "images": np.zeros((6, 4, 4, 3), np.uint8)}, 'arrays found: "label", "images"'),
        ({"features": np.zeros((6, 3))}, "one column for each feature of the card: weight, temperature"),
        ({"features": np.zeros((6, 2)), "feature_units": np.array(["g"])}, "feature_units has 1"),
        ({"features": np.zeros((5, 2))}, "different numbers of rows: 'image' 6"),
        ({"features": np.full((6, 2), np.inf)}, 'row 0, array "feature/weight": found inf'),
        ({"label": np.eye(6)}, "use .argmax(axis=1)"),
        ({"label": np.array([0, 1, 2, 3, 0, 0])}, "row 3, array \"label\": class 3 is out of range"),
        ({"label": np.array([{}] * 6, object)}, "save plain arrays"),
        ({"trained/picture": np.zeros((6, 2))}, "'picture': the model's inputs are 'image', 'sensors'"),
        ({"trained/image": np.full((6, 2), np.nan)}, "not finite"),
    ],
)  # fmt: skip
def test_an_npz_that_does_not_fit_is_refused(tmp_path, change, told):
    assert told in refused(saved(tmp_path, **{**arrays(), **change}), card())


def test_a_damaged_npz_is_refused(tmp_path):
    path = saved(tmp_path, **arrays())
    content = bytearray(path.read_bytes())
    content[300:320] = bytes(20)
    path.write_bytes(content)
    assert "can't be read" in refused(path, card())
    path.write_bytes(content[:400])
    assert "not an .npz that can be read" in refused(path, card())


def test_labels_of_shape_n_by_1_are_labels(tmp_path):
    path = saved(tmp_path, **arrays(label=np.arange(6).reshape(6, 1) % 3))
    assert open_dataset(str(path), card()).example(5).labels == {"fault": 2}


def test_the_hash_of_an_npz_is_of_its_content(tmp_path):
    first = open_dataset(str(saved(tmp_path, **arrays())), card()).sha256()
    second = open_dataset(str(saved(tmp_path, **arrays(label=np.zeros(6)))), card()).sha256()
    assert first != second


# -- a function


def function(folder, body, head="import numpy as np\nimport cv2\n"):
    path = folder / "rows.py"
    path.write_text(f"{head}\n{body}\n")
    return f"{path}:rows"


ROWS = """
def rows():
    for number in range(7):
        yield {
            "id": f"n{number}",
            "split": "test" if number > 4 else "train",
            "image": np.full((4, 5 + number, 3), number, np.uint8),
            "features": {"weight": np.float32(number), "temperature": None},
            "label": "worn" if number else 0,
            "trained": {"image": np.full((2, 2, 3), number / 255)},
        }
"""


def test_a_function_yields_rows(tmp_path):
    dataset = open_dataset(function(tmp_path, ROWS), card())
    example = dataset.example(3)
    assert (len(dataset), tuple(dataset.rows("test"))) == (7, (5, 6))
    assert example.images["image"].shape == (4, 8, 3)
    assert (example.images["image"] == 3).all()
    assert (example.features, example.filled) == ({"weight": 3.0, "temperature": 20.0}, ("temperature",))
    assert (example.id, example.labels, dataset.example(0).labels) == ("n3", {"fault": 2}, {"fault": 0})
    assert example.trained["image"].dtype == np.float32
    assert example.trained["image"][0, 0, 0] == np.float32(3 / 255)


def test_a_function_is_drawn_once_however_often_rows_are_read(tmp_path):
    counting = ROWS.replace("def rows():", "calls = []\ndef rows():\n    calls.append(1); assert len(calls) == 1")
    dataset = open_dataset(function(tmp_path, counting), card())
    assert dataset.example(6).id == dataset.example(6).id == "n6"


def test_a_function_with_a_parameter_split_is_called_for_each(tmp_path):
    body = "def rows(split):\n    yield {'id': split, 'image': np.zeros((2, 2, 3), np.uint8), 'label': 1}"
    dataset = open_dataset(function(tmp_path, body), card(features=()))
    for split in ("train", "calibration", "test"):
        assert [dataset.example(row).id for row in dataset.rows(split)] == [split]


def test_a_function_may_give_paths_beside_its_file_and_several_pictures(tmp_path):
    write_pictures(tmp_path, 2)
    body = "def rows():\n    return [{'images': {'left': '0.png', 'right': cv2.imread(__file__[:-7] + '1.png')}}]"
    dataset = open_dataset(function(tmp_path, body), card(images=("left", "right"), features=()))
    example = dataset.example(0)
    np.testing.assert_array_equal(example.images["left"], picture(0))
    np.testing.assert_array_equal(example.images["right"], picture(1))


def test_a_function_imports_its_neighbours_and_a_module_can_be_named(tmp_path, monkeypatch):
    (tmp_path / "a_neighbour_of_rows.py").write_text("LABEL = 2\n")
    body = "def rows():\n    from a_neighbour_of_rows import LABEL\n"
    body += "    yield {'image': np.zeros((2, 2, 3), np.uint8), 'label': LABEL}"
    spec = function(tmp_path, body)
    assert open_dataset(spec, card(features=())).example(0).labels == {"fault": 2}
    (tmp_path / "rows.py").rename(tmp_path / "a_module_of_rows.py")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("a_module_of_rows:rows", card(features=())).example(0).labels == {"fault": 2}


def test_what_a_function_prints_is_not_our_output(tmp_path, capfd):
    body = "print('loading')\ndef rows():\n    print('row')\n    yield {'image': np.zeros((2, 2, 3), np.uint8)}"
    open_dataset(function(tmp_path, body), card(features=()))
    assert capfd.readouterr() == ("", "loading\nrow\n")


GOOD = "'image': np.zeros((2, 2, 3), np.uint8), 'features': {'weight': 1, 'temperature': 2}"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (f"def rows():\n    yield {{{GOOD}}}\n    1 / 0", "rows.py, line 6: ZeroDivisionError: division by zero"),
        ("def rows(:", "rows.py, line 4: SyntaxError"),
        ("import no_such_module_anywhere", "line 4: ModuleNotFoundError"),
        ("def row():\n    pass", "has no function 'rows' (did you mean \"row\"?)"),
        ("def rows(folder):\n    pass", "missing 1 required positional argument"),
        ("import sys\ndef rows():\n    sys.exit(3)", "line 6: SystemExit: 3"),
        ("def rows():\n    pass", "returned NoneType"),
        ("def rows():\n    return []", "the data set has no rows"),
        ("def rows():\n    yield 7", "row 1: found 7; a mapping"),
        (f"def rows():\n    yield {{{GOOD}, 'lable': 1}}", "unknown key 'lable' (did you mean \"label\"?)"),
        (f"def rows():\n    yield {{{GOOD}, 'label': 'wron'}}", 'did you mean "worn"?'),
        (f"def rows():\n    yield {{{GOOD}, 'labels': {{'falt': 1}}}}", 'did you mean "fault"?'),
        (f"def rows():\n    yield {{{GOOD}, 'split': 'dev'}}", "allowed are train"),
        (
            f"def rows(split):\n    yield {{{GOOD}, 'split': 'test'}}",
            "yielded for split='train', but says split 'test'",
        ),
        (f"def rows():\n    yield {{{GOOD}, 'trained': {{'img': 1}}}}", "the model's inputs are 'image', 'sensors'"),
        (f"def rows():\n    yield {{**{{{GOOD}}}, 'features': {{'weight': 1}}}}", "no feature 'temperature'"),
        (
            f"def rows():\n    yield {{**{{{GOOD}}}, 'features': {{'weight': 'x', 'temperature': 1}}}}",
            "found 'x', a number",
        ),
        (f"def rows():\n    yield {{**{{{GOOD}}}, 'image': np.zeros((2, 2, 3))}}", "multiply pixels in 0..1 by 255"),
        (f"def rows():\n    yield {{**{{{GOOD}}}, 'image': np.zeros((2, 2), np.uint8)}}", "in the order BGR is needed"),
        (f"def rows():\n    yield {{**{{{GOOD}}}, 'image': 'gone.png'}}", "no such file"),
        (f"def rows():\n    yield {{**{{{GOOD}}}, 'image': [[1]]}}", "a picture is a numpy array"),
        ("def rows():\n    yield {'features': {'weight': 1, 'temperature': 2}}", "no picture for the input 'image'"),
    ],
)
def test_what_is_wrong_with_a_function_is_told_with_its_line_or_row(tmp_path, body, told):
    assert told in refused(function(tmp_path, body), card())


def test_the_hash_of_drawn_rows_is_of_pixels_features_and_labels(tmp_path):
    hashes = set()
    for change in (("", ""), ("(4, 5", "(3, 5"), ("np.float32(number)", "1"), ('"worn"', '"good"'), ("> 4", "> 3")):
        hashes.add(open_dataset(function(tmp_path, ROWS.replace(*change)), card()).sha256())
    assert len(hashes) == 5
    assert open_dataset(function(tmp_path, ROWS), card()).sha256() in hashes


def test_the_benchmarks_world_is_a_data_set():
    pytest.importorskip("sklearn", reason="scikit-learn brings the digits and wines")
    from itertools import islice

    from benchmarks.converters import world

    features = [Feature(**feature) for feature in world.card()["inputs"][1]["features"]]
    resolved = card(features=features, classes=world.LABELS)
    dataset = open_dataset("benchmarks.converters.world:rows", resolved)
    assert [len(dataset.rows(split)) for split in ("train", "calibration", "test")] == list(world.COUNTS.values())
    for number, row in enumerate(islice(world.rows(), 3)):
        example = dataset.example(number)
        np.testing.assert_array_equal(example.images["image"], row["image"])
        assert example.features == row["features"]
        assert (example.id, example.labels["fault"]) == (row["id"], row["label"])


# -- the training's own preprocessing


def test_the_trainings_preprocessing_gets_rgb_and_raw_features(folder):
    (folder / "prep.py").write_text(
        "def prepare(images, features):\n"
        "    assert images['image'].dtype == 'uint8'\n"
        "    return {'image': images['image'] / 255.0, 'sensors': [features['weight'], features['temperature']]}\n"
    )
    example = open_dataset(str(folder), card(), preprocess=f"{folder / 'prep.py'}:prepare").example(2)
    np.testing.assert_array_equal(example.trained["image"], (picture(2)[..., ::-1] / 255.0).astype(np.float32))
    assert example.trained["sensors"].tolist() == [102.0, 50.5]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return {'image': images['image']}", "one array for each of 'image', 'sensors' is needed"),
        ("return 1", "returned 1"),
        ("return {'image': 'x', 'sensors': 1}", "'image' is no array of numbers"),
        ("return {'image': float('nan'), 'sensors': 1}", "not finite"),
        ("return images['picture']", "line 2: KeyError"),
    ],
)
def test_what_the_trainings_preprocessing_does_wrong_is_told(folder, body, told):
    (folder / "prep.py").write_text(f"def prepare(images, features):\n    {body}\n")
    dataset = open_dataset(str(folder), card(), preprocess=f"{folder / 'prep.py'}:prepare")
    with pytest.raises(ConfigError) as caught:
        dataset.example(0)
    assert told in str(caught.value)


def test_preprocessing_is_part_of_what_rows_are_made_from(folder):
    plain = open_dataset(str(folder), card()).sha256()
    (folder / "prep.py").write_text("def prepare(images, features):\n    return {}\n")
    assert open_dataset(str(folder), card(), preprocess=f"{folder / 'prep.py'}:prepare").sha256() != plain


# -- what is none of these


@pytest.mark.parametrize("name", ["data.parquet", "no/such/folder", "rows.py:not a name"])
def test_what_is_no_data_set_names_the_forms(tmp_path, name):
    message = refused(tmp_path / name, card())
    assert "no such file or folder" in message
    assert "FILE.py:FUNCTION" in message


def test_a_file_that_is_no_data_set_is_told_so(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps([]))
    assert "this file is none of the known forms" in refused(tmp_path / "data.json", card())


# -- anything at all


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=80)
    | st.text(st.sampled_from('image,;\t"[]{}\r\n0123.eE-\0labx é\x85\u2028'), max_size=80).map(
        lambda text: b"image,label,boxes,split,weight\n" + text.encode()
    ),
    images=st.sampled_from([(), ("image",)]),
)
def test_whatever_a_table_holds_it_is_read_or_refused_in_one_line(tmp_path, content, images):
    (tmp_path / "samples.csv").write_bytes(content)
    resolved = card([CLASSIFICATION, DETECTION], images=images, features=[Feature(name="weight")])
    try:
        dataset = open_dataset(str(tmp_path), resolved)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert len(dataset) > 0
