"""The figures against counting by hand, against scikit-learn and, where it is installed, against COCO's own code."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from converters.evaluation.agreement import concordance, divergence, shared_overlaps
from converters.evaluation.classification import (
    are_probabilities,
    calibration_error,
    classification_result,
    confusion_matrix,
    log_loss,
    top_share,
)
from converters.evaluation.detection import average_precisions, detection_result, overlaps
from converters.evaluation.paired import accuracy_drop, bootstrap_drop, mcnemar_p, newcombe_interval, wilson_interval
from converters.evaluation.ranking import area_under_curve
from converters.evaluation.recorded import Boxes, activated
from converters.evaluation.regression import anomaly_result, determination, regression_result
from converters.records import Box

NAMES = tuple("abcdefgh")


def drawn_scores(seed, rows=200, classes=8):
    """Probabilities in steps of 1/256, so that some are equal, and truths that they favour."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    logits = rng.normal(0, 1, (rows, classes))
    logits[np.arange(rows), truth] += 1.5
    scores = np.round(activated(logits, "softmax") * 256) / 256
    return scores, truth


def judged(scores, truth, **options):
    names = [str(index) for index in range(scores.shape[1])]
    options = {"activation": "none", "floor": 1 / 512, **options}
    return classification_result(scores, scores.argmax(axis=1), truth, names, **options)


def boxes(*found):
    """(index, score, corners) of each."""
    return Boxes(
        np.array([index for index, _, _ in found], np.int64),
        np.array([score for _, score, _ in found], np.float64),
        np.array([corners for _, _, corners in found], np.float64).reshape(-1, 4),
    )


def test_a_small_classification_is_counted_as_by_hand():
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    result = judged(scores, np.array([0, 1, 1, 0]))
    assert result.accuracy == 0.75
    assert result.confusion == ((2, 0), (1, 1))
    first, second = result.classes
    assert (first.precision, first.recall, first.f1) == (2 / 3, 1.0, 0.8)
    assert (second.precision, second.recall, second.f1) == (1.0, 0.5, 2 / 3)
    assert [(pair.truth, pair.answer, pair.count) for pair in result.confused] == [("1", "0", 1)]


@pytest.mark.parametrize("seed", range(3))
def test_classification_agrees_with_scikit_learn(seed):
    scores, truth = drawn_scores(seed)
    best = scores.argmax(axis=1)
    result = judged(scores, truth)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, best)
    assert result.accuracy == pytest.approx(metrics.accuracy_score(truth, best))
    assert [item.precision for item in result.classes] == pytest.approx(precision)
    assert [item.recall for item in result.classes] == pytest.approx(recall)
    assert [item.f1 for item in result.classes] == pytest.approx(f1)
    assert [item.support for item in result.classes] == support.tolist()
    assert result.macro_f1 == pytest.approx(metrics.f1_score(truth, best, average="macro"))
    assert confusion_matrix(truth, best, 8).tolist() == metrics.confusion_matrix(truth, best).tolist()
    one_hot = np.eye(8)[truth]
    assert result.auc == pytest.approx(metrics.roc_auc_score(one_hot, scores, average="macro"))


def test_log_loss_agrees_with_scikit_learn_where_nothing_is_floored():
    rng = np.random.default_rng(5)
    scores = activated(rng.normal(0, 2, (300, 4)), "softmax")
    truth = rng.integers(0, 4, 300)
    assert log_loss(scores, truth, 1e-12) == pytest.approx(metrics.log_loss(truth, scores))


def test_a_probability_of_zero_costs_what_the_floor_costs():
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1]), 1 / 512) == pytest.approx(math.log(512))


def test_calibration_error_is_the_distance_between_claimed_and_true_share_of_each_bin():
    scores = np.array([[0.95, 0.05]] * 10 + [[0.55, 0.45]] * 10)
    truth = np.array([0] * 9 + [1] + [0] * 3 + [1] * 7)
    expected = 0.5 * abs(0.9 - 0.95) + 0.5 * abs(0.3 - 0.55)
    assert calibration_error(scores, scores.argmax(axis=1), truth) == pytest.approx(expected)


