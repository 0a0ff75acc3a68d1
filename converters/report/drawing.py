"""How charts are drawn: matplotlib figures as inline SVG whose colours are the page's, in light and in dark.

Figures are drawn in placeholder colours, which become CSS variables in the SVG. The same content gives the same bytes.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

WIDTH = 4.5  # inches of 96 pixels: on a telephone's 390 pixels still nearly the drawn size
POINT = 72 / 96  # of an inch: sizes here are in the page's pixels
# placeholder -> variable of the page's style sheet
INK, MUTED, LINE, FIRST, SECOND, GOOD, BAD, PAPER = (f"#01010{number}" for number in range(1, 9))
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    FIRST: "--first",
    SECOND: "--second",
    GOOD: "--good",
    BAD: "--bad",
    PAPER: "--panel",
}
# the same in a picture that stands alone: the style sheet's light colours
_ON_WHITE = {
    INK: "#17202c",
    MUTED: "#56637a",
    LINE: "#d5dbe4",
    FIRST: "#1f63d6",
    SECOND: "#b9500a",
    GOOD: "#137347",
    BAD: "#b3261e",
    PAPER: "#ffffff",
}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and is read aloud
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "font.size": 12 * POINT,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12 * POINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11 * POINT,
    "ytick.labelsize": 11 * POINT,
    "legend.frameon": False,
    "legend.fontsize": 11 * POINT,
    "hatch.linewidth": 0.8,
}


class Chart(Struct, frozen=True):
    """``svg`` is an element to be put into the page as it is; ``text`` says the same to who can't see it."""

    svg: str
    text: str


def draw(height: float, text: str, paint: Callable[[Any], None], *, columns: int = 1, rows: int = 1) -> Chart:
    """A chart of ``height`` inches. ``paint`` gets the axes, or an array of them where there are several."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # the salt makes the marks' ids, which must differ from chart to chart
    with rc_context({**_SETTINGS, "svg.hashsalt": text}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # text stays text: the page's fonts show it
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.subplots(rows, columns))
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Chart(_inline(stream.getvalue(), text), text)


def draw_png(
    size: tuple[float, float], paint: Callable[[Any, Callable[[str], str]], None], *, dots: int = 120
) -> bytes:
    """A PNG of ``size`` (width, height) inches on white, ``dots`` an inch. ``paint`` gets the figure, and a function
    from the placeholder colours to real ones."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def real(colour: str) -> str:
        return _ON_WHITE.get(colour, colour)

    settings = {key: real(value) if isinstance(value, str) else value for key, value in _SETTINGS.items()}
    with rc_context({**settings, "figure.facecolor": real(PAPER)}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(figsize=size, layout="constrained", dpi=dots)
        FigureCanvasAgg(figure)
        paint(figure, real)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def short(name: str, most: int = 26) -> str:
    """A name that fits beside a chart: the middle left out, since layers differ at their ends."""
    name = printable(name)
    if len(name) <= most:
        return name
    tail = (most - 1) * 2 // 3
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def printable(text: str) -> str:
    """Without what no browser shows: control characters would break the SVG."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def bounds(values: Sequence[float], least: float, *, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """Limits of an axis with a margin around the values, at least ``least`` wide, inside ``low`` to ``high``."""
    bottom, top = min(values), max(values)
    margin = max(0.18 * (top - bottom), (least - (top - bottom)) / 2, 1e-9)
    return max(low, bottom - margin), min(high + margin / 4, top + margin)


def _inline(svg: str, text: str) -> str:
    """The <svg> element alone: its size left to the page, its fonts and colours the page's, with a description."""
    from markupsafe import escape

    view = re.search(r'viewBox="([^"]+)"', svg)
    if view is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</defs>", "", body, count=1, flags=re.DOTALL)  # it would style the whole page
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # figure_1 and so on: the same in every chart
    body = re.sub(r'font-family: [^;"<>]*;? ?', "", body)
    body = re.sub(r"\s+", " ", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return f'<svg class="chart" role="img" aria-label="{escape(text)}" viewBox="{view[1]}">{body}'
