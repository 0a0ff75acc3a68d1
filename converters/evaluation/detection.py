"""How good a detector is: average precision as COCO computes it, and precision and recall at the card's threshold.

Pure functions on boxes. Corners are (x0, y0, x1, y1) in 0..1 of the picture; overlap does not depend on its shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from converters.evaluation.recorded import Boxes
from converters.records import Box
from edge_agent.records import Array

OVERLAPS = np.linspace(0.5, 0.95, 10)  # the thresholds of mAP@[.5:.95]
RECALLS = np.linspace(0.0, 1.0, 101)
BOXES_MOST = 100  # of one class in one picture, as in COCO's evaluation
WORKING_OVERLAP = 0.5  # of precision and recall at the card's threshold


class DetectedClass(Struct, frozen=True):
    """One class: ``support`` true boxes; average precision over the ten overlaps, and at an overlap of 0.5. None where
    there is no true box."""

    label: str
    support: int
    ap: float | None
    ap50: float | None


class DetectionResult(Struct, frozen=True, tag_field="task", tag="detection"):
    """``map`` is mAP@[.5:.95], ``map50`` mAP@0.5; None without a true box. ``precision``, ``recall`` and ``f1`` count
    what the device publishes: boxes from ``threshold`` on, right at an overlap of 0.5 and the true class."""

    map: float | None
    map50: float | None
    map75: float | None
    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    truths: int
    published: int
    classes: tuple[DetectedClass, ...]


def detection_result(
    found: Sequence[Boxes], truth: Sequence[Sequence[Box]], names: Sequence[str], threshold: float
) -> DetectionResult:
    """``found`` and ``truth``: an entry for each picture. Classes without a true box count in no mean, as in COCO.

    Lin et al. 2014, "Microsoft COCO"; the order of matching is that of its public evaluation code: boxes by falling
    score, each to the free true box that it overlaps most; precision made monotone; 101 recall levels.
    """
    indices = sorted({box.index for boxes in truth for box in boxes})
    curves = {index: average_precisions(found, truth, index) for index in indices}
    supports = {index: sum(box.index == index for boxes in truth for box in boxes) for index in indices}
    means = np.mean(list(curves.values()), axis=0) if curves else None
    hits, published, truths = _working_point(found, truth, threshold)
    return DetectionResult(
        map=None if means is None else float(means.mean()),
        map50=None if means is None else float(means[0]),
        map75=None if means is None else float(means[5]),
        threshold=threshold,
        precision=hits / published if published else None,
        recall=hits / truths if truths else None,
        f1=2 * hits / (published + truths) if published + truths else None,
        truths=truths,
        published=published,
        classes=tuple(
            DetectedClass(_name(names, index), supports[index], float(curve.mean()), float(curve[0]))
            for index, curve in curves.items()
        ),
    )


def average_precisions(found: Sequence[Boxes], truth: Sequence[Sequence[Box]], index: int) -> Array:
    """(10,) average precision of one class at each of OVERLAPS. The class has at least one true box."""
    scores, hits, truths = [], [], 0
    for boxes, right in zip(found, truth, strict=True):
        mine = np.flatnonzero(boxes.indices == index)
        mine = mine[np.argsort(-boxes.scores[mine], kind="stable")][:BOXES_MOST]
        true = np.array([box.corners for box in right if box.index == index], np.float64).reshape(-1, 4)
        scores.append(boxes.scores[mine])
        hits.append(matched(overlaps(boxes.corners[mine], true), OVERLAPS))
        truths += len(true)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right_so_far = np.cumsum(np.concatenate(hits, axis=1)[:, order], axis=1)
    return np.array([_average(counts, truths) for counts in right_so_far])


def overlaps(left: Array, right: Array) -> Array:
    """(n, m): intersection over union of (n, 4) and (m, 4) corners; 0 where both are empty."""
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    common = np.prod(np.clip(high - low, 0.0, None), axis=2)
    both = _area(left)[:, None] + _area(right)[None, :] - common
    share: Array = np.divide(common, both, out=np.zeros_like(common), where=both > 0)
    return share


def matched(overlap: Array, thresholds: Array) -> Array:
    """(thresholds, n) bool: whether each found box, best score first, gets a true box of its own.

    ``overlap`` (n, m): of each found box with each true one.
    """
    result = np.zeros((len(thresholds), overlap.shape[0]), bool)
    if not overlap.size:
        return result
    for level, threshold in enumerate(thresholds):
        free = overlap.copy()
        for box in range(overlap.shape[0]):
            # of equal overlaps the last true box, as COCO's code takes it
            target = free.shape[1] - 1 - int(np.argmax(free[box, ::-1]))
            if free[box, target] >= min(threshold, 1 - 1e-10):
                result[level, box] = True
                free[:, target] = -1.0
    return result


def from_threshold(boxes: Boxes, threshold: float) -> Boxes:
    """The boxes that the device publishes at that threshold."""
    kept = boxes.scores >= threshold
    return Boxes(boxes.indices[kept], boxes.scores[kept], boxes.corners[kept])


def _average(right_so_far: Array, truths: int) -> float:
    """Mean precision over the recall levels; ``right_so_far`` (n,) counts right boxes by falling score."""
    if not right_so_far.size:
        return 0.0
    precision = right_so_far / np.arange(1, right_so_far.size + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right_so_far / truths, RECALLS, side="left")
    reached = places < precision.size
    return float(precision[places[reached]].sum() / RECALLS.size)


def _working_point(found: Sequence[Boxes], truth: Sequence[Sequence[Box]], threshold: float) -> tuple[int, int, int]:
    """(right, published, true boxes) of all classes together."""
    hits = published = 0
    for boxes, right in zip(found, truth, strict=True):
        kept = from_threshold(boxes, threshold)
        published += kept.scores.size
        overlap = overlaps(kept.corners, np.array([box.corners for box in right], np.float64).reshape(-1, 4))
        same = kept.indices[:, None] == np.array([box.index for box in right], np.int64)[None, :]
        hits += int(matched(np.where(same, overlap, 0.0), np.array([WORKING_OVERLAP])).sum())
    return hits, published, sum(len(right) for right in truth)


def _area(corners: Array) -> Array:
    area: Array = np.prod(np.clip(corners[:, 2:] - corners[:, :2], 0.0, None), axis=1)
    return area


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else str(index)