def test_the_upper_edge_belongs_to_a_bin_of_the_calibration_error():
    # 1/15 and 1/15 + a little lie in different bins: right and wrong there do not cancel out
    edge = 1 / 15
    scores = np.array([[edge], [edge + 1e-9]])
    error = calibration_error(scores, np.array([0, 0]), np.array([0, 1]))
    assert error == pytest.approx((abs(1 - edge) + edge) / 2)


def test_top_five_takes_the_lower_index_of_equal_scores():
    scores = np.zeros((1, 8))
    assert top_share(scores, np.array([4]), 5) == 1.0
    assert top_share(scores, np.array([5]), 5) == 0.0


def test_top_five_is_left_out_where_it_says_nothing():
    scores, truth = drawn_scores(0, classes=5)
    assert judged(scores, truth).top5 is None


def test_logits_that_nobody_declared_have_no_calibration_and_no_likelihood():
    scores = np.array([[2.0, -1.0], [-3.0, 4.0]])
    result = judged(scores, np.array([0, 1]))
    assert not are_probabilities(scores, 0.0)
    assert (result.calibration_error, result.log_loss) == (None, None)
    assert result.accuracy == 1.0


def test_independent_scores_have_no_likelihood():
    scores, truth = drawn_scores(1)
    assert judged(scores, truth, activation="sigmoid").log_loss is None


def test_a_class_that_never_occurs_and_is_never_answered_has_no_figures():
    result = judged(np.array([[0.8, 0.2, 0.0], [0.1, 0.9, 0.0]]), np.array([0, 1]))
    absent = result.classes[2]
    assert (absent.precision, absent.recall, absent.f1, absent.auc) == (None, None, None, None)
    assert result.macro_f1 == 1.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order(rows):
    scores = np.array([score for score, _ in rows], np.float64)
    positive = np.array([truth for _, truth in rows])
    above, below = scores[positive], scores[~positive]
    area = area_under_curve(scores, positive)
    if not above.size or not below.size:
        assert area is None
        return
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in above for b in below]
    assert area == pytest.approx(sum(pairs) / len(pairs))


def test_regression_agrees_with_scikit_learn():
    rng = np.random.default_rng(8)
    truth = rng.normal(20, 5, 100)
    values = truth + rng.normal(1, 2, 100)
    result = regression_result(values, truth, "degC")
    assert result.mae == pytest.approx(metrics.mean_absolute_error(truth, values))
    assert result.rmse == pytest.approx(metrics.root_mean_squared_error(truth, values))
    assert result.r2 == pytest.approx(metrics.r2_score(truth, values))
    assert result.max_error == pytest.approx(metrics.max_error(truth, values))
    assert result.bias == pytest.approx(np.mean(values - truth))


def test_r2_is_not_defined_where_all_truths_are_the_same():
    assert determination(np.array([1.0, 2.0]), np.array([3.0, 3.0])) is None


def test_an_anomaly_is_flagged_from_its_threshold_on():
    result = anomaly_result(np.array([0.5, 0.4, 0.9, 0.5]), np.array([True, False, True, False]), 0.5)
    assert (result.precision, result.recall, result.f1) == (2 / 3, 1.0, 0.8)
    assert (result.auc, result.flagged, result.anomalies) == (0.875, 3, 2)


def test_overlap_is_intersection_over_union():
    left = np.array([[0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 0.5, 0.5]])
    right = np.array([[0.2, 0.2, 0.6, 0.6], [0.0, 0.0, 0.4, 0.4]])
    assert overlaps(left, right) == pytest.approx(np.array([[1 / 7, 1.0], [0.0, 0.0]]))


