"""Which of the samples that a pipeline sees are worth keeping: a few for each reason, never two of the same minute.

The rank decides: for "random" it is chance (so that what is kept is a uniform sample of all minutes, bottom-k as in
Cohen and Kaplan, PODC 2007), for "uncertain" the doubt of the model, for "unusual" the distance from what is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.core.drift.chance import Chance
from edge_agent.monitoring import Held, SampleReason

SPACING_NS: Final = 60 * 10**9  # pictures nearer to each other show the same scene, and the disk is a card
MOST: Final = 200  # of each reason
FRESH_NS: Final = 30 * 86400 * 10**9  # what is older gives way to anything new: the world has moved on
# Of several, the first one counts: what is drawn by chance stays a fair sample, whatever else can be said of it.
REASONS: Final[tuple[SampleReason, ...]] = ("random", "unusual", "uncertain")

T = TypeVar("T")


class Chosen(Struct, Generic[T], frozen=True):
    """``what``: as it was offered; ``replaces``: the id of a kept one that has to go, "" for none."""

    held: Held
    what: T
    replaces: str


class SampleChoice(Generic[T]):
    """The best of each minute (``spacing_ns``) waits in memory until the minute is over."""

    def __init__(self, chance: Chance, *, most: int = MOST, spacing_ns: int = SPACING_NS) -> None:
        self._held: dict[str, Held] = {}
        self._chance = chance
        self._most = most
        self._spacing_ns = spacing_ns
        self._best: dict[SampleReason, tuple[Held, T]] = {}
        self._since_ns: int | None = None

    def take_up(self, held: Iterable[Held]) -> None:
        """What is kept already."""
        self._held.update({one.id: one for one in held})

    def offer(self, held_id: str, wall_ns: int, confidence: float | None, distance: float | None, what: T) -> bool:
        """Something was seen. ``confidence`` in 0..1 and ``distance`` (the larger the stranger); None or NaN: not
        known. Whether it waits now, so that ``what`` is kept in memory."""
        ranks: dict[SampleReason, float] = {"random": float(self._chance.uniforms(1)[0])}
        if confidence is not None and math.isfinite(confidence):
            ranks["uncertain"] = 1 - confidence
        if distance is not None and math.isfinite(distance):
            ranks["unusual"] = distance
        waits = False
        for reason, rank in ranks.items():
            best = self._best.get(reason)
            if best is None or rank > best[0].rank:
                self._best[reason] = Held(held_id, reason, rank, wall_ns), what
                waits = True
        return waits

    def due(self, mono_ns: int, wall_ns: int) -> list[Chosen[T]]:
        """What is worth keeping of the minute that is over now; nothing while it is not."""
        if self._since_ns is None:
            self._since_ns = mono_ns
        if mono_ns - self._since_ns < self._spacing_ns:
            return []
        self._since_ns = mono_ns
        found, best = [], self._best
        self._best = {}
        for reason in REASONS:
            if reason in best and best[reason][0].id not in self._held:
                held, what = best[reason]
                if (replaces := self._place(held, wall_ns)) is not None:
                    found.append(Chosen(held, what, replaces))
        return found

    def mislabelled(self, name: str, wall_ns: int) -> Chosen[None] | None:
        """Its label says that the prediction was wrong: it stays for that reason now. None: it is not kept."""
        before = self._held.pop(name, None)
        if before is None:
            return None
        held = replace(before, reason="mislabelled", rank=float(wall_ns))  # the newest are the most telling
        replaces = self._place(held, wall_ns)
        return Chosen(held, None, replaces or "")

    def known(self) -> set[str]:
        """The ids of all that is kept."""
        return set(self._held)

    def gone(self, names: Iterable[str]) -> None:
        """The store has given them up, or could not keep them."""
        for name in names:
            self._held.pop(name, None)

    def _place(self, held: Held, wall_ns: int) -> str | None:
        """Keep it. The id of the one that goes for it, "" where there is room, None where it is not worth it."""
        rivals = [one for one in self._held.values() if one.reason == held.reason]
        replaces = ""
        if len(rivals) >= self._most:
            least = min(rivals, key=lambda one: (wall_ns - one.wall_ns <= FRESH_NS, one.rank))
            if wall_ns - least.wall_ns <= FRESH_NS and least.rank >= held.rank:
                return None
            replaces = least.id
            del self._held[replaces]
        self._held[held.id] = held
        return replaces
