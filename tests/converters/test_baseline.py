"""``edge-convert baseline``: the reference says what the device would see of the same rows, and rides in the model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from converters.__main__ import main
from converters.baseline import make_baseline
from converters.commands.inspect import main as inspect_main
from converters.device_model import DeviceModel
from converters.drift_facts import FeatureFacts, facts_of, in_words, reference_facts, require_fit
from converters.embedding import embed
from converters.evaluation import judge, record
from converters.golden import check_golden
from converters.inspection import inspect
from converters.records import Example
from converters.report.distributions import distributions, distributions_png, shape_of
from converters.tflite.archive import bare_model
from edge_agent.core.card_schema import ClassificationOutput
from edge_agent.core.drift.carried import carried
from edge_agent.core.drift.reference import decode_reference, encode_reference
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.model_file import parse_model, read_model
from edge_agent.monitoring import REFERENCE_MEMBER, Categorical, Numeric, Reference
from tests.converters.conveyor import MODEL, draw
from tests.converters.handmade_models import HandmadeModel, float_hybrid
from tests.converters.rows import Rows

COUNT = 60
FUNCTION = f"{Path(__file__).parent}/conveyor.py:rows"
HYBRID_CARD: dict[str, Any] = {
    "inputs": [
        {"role": "image", "tensor": "image"},
        {"role": "features", "tensor": "sensors", "features": [{"name": name} for name in "abc"]},
    ],
    "outputs": [{"task": "classification", "tensor": "fault", "name": "fault"}],
}


@pytest.fixture(scope="module")
def drawn() -> Rows:
    return draw(COUNT)


@pytest.fixture(scope="module")
def model() -> DeviceModel:
    return DeviceModel(MODEL.read_bytes(), path=MODEL)


@pytest.fixture(scope="module")
def reference(model: DeviceModel, drawn: Rows) -> Reference:
    return make_baseline(model, drawn, range(COUNT)).reference


@pytest.fixture(scope="module")
def with_reference(reference: Reference) -> bytes:
    return embed(MODEL, {REFERENCE_MEMBER: encode_reference(reference)})


def counts_of(reference: Reference, name: str) -> tuple[int, ...]:
    return next(c for f, c in zip(reference.binning, reference.counts, strict=True) if f.name == name)


def numeric(reference: Reference, name: str) -> Numeric:
    feature = next(feature for feature in reference.binning if feature.name == name)
    assert isinstance(feature, Numeric)
    return feature


def hybrid_rows(count: int) -> Rows:
    rng = np.random.default_rng(3)
    return Rows(
        [
            Example(
                id=str(number),
                images={"image": rng.integers(0, 255, (8, 8, 3), np.uint8)},
                features={name: float(rng.normal()) for name in "abc"},
                labels={},
            )
            for number in range(count)
        ]
    )


# --- what it says


def test_every_feature_of_model_and_picture_is_there_with_all_rows(reference: Reference) -> None:
    names = [feature.name for feature in reference.binning]
    pictures = ("brightness", "contrast", "sharpness", "red", "green", "blue", "clipped")
    sensors = ["weight", "temperature", "vibration"]
    assert names == [
        *sensors,
        *(f"image.{name}" for name in pictures),
        *("fault.confidence", "fault.entropy", "fault.class"),
    ]
    assert reference.rows == COUNT
    assert all(sum(counts) == COUNT for counts in reference.counts)
    assert numeric(reference, "weight").unit == "g"


def test_a_value_lies_in_the_bin_between_its_edges(reference: Reference, drawn: Rows) -> None:
    weights = [drawn.example(row).features["weight"] for row in range(COUNT)]
    places = np.searchsorted(numeric(reference, "weight").edges, weights, side="right")
    assert counts_of(reference, "weight")[:-1] == tuple(np.bincount(places, minlength=10).tolist())


def test_the_answers_are_those_that_the_device_gives(reference: Reference, model: DeviceModel, drawn: Rows) -> None:
    recorded = record(model, drawn, range(COUNT))
    head = recorded.heads[0]
    assert isinstance(head, ClassificationOutput)
    classes = next(feature for feature in reference.binning if feature.name == "fault.class")
    assert isinstance(classes, Categorical)
    answered = np.bincount(recorded.best(head), minlength=5)
    assert list(counts_of(reference, "fault.class")[:5]) == [answered[number] for number in classes.classes]
    hits = reference.hits["fault"]
    right = sum(right for _, right in hits)
    assert sum(labelled for labelled, _ in hits) == COUNT
    assert right / COUNT == judge(recorded).outputs["fault"].score
    assert sum(reference.confusion["fault"][place][place] for place in range(5)) == right


def test_a_reading_that_was_missing_is_counted_as_missing_and_not_as_its_fill_value(
    model: DeviceModel, drawn: Rows
) -> None:
    examples = [drawn.example(row) for row in range(20)]
    examples[4] = replace(examples[4], features={**examples[4].features, "weight": 120.0}, filled=("weight",))
    found = make_baseline(model, Rows(examples), range(20)).reference
    assert counts_of(found, "weight")[-1] == 1
    assert counts_of(found, "vibration")[-1] == 0


def test_the_same_rows_give_the_same_bytes(model: DeviceModel, drawn: Rows, reference: Reference) -> None:
    again = make_baseline(model, drawn, range(COUNT)).reference
    assert encode_reference(again) == encode_reference(reference)
    assert decode_reference(encode_reference(reference)) == reference


def test_an_embedding_is_projected_by_what_the_file_carries() -> None:
    model = DeviceModel(float_hybrid(embedding=True), card=HYBRID_CARD)
    found = make_baseline(model, hybrid_rows(60), range(60), embedding="both").reference
    names = [feature.name for feature in found.binning if feature.group == "embedding"]
    assert names == [*(f"embedding.{part}" for part in range(8)), "embedding.distance"]
    carried_on = decode_reference(encode_reference(found)).projection
    assert carried_on is not None and found.projection is not None
    assert np.array_equal(carried_on.components, found.projection.components)
    centres = [numeric(found, f"embedding.{part}").edges for part in range(8)]
    assert all(edges[0] < 0 < edges[-1] for edges in centres)
    widths = [edges[-1] - edges[0] for edges in centres]
    assert widths == sorted(widths, reverse=True)  # the largest variance first


def test_an_embedding_that_the_model_has_not_is_named(model: DeviceModel, drawn: Rows) -> None:
    with pytest.raises(ConfigError, match="--embedding pool: the model has no such output; it has fault"):
        make_baseline(model, drawn, range(COUNT), embedding="pool")


def test_a_single_score_is_counted_but_not_judged() -> None:
    graph = HandmadeModel()
    taken, made = graph.tensor("x", (1, 2)), graph.tensor("y", (1, 1))
    graph.op("FULLY_CONNECTED", [taken, graph.constant("w", [[1.0, 1.0]]), -1], [made])
    card = {
        "inputs": [{"role": "features", "tensor": "x", "features": [{"name": "a"}, {"name": "b"}]}],
        "outputs": [{"task": "classification", "tensor": "y", "name": "bad", "activation": "sigmoid"}],
    }
    rows = [Example(str(n), {}, {"a": n / 10, "b": -1.0}, {"bad": n % 2}) for n in range(30)]
    found = make_baseline(DeviceModel(graph.content([taken], [made]), card=card), Rows(rows), range(30)).reference
    assert len(numeric(found, "bad.confidence").edges) == 9
    assert (found.hits, found.confusion) == ({}, {})


# --- what is warned of


def test_too_few_rows_a_constant_and_a_dead_feature_and_no_labels_are_warned_of() -> None:
    examples = [hybrid_rows(50).example(row) for row in range(50)]
    examples = [replace(one, features={**one.features, "a": 1.5}, filled=("b",)) for one in examples]
    said = make_baseline(DeviceModel(float_hybrid(), card=HYBRID_CARD), Rows(examples), range(50)).warnings
    assert [text.split(":")[1].strip() for text in said] == [
        "50 rows",
        "a is the same in every row",
        "b is missing in every row",
        "fault",
    ]
    assert "off by about 0.17" in said[0]
    said = make_baseline(DeviceModel(float_hybrid(), card=HYBRID_CARD), Rows(examples), range(1)).warnings
    assert "1 row: their shares are off by about 0.90 " in said[0]  # ten bins can't be further apart
    assert "no row has a label" in said[-1]


def test_labels_and_moving_features_give_no_warning_but_the_number_of_rows(
    model: DeviceModel, drawn: Rows, reference: Reference
) -> None:
    warnings = make_baseline(model, drawn, range(COUNT)).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: {COUNT} rows")


# --- the command


def without_reference() -> bytes:
    """The shipped model has one."""
    return embed(MODEL, {}, [REFERENCE_MEMBER])


def test_the_reference_goes_into_the_file_and_all_else_stays(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "conveyor.tflite"
    path.write_bytes(without_reference())
    before = read_model(path)
    assert main(["baseline", str(path), "--data", FUNCTION, "--split", "train", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    after = read_model(path)
    assert (answer["ok"], answer["sha256"]) == (True, after.sha256)
    assert answer["reference"]["source"]["split"] == "24 train"
    assert bare_model(after.content) == bare_model(before.content)
    assert {**after.members, **before.members} == after.members
    assert check_golden(after.content, path, delegate="xnnpack").ok
    device = DeviceModel(after.content, path=path)
    found = carried(after.members, device.card, device.outputs)
    assert found.reference is not None
    assert found.reference.rows == 24


def test_the_table_is_shown_and_the_file_named(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.tflite"
    assert main(["baseline", str(MODEL), "--data", FUNCTION, "--split", "all", "--limit", "10", "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert "Drift reference: 10 rows" in said.out
    assert f"wrote {out}" in said.out
    assert "warning: 10 rows" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.keras", "--data", FUNCTION], "convert it first"),
        ([str(MODEL), "--data", "nowhere"], "no such file or folder"),
        ([str(MODEL), "--data", FUNCTION, "-o", "missing/out.tflite"], "make it first"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_says_why(
    arguments: list[str], message: str, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["baseline", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- it belongs to its model


def test_a_reference_of_another_model_is_refused(reference: Reference, tmp_path: Path) -> None:
    other = replace(
        reference, binning=(replace(reference.binning[0], name="mass"), *reference.binning[1:]), counts=reference.counts
    )
    with pytest.raises(
        ModelError, match=r'the reference has "mass".*the reference lacks "weight".*edge-convert baseline'
    ):
        embed(MODEL, {REFERENCE_MEMBER: encode_reference(other)})


def test_a_card_cannot_be_edited_away_from_its_reference(with_reference: bytes, tmp_path: Path, capsys: Any) -> None:
    path, out = tmp_path / "model.tflite", tmp_path / "out.tflite"
    path.write_bytes(with_reference)
    edit = ["card", "edit", str(path), "-o", str(out), "--set"]
    assert main([*edit, "inputs[1].features[0].unit=kg"]) == 2
    assert 'is in "g" in the reference, in "kg" in the model' in capsys.readouterr().err
    assert not out.exists()
    assert main([*edit, "version=2.0.0"]) == 0
    assert REFERENCE_MEMBER in read_model(out).members


def test_one_without_a_card_is_checked_for_its_form_alone(reference: Reference, model: DeviceModel) -> None:
    require_fit({REFERENCE_MEMBER: encode_reference(reference)}, None, model.outputs)
    with pytest.raises(ModelError, match="does not belong"):
        require_fit({REFERENCE_MEMBER: b"{}"}, None, model.outputs)


def test_new_arithmetic_starts_without_a_reference(tmp_path: Path, capsys: Any) -> None:
    trained, out = tmp_path / "float.tflite", tmp_path / "out.tflite"
    card = tmp_path / "card.json"
    card.write_text(json.dumps(HYBRID_CARD))
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(float_hybrid())
    measured = make_baseline(DeviceModel(float_hybrid(), card=HYBRID_CARD), hybrid_rows(40), range(40)).reference
    trained.write_bytes(embed(plain, {REFERENCE_MEMBER: encode_reference(measured)}))
    assert main(["quantize", str(trained), "--card", str(card), "--scheme", "float16", "-o", str(out)]) == 0
    assert REFERENCE_MEMBER not in read_model(out).members
    assert "drift reference is of other arithmetic" in " ".join(capsys.readouterr().err.split())


# --- how it is shown


def test_inspect_shows_it_in_words_in_json_and_as_a_picture(with_reference: bytes, tmp_path: Path, capsys: Any) -> None:
    path, plot = tmp_path / "model.tflite", tmp_path / "plot.png"
    path.write_bytes(with_reference)
    assert inspect_main([str(path), "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert f"Drift reference: {COUNT} rows" in said
    assert "How often fault was right, by its confidence" in said
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert inspect_main([str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["drift"]
    assert [feature["name"] for feature in facts["features"]][:3] == ["weight", "temperature", "vibration"]
    assert (facts["error"], facts["misfit"]) == ("", "")


def test_a_picture_of_a_model_without_a_reference_is_refused(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(without_reference())
    assert main(["inspect", str(path), "--plot", str(tmp_path / "plot.png")]) == 2
    assert "edge-convert baseline" in capsys.readouterr().err


def test_a_report_has_a_section_about_it(with_reference: bytes, tmp_path: Path) -> None:
    path, page = tmp_path / "model.tflite", tmp_path / "page.html"
    path.write_bytes(with_reference)
    assert main(["report", str(path), "-o", str(page)]) == 0
    html = page.read_text()
    assert "What the device compares with" in html
    assert "image.brightness" in html


@pytest.mark.parametrize(
    ("member", "message"), [(b"{", "drift.json"), (b"{}", "schema"), (b'{"schema": "other/1"}', "other/1")]
)
def test_one_that_cannot_be_read_is_said(member: bytes, message: str, model: DeviceModel, tmp_path: Path) -> None:
    facts = reference_facts({REFERENCE_MEMBER: member}, model.card, model.outputs)
    assert facts is not None
    assert message in facts.error
    assert facts.features == ()


def test_a_repeated_value_is_named_and_not_the_edge_beside_it() -> None:
    feature = FeatureFacts("switch", "sensor", "", (0.0, 0.7, 0.0, 0.3, 0.0), 0.25, (-1e-45, 1e-45, 0.999999, 1.000001))
    assert [feature.quantile(share) for share in (0.1, 0.5, 0.9)] == [0, 0, 1]
    assert in_words(feature) == "10 % up to 0, half up to 0, 90 % up to 1, 25.0% missing"
    assert shape_of(feature).spikes == ((0, 0.7), (1, 0.3))


def test_a_feature_that_was_never_there_is_drawn_as_such() -> None:
    feature = FeatureFacts("dead", "sensor", "V", (0.0,), 1.0)
    assert in_words(feature) == "no value, 100.0% missing"
    assert math.isnan(feature.quantile(0.5))
    assert "no value in the reference" in distributions([feature]).svg


def test_names_and_values_of_any_kind_are_drawn_without_harm() -> None:
    shares = (0.25, 0.25, 0.25, 0.25)
    features = [
        FeatureFacts("a\x1b[31m<b>", "sensor", "$x", shares, 0.1, (-1.7e308, 0.0, 1.7e308)),
        FeatureFacts("b", "sensor", "", shares, 0.0, (0.0, 5e-324, 1e-310)),
        FeatureFacts("c", "prediction", "", (0.5, 0.5, 0.0), 0.0, (), ("<script>", "\x07bell", "other")),
    ]
    svg = distributions(features).svg
    assert "too large to draw" in svg
    assert not {"\x1b", "\x07"} & set(svg)
    assert "<script>" not in svg and "<b>" not in svg
    assert distributions_png(features, "\x07").startswith(b"\x89PNG")


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=9, unique=True), st.data())
def test_all_shares_are_drawn_once_as_area_or_as_a_line(steps: list[int], data: st.DataObject) -> None:
    edges = tuple(step / 16 for step in sorted(steps))
    counts = data.draw(st.lists(st.integers(0, 50), min_size=len(edges) + 1, max_size=len(edges) + 1).filter(any))
    shares = tuple(count / sum(counts) for count in counts)
    shape = shape_of(FeatureFacts("x", "sensor", "", shares, 0.0, edges))
    area = sum(np.diff(shape.edges) * shape.heights)
    assert area + sum(share for _, share in shape.spikes) == pytest.approx(1)
    assert (np.diff(shape.edges) > 0).all()


def test_the_facts_of_a_file_are_those_of_the_reference(
    with_reference: bytes, reference: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(with_reference)
    member = parse_model(with_reference, path).members[REFERENCE_MEMBER]
    assert inspect(path, measure=False).drift == facts_of(reference, len(member))