def test_average_precision_of_a_small_case_as_by_hand():
    truth = [[Box(0, (0.0, 0.0, 0.4, 0.4))], [Box(0, (0.5, 0.5, 0.9, 0.9))]]
    # right, wrong, right: precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1
    found = [
        boxes((0, 0.9, (0.0, 0.0, 0.4, 0.4)), (0, 0.8, (0.6, 0.0, 0.9, 0.3))),
        boxes((0, 0.7, (0.5, 0.5, 0.9, 0.9))),
    ]
    result = detection_result(found, truth, ["thing"], 0.75)
    expected = (51 * 1.0 + 50 * 2 / 3) / 101  # recalls 0 to 0.50 and 0.51 to 1
    assert result.map50 == pytest.approx(expected)
    assert result.map == pytest.approx(expected)
    assert (result.precision, result.recall, result.f1) == (0.5, 0.5, 0.5)
    assert [(item.label, item.support) for item in result.classes] == [("thing", 2)]


def test_a_second_box_on_the_same_object_is_wrong():
    truth = [[Box(0, (0.0, 0.0, 0.4, 0.4))]]
    twice = [boxes((0, 0.9, (0.0, 0.0, 0.4, 0.4)), (0, 0.8, (0.0, 0.0, 0.4, 0.4)))]
    result = detection_result(twice, truth, ["thing"], 0.5)
    assert (result.map, result.precision, result.recall) == (1.0, 0.5, 1.0)


def test_a_class_without_a_true_box_counts_in_no_mean_but_its_boxes_are_published():
    truth = [[Box(0, (0.0, 0.0, 0.4, 0.4))]]
    found = [boxes((0, 0.9, (0.0, 0.0, 0.4, 0.4)), (1, 0.9, (0.0, 0.0, 0.4, 0.4)))]
    result = detection_result(found, truth, ["thing", "other"], 0.5)
    assert (result.map, result.precision) == (1.0, 0.5)
    assert [item.label for item in result.classes] == ["thing"]


def test_nothing_true_and_nothing_found_has_no_score():
    result = detection_result([boxes()], [[]], [], 0.5)
    assert (result.map, result.precision, result.recall, result.f1) == (None, None, None, None)


