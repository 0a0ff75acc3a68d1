"""What is published of the performance (``performance`` of drift/<pipeline>) and what ``edge-agent drift`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_agent.core.card_schema import AnomalyOutput
from edge_agent.core.performance import Performance
from edge_agent.core.performance_counts import AnomalyCounts, ClassCounts, ClassScores, Errors, Scores, class_name
from edge_agent.core.performance_head import LEARN_LABELS, HeadMeter, Watched
from edge_agent.core.wire import rfc3339
from edge_agent.monitoring import Moment

TABLE_MOST: Final = 5  # classes of a confusion that is published whole
CONFUSED_MOST: Final = 5  # pairs of classes, else
NAME_MOST: Final = 24  # characters of a class's name in a published pair


def summary(performance: Performance, now: Moment) -> dict[str, Any]:
    """Small enough for every message; empty where no label ever came and nothing is estimated. By output ``total``
    and ``window``: [labels, accuracy, precision, recall, F1, AUC], of a regression [labels, MAE, RMSE, R2]."""
    outputs = {}
    for meter in performance.heads:
        scores, seconds = performance.window(meter, now)
        said: dict[str, Any] = {}
        if (total := meter.total.scores()) is not None:
            said |= {"total": figures(total), "window": figures(scores) if scores else [0], "window_s": seconds}
            said |= _confused(meter)
            if meter.learning is not None:
                said["learning"] = [meter.learning, LEARN_LABELS]
        for name, watched in (("labelled", meter.labelled), ("estimated", meter.estimated)):
            if watched.watch is not None and watched.watch.blocks:
                said[name] = _watched(watched)
        if said:
            outputs[meter.head.name] = said
    if not outputs and not performance.answers:
        return {}
    return {"labels": dict(performance.answers), "outputs": outputs}


def full_report(performance: Performance, now: Moment) -> dict[str, Any]:
    """The summary, and all that takes more room: figures by class, the whole confusion, since when."""
    said = summary(performance, now)
    outputs = said.get("outputs", {})
    for meter in performance.heads:
        if isinstance(meter.total, ClassCounts) and meter.head.name in outputs:
            outputs[meter.head.name] |= {
                "classes": [_of_class(one, meter.labels) for one in meter.total.by_class()],
                "confusion": _table(meter.total, meter.labels),
            }
    since = performance.since_wall_ns
    return said | {"since": None if since is None else rfc3339(since), "reach_s": performance.reach_s(now)}


def figures(scores: Scores | Errors) -> list[float | int | None]:
    """In the order of ``summary``; null where there is nothing to say."""
    if isinstance(scores, Errors):
        return [scores.n, *(_short(value) for value in (scores.mae, scores.rmse, scores.r2))]
    ratios = (scores.accuracy, scores.precision, scores.recall, scores.f1, scores.auc)
    return [scores.n, *(_short(value) for value in ratios)]


def _of_class(scores: ClassScores, labels: tuple[str, ...]) -> list[Any]:
    """[class, precision, recall, F1, labels of this class]"""
    ratios = (scores.precision, scores.recall, scores.f1)
    return [class_name(scores.index, labels), *(_short(ratio) for ratio in ratios), scores.support]


def _watched(watched: Watched) -> list[Any]:
    """[level, log10 of the evidence, mean loss of the last blocks, the one that is put up with]"""
    watch = watched.watch
    assert watch is not None
    return [watch.level.value, round(watch.log10, 1), _short(watch.recent_loss()), _short(watch.rate)]


def _confused(meter: HeadMeter) -> Mapping[str, Any]:
    """``confusion``, true by predicted, of few classes; of many ``confused``: [true, predicted, labels], the most
    frequent mistakes."""
    if isinstance(meter.head, AnomalyOutput) and isinstance(meter.total, AnomalyCounts):
        return {"confusion": {"classes": ["normal", "anomalous"], "counts": meter.total.confusion.tolist()}}
    if not isinstance(meter.total, ClassCounts):
        return {}
    if len(meter.order.classes) <= TABLE_MOST:
        return {"confusion": _table(meter.total, meter.labels)}
    table = meter.total.table()
    names = _names(meter.total, meter.labels)
    wrong = [(n, t, p) for t, row in enumerate(table) for p, n in enumerate(row) if n and t != p]
    most = sorted(wrong, key=lambda one: (-one[0], one[1], one[2]))[:CONFUSED_MOST]
    return {"confused": [[names[true][:NAME_MOST], names[predicted][:NAME_MOST], n] for n, true, predicted in most]}


def _table(counts: ClassCounts, labels: tuple[str, ...]) -> dict[str, Any]:
    return {"classes": _names(counts, labels), "counts": counts.table()}


def _names(counts: ClassCounts, labels: tuple[str, ...]) -> Sequence[str]:
    """Of the rows of ``table``; the last one may stand for all others."""
    return [*(class_name(index, labels) for index in counts.order.classes), "(other)"][: len(counts.table())]


def _short(value: float | None) -> float | None:
    """Four significant digits."""
    return None if value is None else float(f"{value:.4g}")
