"""The charts of a report, from plain numbers. Each says in words what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from converters.report.drawing import BAD, FIRST, GOOD, INK, LINE, MUTED, PAPER, SECOND, Chart, bounds, draw, short
from converters.report.words import signed
from edge_agent.records import Array

ROW = 0.3  # inches of a bar with its name
POINTS_MOST = 800  # of a scatter: more only make the file large
BARS_MOST = 15
SMALL = 8.0  # points, of a number beside a bar


class Mark(Struct, frozen=True):
    """One row of a ladder: ``lost`` of the score against float. ``chosen``: it became the file."""

    name: str
    lost: float
    kilobytes: float
    met: bool
    chosen: bool


class Curve(Struct, frozen=True):
    """How far stated probabilities hold, for one model: by bin the mean probability, the share right, the rows."""

    name: str
    stated: tuple[float, ...]
    right: tuple[float, ...]
    rows: tuple[int, ...]


def ladder(marks: Sequence[Mark], bound: float) -> Chart:
    """What each rung loses against float, the first on top, and its size."""
    said = "; ".join(
        f"{m.name}{' (chosen)' if m.chosen else ''}: {m.lost:+.4f}, {m.kilobytes:.0f} kB, "
        f"{'within' if m.met else 'not within'} the bound"
        for m in marks
    )
    places = np.arange(len(marks))

    def losses(axes: Any) -> None:
        axes.axvline(0, color=MUTED, linewidth=1, label="float")
        axes.axvline(bound, color=MUTED, linewidth=1, linestyle="--", label=f"bound {bound:g}")
        for place, mark in zip(places, marks, strict=True):
            form, colour = ("o", GOOD) if mark.met else ("X", BAD)
            size = 9 if mark.chosen else 6.5
            axes.plot([0, mark.lost], [place, place], color=colour, linewidth=1.4, zorder=2)
            axes.plot(mark.lost, place, form, color=colour, markersize=size, clip_on=False, zorder=3)
        axes.set_yticks(places, [("▸ " if m.chosen else "") + short(m.name, 27) for m in marks])
        axes.set_xlim(bounds([0.0, bound, *(m.lost for m in marks)], 0.01, low=-1.0))
        axes.set_xlabel("lost against float")
        axes.grid(axis="x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handlelength=1.6)

    def sizes(axes: Any) -> None:
        axes.barh(places, [m.kilobytes for m in marks], color=FIRST, height=0.5)
        for place, mark in zip(places, marks, strict=True):
            _beside(axes, mark.kilobytes, float(place), f"{mark.kilobytes:.0f}", 3)
        axes.set_xlim(0, 1.35 * max(m.kilobytes for m in marks))
        axes.set_yticks([])
        axes.set_xlabel("kB")

    def paint(both: Any) -> None:
        both[0].get_gridspec().set_width_ratios([5, 3])
        for axes, part, ticks in ((both[0], losses, 3), (both[1], sizes, 2)):
            part(axes)
            axes.set_ylim(len(marks) - 0.5, -0.5)
            _few_ticks(axes, ticks)

    return draw(0.9 + ROW * len(marks), f"Loss and size of each rung. {said}", paint, columns=2)


def waterfall(names: Sequence[str], scores: Sequence[float], score_name: str) -> Chart:
    """From the first score to the last: what each step took or gave."""
    said = "; ".join(f"{name} {score:.4f}" for name, score in zip(names, scores, strict=True))

    def paint(axes: Any) -> None:
        for place, score in enumerate(scores):
            if place:
                before = scores[place - 1]
                change = score - before
                axes.plot([before, before], [place - 1, place], color=MUTED, linewidth=0.8, linestyle=":")
                axes.barh(place, change, left=before, height=0.34, color=GOOD if change >= 0 else BAD, alpha=0.55)
                text = signed(change)
                _beside(axes, max(score, before), place, text, 9)
            axes.plot(score, place, "o", color=FIRST, markersize=6, zorder=3, clip_on=False)
        axes.set_yticks(range(len(names)), [short(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        low, high = bounds(list(scores), 0.02, high=float("inf"))
        axes.set_xlim(low, high + 0.2 * (high - low))  # room for the text
        _few_ticks(axes, 4)
        axes.set_xlabel(score_name)
        axes.grid(axis="x")

    return draw(0.6 + 0.42 * len(names), f"{score_name} step by step: {said}", paint)


def reliability(curves: Sequence[Curve]) -> Chart:
    """Stated probability against the share that is right, and how many rows state it."""
    said = "; ".join(f"{c.name}: {len(c.rows)} bins with rows" for c in curves)

    def paint(axes: Any) -> None:
        top, bottom = axes
        top.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="exactly right")
        for curve, colour, marker, style in zip(curves, (FIRST, SECOND), "os", ("-", "--"), strict=False):
            top.plot(curve.stated, curve.right, style, color=colour, marker=marker, markersize=4.5, label=curve.name)
            bottom.plot(curve.stated, curve.rows, style, color=colour, marker=marker, markersize=3)
        top.set_ylim(-0.02, 1.03)
        top.set_ylabel("share right")
        top.legend(loc="upper left")
        _logarithmic(bottom, bottom.yaxis, "y")
        bottom.set_ylabel("rows")
        bottom.set_xlabel("stated probability of the answer")
        for side in (top, bottom):
            side.set_xlim(-0.02, 1.03)
            side.grid()
        top.tick_params(labelbottom=False)

    def sized(axes: Any) -> None:
        axes[0].get_gridspec().set_height_ratios([3, 1])
        paint(axes)

    return draw(3.7, f"Reliability diagram, nearer to the diagonal is better. {said}", sized, rows=2)


def ranking(names: Sequence[str], values: Sequence[float], what: str, *, log: bool = False) -> Chart:
    """Bars by falling value as given, at most fifteen. ``log`` where the values span powers of ten."""
    names, values = names[:BARS_MOST], values[:BARS_MOST]
    said = "; ".join(f"{name} {value:.4g}" for name, value in zip(names[:5], values, strict=False))

    def paint(axes: Any) -> None:
        places = range(len(values))
        if log:  # a bar would begin nowhere
            axes.plot(values, places, "o", color=FIRST, markersize=6)
            axes.grid(axis="x")
        else:
            axes.barh(places, values, color=FIRST, height=0.6)
        axes.set_yticks(places, [short(name, 30) for name in names])
        axes.set_ylim(len(values) - 0.4, -0.6)
        if log:
            _logarithmic(axes, axes.xaxis, "x")
            axes.set_xlim(min(values) / 2, 4 * max(values))  # room for the text
        else:
            axes.set_xlim(min(0.0, *values), 1.16 * max(values) or 1.0)
            _few_ticks(axes, 4)
        for place, value in zip(places, values, strict=True):
            _beside(axes, value, place, f"{value:.3g}", 7 if log else 3)
        axes.set_xlabel(what)

    return draw(0.6 + 0.26 * len(values), f"{what}, largest first: {said}", paint)


def by_class(names: Sequence[str], before: Sequence[float] | None, after: Sequence[float], what: str) -> Chart:
    """A row for each class: the float model's value as a ring, the deployed one's as a square, a line between."""
    said = "; ".join(f"{name} {value:.3f}" for name, value in zip(names, after, strict=True))

    def paint(axes: Any) -> None:
        places = np.arange(len(names))
        if before is not None:
            axes.hlines(places, before, after, color=LINE, linewidth=3, zorder=1)
            axes.plot(before, places, "o", markerfacecolor=PAPER, color=FIRST, markersize=7, label="float", zorder=2)
        axes.plot(after, places, "s", color=SECOND, markersize=4.5, label="as deployed", zorder=3)
        axes.set_yticks(places, [short(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(bounds([*after, *(before or ())], 0.04))
        _few_ticks(axes, 4)
        axes.set_xlabel(what)
        axes.grid(axis="x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)

    return draw(0.85 + 0.24 * len(names), f"{what} of each class as deployed: {said}", paint)


def scatter(truth: Array, before: Array | None, after: Array, unit: str) -> Chart:
    """Answers against the truth, and the errors as a histogram. At most 800 rows are drawn, evenly picked."""
    picked = np.unique(np.linspace(0, truth.size - 1, min(truth.size, POINTS_MOST)).astype(np.int64))
    suffix = f" ({unit})" if unit else ""
    error = after - truth
    said = f"mean error {error.mean():.4g}, largest {np.abs(error).max():.4g} {unit}".strip()

    def paint(axes: Any) -> None:
        left, right = axes
        ends = [float(min(truth.min(), after.min())), float(max(truth.max(), after.max()))]
        left.plot(ends, ends, color=MUTED, linewidth=1, linestyle=":")
        if before is not None:
            left.plot(truth[picked], before[picked], "o", markerfacecolor="none", color=FIRST, markersize=4)
        left.plot(truth[picked], after[picked], "x", color=SECOND, markersize=3.5)
        left.set_xlabel(f"truth{suffix}")
        left.set_ylabel(f"answer{suffix}")
        left.grid()
        edges = np.histogram_bin_edges(np.concatenate([error, *([] if before is None else [before - truth])]), 24)
        if before is not None:
            right.hist(before - truth, edges, histtype="step", color=FIRST, linewidth=1.5, label="float")
        right.hist(error, edges, histtype="step", color=SECOND, linestyle="--", linewidth=1.5, label="as deployed")
        right.axvline(0, color=MUTED, linewidth=1, linestyle=":")
        right.set_xlabel(f"error{suffix}")
        right.set_ylabel("rows")
        right.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
        _few_ticks(left, 3)
        _few_ticks(right, 3)

    return draw(2.8, f"Answers against the truth: {said}", paint, columns=2)


def scores_by_truth(scores: Array, anomalous: Array, threshold: float) -> Chart:
    """How often which anomaly score occurs, for normal and anomalous rows."""
    said = f"{int(anomalous.sum())} anomalous and {int((~anomalous).sum())} normal rows, threshold {threshold:g}"

    def paint(axes: Any) -> None:
        edges = np.histogram_bin_edges(np.append(scores, threshold), 30)
        axes.hist(scores[~anomalous], edges, color=FIRST, alpha=0.6, label="normal")
        axes.hist(scores[anomalous], edges, color=SECOND, alpha=0.6, hatch="///", edgecolor=INK, label="anomalous")
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
        axes.set_xlabel("anomaly score")
        axes.set_ylabel("rows")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)

    return draw(2.6, f"Anomaly scores: {said}", paint)


def _beside(axes: Any, value: float, place: float, text: str, gap: float) -> None:
    """Text to the right of a mark; ``gap`` in points, since spaces at the start of an SVG text vanish."""
    axes.annotate(text, (value, place), (gap, 0), textcoords="offset points", va="center", fontsize=SMALL, color=MUTED)


def _logarithmic(axes: Any, axis: Any, which: str) -> None:
    """Powers of ten written out: the usual form is a formula, which the page's text is not."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{which}scale": "log"})
    axis.set_major_locator(LogLocator(10, numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _few_ticks(axes: Any, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(most, prune=None))
