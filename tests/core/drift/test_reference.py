"""The reference comes out of a model file as it went in, or is refused with what is wrong with it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.reference import (
    decode_reference,
    encode_reference,
    in_order,
    make_reference,
    matches,
)
from edge_agent.errors import ModelError
from edge_agent.monitoring import REFERENCE_MEMBER, Projection, Reference
from edge_agent.records import Array
from tests.core.drift.streams import NAMES, SPECS, rows_of

ROWS = rows_of(2000, seed=11)
ANSWERS = ROWS[:, NAMES.index("class.class")]


def truth() -> Array:
    """Every tenth answer is wrong, every fourth row has no label."""
    classes = ANSWERS.copy()
    classes[::10] = (classes[::10] + 1) % 10
    classes[::4] = math.nan
    return classes


def projection(elements: int = 40) -> Projection:
    random = np.random.default_rng(12)
    mean, components, weights = (
        random.normal(size=shape).astype(np.float16).astype(np.float32) for shape in (elements, (elements, 8), elements)
    )
    return Projection("embedding", mean, components, np.abs(weights))


REFERENCE = make_reference(SPECS, ROWS, {"class": truth()}, projection(), {"data": "line3.csv", "rows": "train"})
MEMBER = encode_reference(REFERENCE)


def same(one: Reference, other: Reference) -> bool:
    """Arrays compare by element, so the projections are held against each other apart from the rest."""
    first, second = one.projection, other.projection
    assert first is not None and second is not None
    arrays = ("mean", "components", "inverse_variance")
    alike = all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)
    plain = [msgspec.structs.replace(reference, projection=None) for reference in (one, other)]
    return alike and first.tensor == second.tensor and plain[0] == plain[1]


def test_it_comes_back_as_it_was_written() -> None:
    assert same(decode_reference(MEMBER), REFERENCE)


def test_with_an_embedding_of_1280_elements_it_stays_under_45_kb() -> None:
    assert len(encode_reference(msgspec.structs.replace(REFERENCE, projection=projection(1280)))) < 45_000


def test_hits_and_confusion_count_the_labelled_rows() -> None:
    labelled = np.isfinite(truth())
    hits = REFERENCE.hits["class"]
    assert sum(rows for rows, _ in hits) == labelled.sum()
    assert sum(right for _, right in hits) == (truth() == ANSWERS).sum()
    confusion = np.array(REFERENCE.confusion["class"])
    assert confusion.sum() == labelled.sum()
    assert np.trace(confusion) == (truth() == ANSWERS).sum()
    classes = REFERENCE.binning[NAMES.index("class.class")].classes  # type: ignore[union-attr]
    for place, number in enumerate(classes):
        assert confusion[place].sum() == (truth() == number).sum()


def test_a_row_without_an_answer_is_a_miss_and_in_no_confusion() -> None:
    specs = [FeatureSpec("out.confidence", "prediction"), FeatureSpec("out.class", "prediction", "class")]
    rows = np.array([[0.9, 1], [0.8, 0], [math.nan, math.nan]])
    reference = make_reference(specs, rows, {"out": np.array([1.0, 1.0, 0.0])})
    assert reference.hits["out"][-1] == (1, 0)
    assert np.array(reference.hits["out"]).sum(axis=0).tolist() == [3, 1]
    assert np.array(reference.confusion["out"]).sum() == 2


def test_a_true_class_that_was_never_the_answer_counts_with_the_others() -> None:
    specs = [FeatureSpec("out.confidence", "prediction"), FeatureSpec("out.class", "prediction", "class")]
    reference = make_reference(specs, np.array([[0.9, 1], [0.8, 1]]), {"out": np.array([1.0, 5.0])})
    assert reference.confusion["out"] == ((1, 0), (1, 0))


@pytest.mark.parametrize("output", ["other", "embedding"])
def test_labels_of_what_is_no_classification_are_refused(output: str) -> None:
    with pytest.raises(ValueError, match="no classification output"):
        make_reference(SPECS, ROWS, {output: truth()})


def test_labels_must_be_one_for_each_row_and_rows_must_be_there() -> None:
    with pytest.raises(ValueError, match="one label for each row"):
        make_reference(SPECS, ROWS, {"class": truth()[1:]})
    with pytest.raises(ValueError, match="needs rows"):
        make_reference(SPECS, ROWS[:0])


def test_a_projection_that_half_precision_would_change_is_refused() -> None:
    exact = projection()
    for wrong in (exact.mean + 1e-6, exact.mean + 1e6):
        changed = msgspec.structs.replace(exact, mean=wrong)
        with pytest.raises(ValueError, match="half precision"):
            encode_reference(msgspec.structs.replace(REFERENCE, projection=changed))


def test_a_reference_of_its_own_model_matches_in_any_order() -> None:
    assert matches(REFERENCE, SPECS) == matches(REFERENCE, SPECS[::-1]) == []
    turned = in_order(REFERENCE, NAMES[::-1])
    assert [feature.name for feature in turned.binning] == list(NAMES[::-1])
    assert turned.counts == REFERENCE.counts[::-1]
    assert same(in_order(turned, NAMES), REFERENCE)


def test_what_does_not_match_is_said_feature_by_feature() -> None:
    specs = [*SPECS[2:], FeatureSpec("weight", "sensor"), FeatureSpec("vibration", "sensor", unit="in/s")]
    assert matches(REFERENCE, specs) == [
        '"vibration" is in "mm/s" in the reference, in "in/s" in the model',
        'the reference has "temperature", which is no feature of the model',
        'the reference lacks "weight", a feature of the model',
    ]
    other_kind = [FeatureSpec("temperature", "sensor", "class"), *SPECS[1:]]
    assert matches(REFERENCE, other_kind) == [
        '"temperature" is a numeric feature in the reference, a class feature of the model'
    ]
    other_group = [FeatureSpec("temperature", "image", unit="°C"), *SPECS[1:]]
    assert matches(REFERENCE, other_group) == [
        '"temperature" belongs to "sensor" in the reference, to "image" in the model'
    ]
    with pytest.raises(ValueError, match="other features"):
        in_order(REFERENCE, NAMES[1:])


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(tree: Any) -> None:
        for step in path[:-1]:
            tree = tree[step]
        tree[path[-1]] = to

    return change


def _half(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f2").tobytes()).decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("schema", to="edge-agent/drift-reference/2"), "schema"),
        (_set("more", to=1), "more"),
        (_set("rows", to=0), "has 0 rows"),
        (_set("rows", to=1999), "add up to the 1999 rows"),
        (_set("features", to=[]), "0 features"),
        (_set("features", 1, "feature", "name", to="temperature"), '"temperature" twice'),
        (_set("features", 0, "feature", "kind", to="text"), "text"),
        (_set("features", 0, "feature", "group", to="weather"), "weather"),
        (_set("features", 0, "feature", "edges", 3, to=1e9), "ascending"),
        (
            _set("features", 0, "feature", "edges", to=[float(edge) for edge in (1, 2, 2, 3, 4, 5, 6, 7, 8)]),
            "ascending",
        ),
        (_set("features", 0, "feature", "edges", to=list(range(10))), "10 edges, at most 9"),
        (_set("features", 0, "feature", "edges", to=[1.0]), "counts for 3 bins"),
        (_set("features", 0, "feature", "quantum", to=0.0), "quantum"),
        (_set("features", 0, "feature", "range", to=[5.0, 5.0]), "range"),
        (_set("features", 0, "counts", 0, to=-1), "0 or more"),
        (_set("features", 17, "feature", "classes", to=[1] * 10), "distinct"),
        (_set("features", 17, "feature", "classes", 0, to=2**60), "beyond what a float"),
        (_set("features", 17, "feature", "labels", to=["a"]), "1 labels of 10 classes"),
        (_set("hits", "class", 0, to=[1, 2]), "that were right"),
        (_set("hits", "other", to=[[1, 1]]), 'hits of "other"'),
        (_set("confusion", "class", 0, to=[1]), "a row and a column"),
        (_set("confusion", "other", to=[]), 'confusion of "other"'),
        (_set("projection", "mean", to="%"), "projection.mean"),
        (_set("projection", "mean", to=_half(1.0)), "2 bytes for float16"),
        (_set("projection", "mean", to=_half(*[math.inf] * 40)), "not finite"),
        (_set("projection", "inverse_variance", to=_half(*[-1.0] * 40)), "below 0"),
        (_set("projection", "elements", to=-1), "projection."),
    ],
)
def test_a_damaged_reference_is_refused_with_what_is_wrong(change: Callable[[dict[str, Any]], None], said: str) -> None:
    tree = json.loads(MEMBER)
    change(tree)
    with pytest.raises(ModelError) as refused:
        decode_reference(json.dumps(tree).encode())
    assert said in str(refused.value)
    assert str(refused.value).startswith(REFERENCE_MEMBER)
    assert "edge-convert baseline" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, MEMBER[:-20], MEMBER.replace(b"e", b"\x00")])
def test_bytes_that_are_no_reference_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="edge-convert baseline"):
        decode_reference(content)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_reference_with_a_changed_byte_is_refused_or_still_adds_up(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(MEMBER) - 1))
    damaged = MEMBER[:place] + bytes([data.draw(st.integers(0, 255))]) + MEMBER[place + 1 :]
    try:
        found = decode_reference(damaged)
    except ModelError:
        return
    assert all(sum(counts) == found.rows for counts in found.counts)
