"""When changes of level become events: at once, but a rule that comes and goes makes no flood, and a silence is kept.

What changes in a silence, or soon after an event, is gathered and told together when it may be. Times are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from edge_agent.monitoring import LEVELS, Level, LevelChange

APART_NS: Final = 10 * 10**9  # between two events of a kind: at worst as many as a stats message makes in a day
GATHERED_MOST: Final = 64  # changes of a kind; older ones are left out, and counted
SENTENCES_MOST: Final = 8  # of one event, the worst ones

Kind = Literal["drift", "data_quality", "performance"]
Severity = Literal["info", "warning", "error"]
_SEVERITIES: Final[dict[Level, Severity]] = {Level.CRITICAL: "error", Level.WARNING: "warning"}


class Told(Struct, frozen=True):
    """An event; ``worst``: the worst level that was reached."""

    kind: Kind
    severity: Severity
    worst: Level
    detail: str


class _Gathered(Struct):
    changes: list[LevelChange]
    left_out: int = 0


class Telling:
    """Of one pipeline."""

    def __init__(self) -> None:
        self.silent_until_ns = 0
        self._gathered: dict[Kind, _Gathered] = {}
        self._told_ns: dict[Kind, int] = {}

    def gather(self, kind: Kind, changes: Sequence[LevelChange]) -> None:
        if not changes:
            return
        gathered = self._gathered.setdefault(kind, _Gathered([]))
        gathered.changes += changes
        gathered.left_out += max(0, len(gathered.changes) - GATHERED_MOST)
        del gathered.changes[:-GATHERED_MOST]

    def due(self, now_ns: int) -> list[Told]:
        """One event for all of a kind that may be told now, as bad as the worst of it."""
        if now_ns < self.silent_until_ns:
            return []
        found = []
        for kind in list(self._gathered):
            if kind not in self._told_ns or now_ns - self._told_ns[kind] >= APART_NS:
                self._told_ns[kind] = now_ns
                found.append(_told(kind, self._gathered.pop(kind)))
        return found


def _told(kind: Kind, gathered: _Gathered) -> Told:
    changes = sorted(gathered.changes, key=lambda change: LEVELS.index(change.after), reverse=True)
    sentences = list(dict.fromkeys(change.why for change in changes))
    more = max(0, len(sentences) - SENTENCES_MOST) + gathered.left_out
    shown = sentences[:SENTENCES_MOST] + ([f"and {more} more changes"] if more else [])
    worst = changes[0].after
    return Told(kind, _SEVERITIES.get(worst, "info"), worst, "; ".join(shown))
