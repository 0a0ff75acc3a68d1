"""The rule by which heat lowers the rate, over simulated hours."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.heat import Flicker, Heat, Step

SECOND = 10**9
LOOK_S = 5
HOT, WARM, COOL = 81.0, 77.0, 70.0


def heat() -> Heat:
    return Heat(slow_above_c=80.0, normal_below_c=75.0)


def run(rule: Heat, curve, until_s: int, since_s: int = 0, throttled=lambda _: False) -> list[tuple[int, Step]]:
    """Every change and its second; ``curve`` and ``throttled`` are functions of the time in seconds."""
    steps = []
    for at_s in range(since_s, until_s, LOOK_S):
        step = rule.look(at_s * SECOND, curve(at_s), throttled(at_s))
        if step is not None:
            steps.append((at_s, step))
    return steps


def test_a_board_that_is_not_hot_keeps_its_rate() -> None:
    assert run(heat(), lambda _: 79.9, 8 * 3600) == []
    assert run(heat(), lambda _: None, 8 * 3600) == []


def test_the_rate_halves_at_once_and_again_every_thirty_seconds_of_heat() -> None:
    assert run(heat(), lambda _: HOT, 70) == [(0, Step(1, 2, True)), (30, Step(2, 4, True)), (60, Step(3, 8, True))]


def test_between_the_two_temperatures_nothing_changes_for_hours() -> None:
    rule = heat()
    run(rule, lambda _: HOT, 40)
    assert rule.level == 2
    assert run(rule, lambda _: WARM, 4 * 3600, since_s=40) == []
    assert rule.slowdown == 4


def test_the_rate_comes_back_step_by_step_once_a_minute() -> None:
    rule = heat()
    run(rule, lambda _: HOT, 40)
    assert run(rule, lambda _: COOL, 600, since_s=40) == [(100, Step(1, 2, False)), (160, Step(0, 1, False))]


def test_an_afternoon_in_the_sun_lowers_the_rate_holds_it_and_gives_it_back() -> None:
    """A board whose temperature follows the sun and its own load: 8 hours, a look every 5 s."""
    rule = heat()
    temperature, highest, levels = 60.0, 0.0, []
    for at_s in range(0, 8 * 3600, LOOK_S):
        sun = 25.0 * max(0.0, math.sin(math.pi * at_s / (8 * 3600)))
        balance = 38.0 + sun + 26.0 / rule.slowdown  # where sun and load would bring it in the long run
        temperature += (balance - temperature) * LOOK_S / 120
        highest = max(highest, temperature)
        rule.look(at_s * SECOND, temperature, False)
        levels.append(rule.level)
    changes = [level for level, before in zip(levels[1:], levels, strict=False) if level != before]
    assert levels[0] == levels[-1] == 0
    assert 1 <= max(levels) <= 3
    assert highest < 81.0  # without the rule it would be 89
    assert len(changes) <= 8 * 12  # one in five minutes, as heat and relief take their time: not one each look


def test_flapping_between_hot_and_well_does_not_flap_the_rate() -> None:
    steps = run(heat(), lambda at_s: HOT if at_s // LOOK_S % 2 else COOL, 3600)
    assert all(step.slower for _, step in steps)


def test_flapping_around_the_lower_threshold_keeps_the_rate_where_it_is() -> None:
    rule = heat()
    run(rule, lambda _: HOT, 5)
    assert run(rule, lambda at_s: 75.5 if at_s % 55 == 0 else 74.5, 3600, since_s=5) == []


def test_the_firmware_s_word_lowers_the_rate_of_a_board_that_reads_cool_or_nothing() -> None:
    for temperature in (COOL, None):
        rule = heat()
        steps = run(rule, lambda _, t=temperature: t, 200, throttled=lambda at_s: at_s < 40)
        assert steps == [
            (0, Step(1, 2, True)),
            (30, Step(2, 4, True)),
            (100, Step(1, 2, False)),
            (160, Step(0, 1, False)),
        ]


def test_a_thermal_zone_that_vanishes_does_not_hold_the_rate_down_for_ever() -> None:
    rule = heat()
    run(rule, lambda _: HOT, 5)
    assert run(rule, lambda _: None, 600, since_s=5) == [(65, Step(0, 1, False))]


def test_no_level_is_reached_that_would_slow_nothing_but_the_first_which_tells_of_the_heat() -> None:
    def level_after_an_hour(slowdown_most: int | None) -> int:
        rule = heat()
        for at_s in range(0, 3600, LOOK_S):
            rule.look(at_s * SECOND, HOT, False, slowdown_most)
        return rule.level

    assert [level_after_an_hour(most) for most in (1, 2, 3, 4, 10, None)] == [1, 1, 2, 2, 4, 6]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 200), st.sampled_from([HOT, WARM, COOL, None]), st.booleans()), max_size=80))
def test_steps_are_single_up_no_sooner_than_thirty_seconds_down_no_sooner_than_sixty(looks) -> None:
    rule = heat()
    now_ns, level, changed_ns = 0, 0, -(10**12)
    for gap_s, temperature, throttled in looks:
        now_ns += gap_s * SECOND
        step = rule.look(now_ns, temperature, throttled)
        if step is None:
            assert rule.level == level
            continue
        assert step.level == rule.level == level + (1 if step.slower else -1)
        assert step.slowdown == rule.slowdown == 2**step.level
        assert now_ns - changed_ns >= (30 if step.slower else 60) * SECOND
        assert step.slower == (throttled or temperature == HOT)
        level, changed_ns = step.level, now_ns


@pytest.mark.parametrize(("there_s", "told_s"), [([0, 5, 10], [0]), ([0, 599], [0]), ([0, 599, 1198, 1798], [0, 1798])])
def test_what_flickers_is_told_once_until_it_was_away_for_ten_minutes(there_s, told_s) -> None:
    rule = Flicker(600.0)
    assert [at_s for at_s in range(2000) if rule.look(at_s * SECOND, at_s in there_s)] == told_s
