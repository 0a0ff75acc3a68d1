"""The figures of labelled results, against their definitions worked out row by row; and that counts add up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.feedback import NONE
from edge_agent.core.kept_results import ClassResult, ValueResult, score_bin
from edge_agent.core.performance_counts import (
    CLASSES_MOST,
    AnomalyCounts,
    ClassCounts,
    ClassOrder,
    ValueCounts,
    class_name,
)

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


def counted(pairs: Sequence[tuple[int, int]], order: ClassOrder | None = None) -> ClassCounts:
    """(truth, predicted) without scores."""
    counts = ClassCounts(order or ClassOrder(), with_auc=False)
    for truth, predicted in pairs:
        counts.add(truth, ClassResult((predicted,), (0,)))
    return counts


def pairs_won(negative: Sequence[float], positive: Sequence[float]) -> float:
    """AUC by its definition: over all pairs, a tie is half a win."""
    won = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return won / (len(negative) * len(positive))


@given(PAIRS)
def test_the_figures_of_classes_are_those_of_their_definitions(pairs: list[tuple[int, int]]) -> None:
    scores = counted(pairs).scores()
    assert scores is not None
    by_class = []
    for one in {index for pair in pairs for index in pair}:
        hit = sum(t == p == one for t, p in pairs)
        predicted, true = sum(p == one for _, p in pairs), sum(t == one for t, _ in pairs)
        precision, recall = hit / predicted if predicted else 0, hit / true if true else 0
        f1 = 2 * precision * recall / (precision + recall) if hit else 0
        by_class.append((precision, recall, f1))
    assert scores.n == len(pairs)
    assert scores.accuracy == sum(t == p for t, p in pairs) / len(pairs)
    expected = [math.fsum(column) / len(by_class) for column in zip(*by_class, strict=True)]
    assert [scores.precision, scores.recall, scores.f1] == pytest.approx(expected)


@given(PAIRS, st.integers(0, 60))
def test_counts_of_two_times_add_up_to_those_of_both(pairs: list[tuple[int, int]], cut: int) -> None:
    order = ClassOrder()
    first, second = counted(pairs[:cut], order), counted(pairs[cut:], order)
    first.merge(second)
    whole = counted(pairs, ClassOrder(tuple(order.classes)))
    assert first.table() == whole.table()
    assert first.scores() == whole.scores()


def test_the_area_under_the_curve_is_that_of_all_pairs() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 400)
    probability = 1 / (1 + np.exp(-random.normal(1.2 * (2 * truth - 1), 1.5)))
    counts = ClassCounts(ClassOrder((0, 1)), with_auc=True)
    for true, p in zip(truth.tolist(), probability.tolist(), strict=True):
        best = (1, 0) if p >= 0.5 else (0, 1)
        counts.add(true, ClassResult(best, tuple(score_bin(p if index else 1 - p) for index in best)))
    scores = counts.scores()
    exact = pairs_won(probability[truth == 0].tolist(), probability[truth == 1].tolist())
    assert scores is not None
    assert scores.auc == pytest.approx(exact, abs=0.005)


def test_the_area_of_several_classes_is_their_mean_against_the_others() -> None:
    random = np.random.default_rng(2)
    truth = random.integers(0, 3, 300)
    logits = random.normal(0, 1, (300, 3)) + 1.5 * np.eye(3)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    counts = ClassCounts(ClassOrder((0, 1, 2)), with_auc=True)
    for true, row in zip(truth.tolist(), scores, strict=True):
        best = np.argsort(-row).tolist()
        counts.add(true, ClassResult(tuple(best), tuple(score_bin(row[index]) for index in best)))
    exact = [pairs_won(scores[truth != one, one].tolist(), scores[truth == one, one].tolist()) for one in range(3)]
    found = counts.scores()
    assert found is not None
    assert found.auc == pytest.approx(sum(exact) / 3, abs=0.005)


def test_of_ten_thousand_classes_the_first_are_told_apart_and_the_accuracy_is_of_all() -> None:
    counts = counted([(index, index) for index in range(10_000)] + [(9_999, 9_998)])
    scores = counts.scores()
    assert scores is not None
    assert scores.accuracy == 10_000 / 10_001
    assert len(counts.by_class()) == CLASSES_MOST
    assert len(counts.table()) == CLASSES_MOST + 1
    assert sum(map(sum, counts.table())) == 10_001


def test_without_labels_there_is_nothing_to_say() -> None:
    assert counted([]).scores() is None
    assert AnomalyCounts(0.5).scores() is None
    assert ValueCounts().scores() is None


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 4)), min_size=1, max_size=60))
def test_anomalies_are_judged_by_the_anomalous_ones(rows: list[tuple[int, float]]) -> None:
    counts = AnomalyCounts(0.5)
    for truth, score in rows:
        counts.add(truth, ValueResult(score, score >= 0.5))
    scores = counts.scores()
    hit = sum(t and s >= 0.5 for t, s in rows)
    assert scores is not None
    assert scores.recall == (hit / sum(t for t, _ in rows) if hit else 0)
    assert scores.precision == (hit / sum(s >= 0.5 for _, s in rows) if hit else 0)
    assert scores.accuracy == sum(bool(t) == (s >= 0.5) for t, s in rows) / len(rows)


@pytest.mark.parametrize("threshold", [0.5, 120.0, -3.0, 0.0])
def test_the_area_of_anomaly_scores_is_found_whatever_their_scale(threshold: float) -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 2, 500)
    score = threshold + (abs(threshold) or 1) * random.normal(truth, 1)
    counts = AnomalyCounts(threshold)
    for true, one in zip(truth.tolist(), score.tolist(), strict=True):
        counts.add(true, ValueResult(one, one >= threshold))
    scores = counts.scores()
    assert scores is not None
    assert scores.auc == pytest.approx(pairs_won(score[truth == 0].tolist(), score[truth == 1].tolist()), abs=0.02)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=40), st.integers(0, 40))
def test_the_errors_of_a_regression_are_those_of_their_definitions(rows: list[tuple[float, float]], cut: int) -> None:
    counts, later = ValueCounts(), ValueCounts()
    for number, (truth, value) in enumerate(rows):
        (counts if number < cut else later).add(truth, ValueResult(value))
    counts.merge(later)
    errors = counts.scores()
    truths, values = (np.array(column) for column in zip(*rows, strict=True))
    spread = float(((truths - truths.mean()) ** 2).sum())
    assert errors is not None
    assert errors.n == len(rows)
    assert errors.mae == pytest.approx(float(np.abs(values - truths).mean()))
    assert errors.rmse == pytest.approx(float(np.sqrt(((values - truths) ** 2).mean())))
    if spread > 1e-3:
        assert errors.r2 == pytest.approx(1 - float(((values - truths) ** 2).sum()) / spread, rel=1e-6)


def test_names_of_classes_are_those_of_the_card() -> None:
    assert [class_name(index, ("a", "b")) for index in (1, 2, NONE)] == ["b", "2", "none"]
