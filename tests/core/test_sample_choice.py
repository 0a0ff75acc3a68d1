"""Which samples are kept: for each reason the most telling ones, never two of one minute, never more than a bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_agent.core.drift.chance import Chance
from edge_agent.core.sample_choice import FRESH_NS, SPACING_NS, Chosen, SampleChoice
from edge_agent.monitoring import Held, SampleReason

SECOND = 10**9
DULL = 50  # rows, of which chance draws one


def choice(*held: Held, most: int = 3, seed: int = 1) -> SampleChoice[int]:
    made: SampleChoice[int] = SampleChoice(Chance(seed), most=most)
    made.take_up(held)
    made.due(0, 0)  # the first minute begins
    return made


def minute(chooser: SampleChoice[int], number: int, *rows: tuple[float | None, float | None]) -> list[Chosen[int]]:
    """The rows (confidence, distance) of one minute among dull ones, and what is kept of them. ``what`` is the row's
    place."""
    for place, (confidence, distance) in enumerate([*rows, *[(None, None)] * DULL]):
        wall_ns = number * SPACING_NS + place * SECOND
        chooser.offer(f"{number}.{place}", wall_ns, confidence, distance, place)
    return chooser.due((number + 1) * SPACING_NS, (number + 1) * SPACING_NS)


def by_reason(chosen: list[Chosen[int]]) -> dict[SampleReason, int]:
    return {one.held.reason: one.what for one in chosen}


def test_of_a_minute_the_strangest_the_least_certain_and_one_by_chance_are_kept() -> None:
    kept = by_reason(minute(choice(), 0, (0.9, 1.0), (0.3, 2.0), (0.8, 9.0)))
    assert kept["unusual"] == 2
    assert kept["uncertain"] == 1
    assert set(kept) == {"unusual", "uncertain", "random"}


def test_a_sample_is_kept_once_and_what_chance_draws_counts_as_that() -> None:
    chooser = choice(most=1)
    chooser.offer("a", 0, 0.1, 9.0, 0)
    assert by_reason(chooser.due(SPACING_NS, 0)) == {"random": 0}
    chooser.offer("b", 0, 0.2, 8.0, 1)
    (chosen,) = chooser.due(2 * SPACING_NS, 0)  # chance or not, it is the strangest by now
    assert chosen.held.reason in ("random", "unusual")


def test_what_is_not_known_is_no_reason() -> None:
    assert set(by_reason(minute(choice(), 0, (None, math.nan)))) == {"random"}
    assert choice().due(SPACING_NS, 0) == []


def test_before_the_minute_is_over_nothing_is_kept() -> None:
    chooser = choice()
    chooser.offer("a", 0, 0.5, None, 0)
    assert chooser.due(SPACING_NS - 1, 0) == []
    assert [one.held.id for one in chooser.due(SPACING_NS, 0)] == ["a"]


def test_a_row_that_is_no_better_than_its_minute_need_not_be_kept_in_memory() -> None:
    chooser = choice()
    assert chooser.offer("a", 0, 0.5, 1.0, 0)
    waits = [chooser.offer(f"b{number}", 0, 0.6, 0.5, 0) for number in range(100)]
    assert sum(waits) < 15  # only where chance draws a larger number than ever before in this minute


def test_a_full_reason_gives_up_its_lowest_rank_for_a_higher_one_only() -> None:
    chooser = choice(most=2)
    for number, distance in enumerate((5.0, 7.0)):
        assert [one.replaces for one in minute(chooser, number, (None, distance)) if one.held.reason == "unusual"] == [
            ""
        ]
    assert "unusual" not in by_reason(minute(chooser, 2, (None, 4.0)))
    (better,) = [one for one in minute(chooser, 3, (None, 6.0)) if one.held.reason == "unusual"]
    assert better.replaces == "0.0"


def test_what_is_older_than_a_month_gives_way_to_anything() -> None:
    chooser = choice(Held("old", "unusual", 99.0, -FRESH_NS), Held("new", "unusual", 5.0, 0), most=2)
    (chosen,) = [one for one in minute(chooser, 0, (None, 0.1)) if one.held.reason == "unusual"]
    assert chosen.replaces == "old"


def test_what_the_store_gave_up_makes_room() -> None:
    chooser = choice(Held("a", "unusual", 9.0, 0), most=1)
    assert "unusual" not in by_reason(minute(chooser, 0, (None, 1.0)))
    chooser.gone(["a", "never there"])
    assert by_reason(minute(chooser, 1, (None, 1.0)))["unusual"] == 0


def test_a_wrong_label_keeps_a_sample_for_that_and_frees_its_place() -> None:
    chooser = choice(Held("a", "unusual", 9.0, 0), Held("b", "unusual", 8.0, 0), most=1)
    moved = chooser.mislabelled("a", 5)
    assert moved is not None
    assert (moved.held, moved.replaces) == (Held("a", "mislabelled", 5.0, 0), "")
    again = chooser.mislabelled("b", 6)
    assert again is not None
    assert again.replaces == "a"  # the newest mistakes are kept
    assert chooser.mislabelled("a", 7) is None


@pytest.mark.parametrize("seed", [1, 2])
def test_chance_keeps_every_minute_with_the_same_probability(seed: int) -> None:
    minutes, most, runs = 40, 10, 200
    times = np.zeros(minutes)
    for run in range(runs):
        chooser = choice(most=most, seed=1000 * seed + run)
        held: dict[str, int] = {}
        for number in range(minutes):
            chooser.offer(str(number), 0, None, None, number)
            for one in chooser.due((number + 1) * SPACING_NS, 0):
                held.pop(one.replaces, None)
                held[one.held.id] = number
        times[list(held.values())] += 1
    expected = runs * most / minutes
    assert abs(times - expected).max() < 5 * math.sqrt(expected * (1 - most / minutes))
    assert times.sum() == runs * most
