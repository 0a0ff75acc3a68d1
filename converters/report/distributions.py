"""What a drift reference says of each feature, as small pictures: on the page of a report and as a PNG alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from converters.drift_facts import FeatureFacts, commonest, in_words
from converters.report.drawing import FIRST, MUTED, SECOND, Chart, draw, draw_png, printable, short

PANEL = 1.15  # inches of a feature's height
WIDE = 3.0  # and of its width in a picture that stands alone
BESIDE = 4  # of them in a line there
DRAWN_MOST = 1e30  # of a value: the arithmetic of an axis overflows long before a float does
_SMALL = 8.0  # points


class Shape(NamedTuple):
    """A numeric feature to draw: ``heights`` (k) are shares for each unit between ``edges`` (k + 1). The two outer bins
    are open and drawn as wide as their neighbours. ``spikes``: (value, share) of those with a bin of their own."""

    edges: tuple[float, ...]
    heights: tuple[float, ...]
    spikes: tuple[tuple[float, float], ...]


def shape_of(feature: FeatureFacts) -> Shape:
    """Raises ValueError for a feature without edges."""
    spikes, wide = [], []
    for place in range(1, len(feature.edges)):
        low, high, share = feature.edges[place - 1], feature.edges[place], feature.shares[place]
        repeated = feature.repeated(place)
        if repeated is None:
            wide.append((low, high, share))
        else:
            spikes.append((repeated, share))
    reach = [high - low for low, high, _ in wide] or [max(abs(feature.edges[0]), 1.0) / 10]
    tails = [
        (feature.edges[0] - reach[0], feature.edges[0], feature.shares[0]),
        (feature.edges[-1], feature.edges[-1] + reach[-1], feature.shares[-1]),
    ]
    bars = [tails[0], *wide, tails[1]]
    edges, heights = [bars[0][0]], []
    for low, high, share in bars:
        if low > edges[-1]:  # where a spike stands
            heights.append(0.0)
            edges.append(low)
        heights.append(share / (high - low))
        edges.append(high)
    return Shape(tuple(edges), tuple(heights), tuple(spikes))


def distributions(features: Sequence[FeatureFacts]) -> Chart:
    """Two in a line, for a page."""
    said = "; ".join(f"{feature.name}: {in_words(feature)}" for feature in features)
    rows = -(-len(features) // 2)

    def paint(axes: Any) -> None:
        _paint(np.atleast_1d(axes).ravel().tolist(), features, lambda colour: colour)

    return draw(0.2 + PANEL * rows, printable(f"Distributions. {said}"), paint, columns=2, rows=rows)


def distributions_png(features: Sequence[FeatureFacts], title: str) -> bytes:
    """All of them, four in a line."""
    beside = min(BESIDE, len(features))
    rows = -(-len(features) // beside)

    def paint(figure: Any, real: Callable[[str], str]) -> None:
        figure.suptitle(printable(title), x=0.01, ha="left", fontsize=11)
        _paint(np.atleast_1d(figure.subplots(rows, beside)).ravel().tolist(), features, real)

    return draw_png((WIDE * beside, 0.5 + PANEL * rows), paint)


def _paint(panels: Sequence[Any], features: Sequence[FeatureFacts], colour: Callable[[str], str]) -> None:
    for axes, feature in zip(panels, features, strict=False):
        unit = f" [{feature.unit}]" if feature.unit else ""
        axes.set_title(short(feature.name + unit, 30), loc="left", fontsize=_SMALL + 1, color=colour(MUTED))
        axes.tick_params(labelsize=_SMALL)
        if feature.classes:
            _classes(axes, feature, colour)
        elif feature.edges and max(map(abs, feature.edges)) <= DRAWN_MOST:
            _numeric(axes, shape_of(feature), colour)
        else:
            why = "values too large to draw" if feature.edges else "no value in the reference"
            axes.set_axis_off()
            axes.text(0, 0.5, why, color=colour(MUTED), fontsize=_SMALL)
    for axes in panels[len(features) :]:
        axes.set_axis_off()


def _numeric(axes: Any, shape: Shape, colour: Callable[[str], str]) -> None:
    from matplotlib.ticker import MaxNLocator

    tallest = max(shape.heights) or 1.0
    heights = [height / tallest for height in shape.heights]
    axes.stairs(heights, shape.edges, fill=True, color=colour(FIRST), alpha=0.45, linewidth=0)
    axes.stairs(heights[1:-1], shape.edges[1:-1], fill=True, color=colour(FIRST), linewidth=0)
    for value, share in shape.spikes:
        axes.plot([value, value], [0, 1], color=colour(SECOND), linewidth=1.6)
        axes.annotate(f"{share:.0%}", (value, 1), (3, -7), textcoords="offset points", fontsize=_SMALL)
    axes.set_ylim(0, 1.08)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(3))


def _classes(axes: Any, feature: FeatureFacts, colour: Callable[[str], str]) -> None:
    named = commonest(feature)
    places = range(len(named))
    axes.barh(places, [share for _, share in named], color=colour(FIRST), height=0.7)
    axes.set_yticks(places, [short(name, 14) for name, _ in named])
    axes.set_ylim(max(len(named), 1) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 1], ["0 %", "100 %"])
