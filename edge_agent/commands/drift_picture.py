"""Reference against now, as a picture: bars of each bin for the features that differ most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_agent.core.drift.effect import total_variation
from edge_agent.core.drift.snapshot import Snapshot
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.monitoring import Feature, Numeric
from edge_agent.records import Array

MOST: Final = 6  # features
_WIDTH, _ROW, _LEFT, _TOP = 960, 150, 40, 46
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_BEFORE, _NOW, _INK, _PALE = "#9aa5b1", "#d1495b", "#1f2933", "#e4e7eb"


class NothingToDrawError(EdgeAgentError):
    """There are no counts, or nothing is known that they could be drawn against."""


def draw(snapshots: Mapping[str, Snapshot], path: Path) -> None:
    """A PNG. Raises NothingToDrawError, and ConfigError where the file can't be written."""
    panels = [panel for name, snapshot in snapshots.items() for panel in _panels(name, snapshot)]
    if not panels:
        raise NothingToDrawError("nothing to draw yet: the baseline is being learnt, or nothing was seen")
    panels = sorted(panels, key=lambda panel: panel[0], reverse=True)[:MOST]
    picture = Image.new("RGB", (_WIDTH, _TOP + _ROW * len(panels)), "white")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(15)
    pen.text((_LEFT, 14), "share of the rows in each bin: usual (grey), last reports (red)", _INK, font)
    for number, (size, title, feature, before, now) in enumerate(panels):
        _bars(pen, _TOP + number * _ROW, f"{title}: {size:.2f}", feature, before, now)
    try:
        picture.save(path, "PNG")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; name a file that this user may write") from None


def _panels(name: str, snapshot: Snapshot) -> list[tuple[float, str, Feature, Array, Array]]:
    tally = snapshot.now()
    if tally is None:
        return []
    found = []
    for feature, usual, bins in zip(snapshot.binning, snapshot.usual, tally.bins, strict=True):
        if usual is None or len(usual) != len(bins):
            continue
        before, now = np.array(usual), np.array(bins, np.float64)
        if (size := total_variation(now, before)) is not None:
            title = f"{name} {feature.name}: total variation from the {snapshot.usual_of}"
            found.append((size, title, feature, before, now / now.sum()))
    return found


def _bars(pen: ImageDraw.ImageDraw, top: int, title: str, feature: Feature, before: Array, now: Array) -> None:
    small = ImageFont.load_default(11)
    bottom, high = top + _ROW - 34, _ROW - 64
    step = (_WIDTH - 2 * _LEFT) / len(before)
    most = max(float(before.max()), float(now.max()))
    pen.text((_LEFT, top), title, _INK, ImageFont.load_default(14))
    pen.line((_LEFT, bottom, _WIDTH - _LEFT, bottom), _PALE)
    for place, name in enumerate(_names(feature)):
        left = _LEFT + place * step
        for part, (share, colour) in enumerate(((before[place], _BEFORE), (now[place], _NOW))):
            side = left + step * (0.12 + 0.38 * part)
            pen.rectangle((side, bottom - high * float(share) / most, side + step * 0.36, bottom), colour)
        pen.text((left + step * 0.12, bottom + 4), _fitting(name, small, step), _INK, small)


def _fitting(name: str, font: Font, width: float) -> str:
    """As much of it as has room."""
    while name and font.getlength(name) > width * 0.86:
        name = name[:-1]
    return name


def _names(feature: Feature) -> list[str]:
    """Of the bins."""
    if isinstance(feature, Numeric):
        edges = [f"{edge:.4g}" for edge in feature.edges]
        return [f"< {edges[0]}" if edges else "any", *(f"from {edge}" for edge in edges), "missing"]
    return [*(feature.labels or map(str, feature.classes)), "others", "missing"]
