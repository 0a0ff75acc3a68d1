"""Why a level changed, as the sentence of an event: what moved, by how much, and what to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.monitoring import LEVELS, FeatureState, Group, Learning, Level, LevelChange
from edge_agent.records import Array

LOOK_AT: Final[dict[Group, str]] = {
    "sensor": "look at the sensor, its wiring and what it measures",
    "image": "look at light, lens, focus and the camera's place",
    "prediction": "look at samples with these predictions: the scene or the classes may have changed",
    "embedding": "look at unusual samples: something new may be in the picture",
}
SAID: Final = {
    "shape": "no longer ranks among the blocks it was learnt from (conformal martingale)",
    "reference": "is materially apart from the model's reference",
    "baseline": "is materially apart from the baseline learnt here",
}
_NOTICED: Final = 0.02  # of a share, or of a mean rank: less is not put into words


def of_feature(spec: FeatureSpec, before: Level, state: FeatureState, apart: Array) -> list[LevelChange]:
    """``apart`` (BINS,): shares of the latest blocks less those expected, missing last; NaN where there are none. That
    a baseline was learnt is said once, of the whole pipeline."""
    if Level.LEARNING in (before, state.level) and Level.OK in (before, state.level):
        return []
    if LEVELS.index(state.level) < LEVELS.index(before):
        why = f"{spec.name} has been as before for a day of blocks"
    else:
        why = "; ".join([f"{spec.name} {SAID[state.tier]}", *_movements(spec, apart), *_sizes(state)])
        why += f"; {LOOK_AT[spec.group]}"
    return [LevelChange(spec.name, before, state.level, why)]


def overall(before: Level, after: Level, states: Sequence[FeatureState], learning: Learning) -> LevelChange:
    """Of the pipeline as a whole."""
    if after is Level.OK:
        why = "no feature is apart from what was learnt"
        if before is Level.LEARNING:
            why = f"the baseline is learnt, from {days_text(learning.of_days)}"
            if learning.daily:
                why += f"; days or neighbouring hours differ in {', '.join(learning.daily)}: judged by whole days"
    elif after is Level.LEARNING:
        why = "the baseline is being learnt"
    else:
        why = f"{after.value}: {', '.join(state.name for state in states if state.level is after)}"
    return LevelChange("", before, after, why)


def days_text(days: float) -> str:
    """Days in a unit of their size: "14 days", "36 h", "20 min"."""
    for unit, size in (("days", 1), ("h", 24), ("min", 24 * 60)):
        if days * size >= 2:
            return f"{_rounded(days * size)} {unit}"
    return f"{_rounded(days * 86400)} s"


def _rounded(number: float) -> str:
    return f"{round(number, 0 if number >= 10 else 1):g}"


def begun_again(before: Level, reason: str) -> LevelChange:
    return LevelChange("", before, Level.LEARNING, f"a new baseline is being learnt: {reason}")


def _sizes(state: FeatureState) -> list[str]:
    sizes = (("baseline", state.tv_baseline), ("reference", state.tv_reference))
    return [f"total variation {value:.2f} from the {name}" for name, value in sizes if value is not None]


def _movements(spec: FeatureSpec, apart: Array) -> list[str]:
    if not np.isfinite(apart).all():
        return []
    found = []
    if abs(apart[-1]) >= _NOTICED:
        found.append(f"{abs(apart[-1]):.0%} {'more' if apart[-1] > 0 else 'fewer'} are missing")
    below = np.cumsum(apart[:-1])  # how many more lie below each edge
    above = below[-1] - below
    # Rows that go missing, or come back, leave or fill both sides of an edge: values moved only from one to the other.
    moved = np.where(below * above < 0, np.sign(below) * np.minimum(np.abs(below), np.abs(above)), 0.0)
    more, fewer = float(moved.max()), -float(moved.min())
    if spec.kind == "numeric" and max(more, fewer) >= _NOTICED:
        if fewer > 3 * more:
            found.append("values are higher")
        elif more > 3 * fewer:
            found.append("values are lower")
        else:
            found.append("values spread less" if moved.argmin() < moved.argmax() else "values spread more")
    return found
