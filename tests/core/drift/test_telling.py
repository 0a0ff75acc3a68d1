"""When changes become events: at once, together, and never as a flood."""

from __future__ import annotations

from edge_agent.core.drift.telling import APART_NS, GATHERED_MOST, SENTENCES_MOST, Telling
from edge_agent.monitoring import Level, LevelChange

SECOND = 10**9


def change(feature: str, after: Level = Level.WARNING, before: Level = Level.OK, why: str = "") -> LevelChange:
    return LevelChange(feature, before, after, why or f"{feature} is {after.value}")


def test_what_changed_at_once_is_one_event_as_bad_as_its_worst_and_the_worst_comes_first() -> None:
    telling = Telling()
    telling.gather("drift", [change("a", Level.INFO), change("b", Level.CRITICAL)])
    (told,) = telling.due(0)
    assert (told.kind, told.severity, told.worst) == ("drift", "error", Level.CRITICAL)
    assert told.detail == "b is critical; a is info"
    assert telling.due(10**18) == []


def test_kinds_are_told_apart() -> None:
    telling = Telling()
    telling.gather("drift", [change("a")])
    telling.gather("data_quality", [change("b", Level.OK, Level.CRITICAL)])
    assert [(told.kind, told.severity) for told in telling.due(0)] == [("drift", "warning"), ("data_quality", "info")]


def test_what_follows_soon_is_gathered_until_it_may_be_told() -> None:
    telling = Telling()
    telling.gather("data_quality", [change("a")])
    assert len(telling.due(0)) == 1
    telling.gather("data_quality", [change("b")])
    assert telling.due(APART_NS - 1) == []
    telling.gather("data_quality", [change("c")])
    (told,) = telling.due(APART_NS)
    assert told.detail == "b is warning; c is warning"


def test_a_silence_holds_all_back_and_its_end_tells_it() -> None:
    telling = Telling()
    telling.silent_until_ns = 100 * SECOND
    telling.gather("drift", [change("a")])
    assert telling.due(99 * SECOND) == []
    assert [told.detail for told in telling.due(100 * SECOND)] == ["a is warning"]


def test_an_event_stays_readable_and_memory_bounded_whatever_gathers() -> None:
    telling = Telling()
    telling.silent_until_ns = SECOND
    for number in range(1000):
        telling.gather("drift", [change(f"f{number}"), change("same")])
    (told,) = telling.due(SECOND)
    assert told.detail.count(";") == SENTENCES_MOST
    shown = GATHERED_MOST // 2 + 1  # the same sentence is said once
    assert told.detail.endswith(f"and {2000 - GATHERED_MOST + shown - SENTENCES_MOST} more changes")