def drawn_detections(seed, pictures=12, classes=3):
    """Truths, and boxes of which some are shifted copies of a truth; scores in tenths, so that some are equal."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(pictures):
        corners = rng.uniform(0, 0.7, (rng.integers(0, 6), 2))
        true = [
            Box(int(rng.integers(classes)), (x, y, x + size, y + size))
            for (x, y), size in zip(corners.tolist(), rng.uniform(0.1, 0.3, len(corners)).tolist(), strict=True)
        ]
        guessed = [(box.index, np.array(box.corners) + rng.normal(0, 0.02, 4)) for box in true for _ in range(2)]
        guessed += [(int(rng.integers(classes)), np.array([0.1, 0.1, 0.3, 0.35])) for _ in range(2)]
        scores = sorted((round(float(rng.uniform()), 1) for _ in guessed), reverse=True)
        found.append(boxes(*((index, score, c) for (index, c), score in zip(guessed, scores, strict=True))))
        truth.append(true)
    return found, truth


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_cocos_own_code(seed):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found, truth = drawn_detections(seed)

    def as_coco(index, corners):
        x0, y0, x1, y1 = (float(value) * 1000 for value in corners)
        return {"category_id": index + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}

    true = [as_coco(box.index, box.corners) | {"image_id": n} for n, row in enumerate(truth, 1) for box in row]
    for number, box in enumerate(true, 1):
        box |= {"id": number, "iscrowd": 0}
    guessed = [
        as_coco(int(row.indices[k]), row.corners[k]) | {"image_id": n, "score": float(row.scores[k])}
        for n, row in enumerate(found, 1)
        for k in range(row.scores.size)
    ]
    known = COCO()
    known.dataset = {
        "images": [{"id": n} for n in range(1, len(truth) + 1)],
        "categories": [{"id": n} for n in (1, 2, 3)],
        "annotations": true,
        "info": {},
    }
    known.createIndex()
    evaluation = COCOeval(known, known.loadRes(guessed), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    result = detection_result(found, truth, NAMES, 0.5)
    assert (result.map, result.map50, result.map75) == pytest.approx(tuple(evaluation.stats[:3]))


@pytest.mark.parametrize("seed", range(4))
def test_a_stricter_overlap_never_gives_a_better_precision(seed):
    found, truth = drawn_detections(seed)
    for index in {box.index for row in truth for box in row}:
        curve = average_precisions(found, truth, index)
        assert all(later <= earlier + 1e-12 for earlier, later in pairwise(curve))
        assert 0 <= curve[-1] <= curve[0] <= 1


def test_the_paired_interval_is_that_of_the_published_example():
    # Newcombe 1998: method 10 on the table 36, 12, 2, 0
    assert newcombe_interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_wilsons_interval_is_scipys():
    oracle = binomtest(47, 50).proportion_ci(method="wilson")
    assert wilson_interval(47 / 50, 50) == pytest.approx((oracle.low, oracle.high))


@given(st.integers(0, 1500), st.integers(0, 1500))
@settings(max_examples=40, deadline=None)
def test_mcnemars_p_value_is_that_of_an_exact_binomial_test(first, second):
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_p(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-280)


@given(st.integers(0, 400), st.integers(0, 60), st.integers(0, 60), st.integers(1, 100))
def test_the_interval_holds_the_drop_and_turns_around_with_the_models(both, first, second, neither):
    low, high = newcombe_interval(both, first, second, neither)
    drop = (first - second) / (both + first + second + neither)
    assert -1 <= low <= drop <= high <= 1
    swapped = newcombe_interval(both, second, first, neither)
    assert swapped == pytest.approx((-high, -low))


def test_one_row_more_on_three_hundred_is_chance_and_thirty_are_not():
    right = np.ones(300, bool)
    one, thirty = right.copy(), right.copy()
    one[:1], thirty[:30] = False, False
    assert accuracy_drop(right, one).by_chance
    lost = accuracy_drop(right, thirty)
    assert not lost.by_chance
    assert (lost.drop, lost.only_reference, lost.only_other) == (0.1, 30, 0)


def test_the_interval_covers_the_true_drop_in_about_nineteen_of_twenty_draws():
    rng = np.random.default_rng(17)
    covered = 0
    for both, first, second, neither in rng.multinomial(300, [0.90, 0.05, 0.02, 0.03], 1000):
        low, high = newcombe_interval(both, first, second, neither)
        covered += low <= 0.03 <= high
    assert 930 <= covered <= 975


def test_the_bootstrap_finds_a_worse_regression_and_not_an_equal_one():
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1, 200)
    good, alike, bad = (truth + rng.normal(0, spread, 200) for spread in (0.1, 0.1, 0.5))
    lost = bootstrap_drop(good, bad, truth, determination, "R2")
    assert lost is not None
    assert lost.low > 0.1
    same = bootstrap_drop(good, alike, truth, determination, "R2")
    assert same is not None
    assert same.by_chance
    assert bootstrap_drop(good, bad, truth, determination, "R2") == lost  # the seed is fixed


def test_concordance_is_one_for_equal_values_and_less_for_shifted_ones():
    values = np.array([1.0, 2.0, 3.0])
    assert concordance(values, values) == 1.0
    # Lin 1989: 2 cov / (var + var + (difference of means)^2), here 2 * 2/3 / (4/3 + 1)
    assert concordance(values, values + 1) == pytest.approx(4 / 7)
    assert concordance(values + 1, values) == pytest.approx(4 / 7)


def test_divergence_is_that_of_the_definition():
    p, q = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert divergence(p, q, 1e-9) == pytest.approx(expected)
    assert divergence(p, p, 1e-9) == 0.0


def test_shared_boxes_are_of_one_class_and_each_counts_once():
    one = boxes((0, 0.9, (0.0, 0.0, 0.4, 0.4)), (1, 0.8, (0.5, 0.5, 0.9, 0.9)))
    other = boxes((0, 0.9, (0.0, 0.0, 0.4, 0.4)), (0, 0.8, (0.0, 0.0, 0.4, 0.3)), (2, 0.7, (0.5, 0.5, 0.9, 0.9)))
    assert shared_overlaps(one, other) == shared_overlaps(other, one) == [1.0]
