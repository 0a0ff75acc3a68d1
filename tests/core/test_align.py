"""The alignment rule against a slow reference written from its definition, and each promise by example."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.schema import AlignConfig
from edge_agent.config.units import Duration
from edge_agent.core.align import DECIDED_KEPT, Aligner, Wanted
from edge_agent.limits import READINGS_KEPT
from edge_agent.records import Discard, DiscardReason, Flag, Reading, Sample

FEATURE = Wanted("f", "s.a", "C", feature=True, fill=7.5, to_card=(2.0, -1.0), valid=(-5.0, 6.0))
ATTACHED = Wanted("s.b", "s.b", "bar")


def config(method="nearest", max_skew=10, max_age=40, wait=0, missing="fill"):
    return AlignConfig(
        method=method,
        max_skew=Duration(max_skew),
        max_age=Duration(max_age),
        wait=Duration(wait),
        missing=missing,
    )


def reading(time, value, key="s.a", flags=()):
    return Reading(key, time, value, "C", flags if value is not None else (Flag.INVALID,))


# --- the reference -----------------------------------------------------------------------------------------------


def rank(item):
    return (item.value, item.flags)


def in_order(flags):
    return tuple(flag for flag in Flag if flag in flags)


def reference(arrived, frame, rule):
    """(value, age, flags) for one field from the readings that count, by looking at all of them."""
    before = rule.max_skew if rule.method == "nearest" else rule.max_age
    after = 0 if rule.method == "hold" else before
    window = [item for item in arrived if frame - before <= item.mono_ns <= frame + after]
    valid = [item for item in window if item.value is not None]
    lefts = sorted((item for item in valid if item.mono_ns <= frame), key=lambda item: (-item.mono_ns, *rank(item)))
    rights = sorted((item for item in valid if item.mono_ns > frame), key=lambda item: (item.mono_ns, *rank(item)))
    near = sorted(lefts[:1] + rights[:1], key=lambda item: (abs(item.mono_ns - frame), item.mono_ns))
    alone = [item for item in near if abs(item.mono_ns - frame) <= rule.max_skew]
    if rule.method == "hold" and lefts:
        age = frame - lefts[0].mono_ns
        held = (Flag.HELD,) if age > rule.max_skew else ()
        return lefts[0].value, age, in_order(lefts[0].flags + held)
    if rule.method == "interpolate" and lefts and rights and lefts[0].mono_ns < frame:
        left, right = lefts[0], rights[0]
        slope = (Fraction(right.value) - Fraction(left.value)) / (right.mono_ns - left.mono_ns)
        value = Fraction(left.value) + slope * (frame - left.mono_ns)
        return value, frame - near[0].mono_ns, in_order(left.flags + right.flags)
    if rule.method != "hold" and alone:
        age = frame - alone[0].mono_ns
        single = (Flag.NOT_INTERPOLATED,) if rule.method == "interpolate" and age != 0 else ()
        return alone[0].value, age, in_order(alone[0].flags + single)
    if any(item.value is None for item in window):
        return None, None, (Flag.MISSING, Flag.INVALID)
    if lefts or any(item.mono_ns < frame - before for item in arrived):
        return None, None, (Flag.MISSING, Flag.STALE)
    return None, None, (Flag.MISSING,)


def reference_result(arrivals, frame, rule):
    """What ``align`` must give for FEATURE and ATTACHED: (readings, features), or None for a discard."""
    outcomes = {}
    for want in (FEATURE, ATTACHED):
        arrived = [item for item, at in arrivals if item.key == want.key and at <= frame + rule.wait]
        outcomes[want.name] = reference(arrived, frame, rule)
    value, age, flags = outcomes["f"]
    if value is None and rule.missing == "discard":
        return None
    card = FEATURE.fill if value is None else value * 2 - 1
    if value is None:
        flags = in_order((*flags, Flag.FILLED))
    elif not -5 <= card <= 6:
        flags = in_order((*flags, Flag.OUT_OF_RANGE))
    return {"f": (value, age, flags), "s.b": outcomes["s.b"]}, card


def check_result(result, expected):
    if expected is None:
        assert isinstance(result, Discard)
        assert result.reason is DiscardReason.MISSING_FEATURE
        return
    assert isinstance(result, Sample)
    readings, card = expected
    assert result.features == {"f": pytest.approx(float(card), abs=1e-9)}
    assert list(result.readings) == list(readings)
    for name, (value, age, flags) in readings.items():
        got = result.readings[name]
        assert got.value == (None if value is None else pytest.approx(float(value), abs=1e-9))
        assert (got.age_ns, got.flags) == (age, flags)
    assert result.quality == tuple(f"{name}:{flag.value}" for name, parts in readings.items() for flag in parts[2])


def reference_late(arrivals, frames, rule):
    """How many readings were taken by a frame's deadline, came after it and would have changed its outcome."""
    first_arrival = {}
    for item, at in arrivals:
        first_arrival[item] = min(at, first_arrival.get(item, at))
    late = 0
    for item, at in first_arrival.items():
        for frame in frames:
            deadline = frame + rule.wait
            arrived = [other for other, when in first_arrival.items() if other.key == item.key and when <= deadline]
            before = rule.max_skew if rule.method == "nearest" else rule.max_age
            after = 0 if rule.method == "hold" else before
            inside = frame - before <= item.mono_ns <= min(frame + after, deadline)
            if inside and at > deadline and reference([*arrived, item], frame, rule) != reference(arrived, frame, rule):
                late += 1
                break
    return late


# Few times and values, so that ties, doubles and exact hits are common; no three values lie on a line over small
# whole times, so that a rounded and an exact interpolation never disagree on whether a reading changes it.
times = st.integers(0, 60)
readings = st.builds(
    reading,
    times,
    st.sampled_from([0.0, 1.0, 3.14159, -7.77, None]),
    st.sampled_from(["s.a", "s.a", "s.b"]),
    st.sampled_from([(), (), (Flag.STUCK,), (Flag.OUT_OF_RANGE, Flag.STUCK)]),
)
arrivals = st.lists(st.tuples(readings, st.integers(-20, 60)), max_size=25).map(
    lambda items: [(item, item.mono_ns + delay) for item, delay in items]
)
rules = st.builds(
    config,
    st.sampled_from(["nearest", "interpolate", "hold"]),
    st.integers(0, 15),
    st.integers(0, 50),
    st.integers(0, 30),
    st.sampled_from(["fill", "discard"]),
)
frame_times = st.lists(times, min_size=1, max_size=6).map(sorted)


@settings(max_examples=300, deadline=None)
@given(arrivals, rules, frame_times, st.data())
def test_every_frame_becomes_what_the_reference_says_in_whatever_order_and_number_the_readings_are_added(
    given_arrivals, rule, frames, data
):
    doubles = data.draw(st.lists(st.sampled_from(given_arrivals))) if given_arrivals else []
    aligner = Aligner([FEATURE, ATTACHED], rule)
    for item, at in data.draw(st.permutations(given_arrivals + doubles)):
        aligner.add(item, at)
    for frame in frames:
        check_result(aligner.align(frame), reference_result(given_arrivals, frame, rule))


@settings(max_examples=300, deadline=None)
@given(arrivals, rules, frame_times, st.lists(st.integers(0, 40), min_size=6, max_size=6))
def test_played_live_the_samples_and_the_late_readings_do_not_depend_on_how_long_after_its_deadline_a_frame_is_aligned(
    given_arrivals, rule, frames, delays
):
    called, events = 0, []
    for frame, delay in zip(frames, delays, strict=False):
        called = max(called, frame + rule.wait + delay)
        events.append((called, 1, frame))
    events += [(at, 0, item) for item, at in given_arrivals]
    aligner = Aligner([FEATURE, ATTACHED], rule)
    for at, is_frame, what in sorted(events, key=lambda event: event[:2]):
        if is_frame:
            check_result(aligner.align(what), reference_result(given_arrivals, what, rule))
        else:
            aligner.add(what, at)
    assert aligner.late == reference_late(given_arrivals, frames, rule)


@settings(max_examples=200, deadline=None)
@given(arrivals, rules, frame_times)
def test_no_sample_carries_a_reading_from_outside_its_window_or_from_after_its_deadline(given_arrivals, rule, frames):
    aligner = Aligner([FEATURE, ATTACHED], rule)
    for item, at in given_arrivals:
        aligner.add(item, at)
    for frame in frames:
        result = aligner.align(frame)
        for want in (FEATURE, ATTACHED) if isinstance(result, Sample) else ():
            got = result.readings[want.name]
            if got.value is None:
                continue
            bound = rule.max_skew if rule.method == "nearest" else rule.max_age
            assert (0 if rule.method == "hold" else -bound) <= got.age_ns <= bound
            allowed = [
                item
                for item, at in given_arrivals
                if item.key == want.key and item.value is not None and at <= frame + rule.wait
            ]
            assert any(item.mono_ns == frame - got.age_ns for item in allowed)
            near = [item.value for item in allowed if abs(item.mono_ns - frame) <= bound]
            assert min(near) <= got.value <= max(near)


@settings(max_examples=100, deadline=None)
@given(arrivals, rules, frame_times, st.integers(-(10**18), 10**18))
def test_only_differences_of_time_matter(given_arrivals, rule, frames, shift):
    here, there = Aligner([FEATURE, ATTACHED], rule), Aligner([FEATURE, ATTACHED], rule)
    for item, at in given_arrivals:
        here.add(item, at)
        there.add(Reading(item.key, item.mono_ns + shift, item.value, item.unit, item.flags), at + shift)
    assert [here.align(frame) for frame in frames] == [there.align(frame + shift) for frame in frames]


# --- by example --------------------------------------------------------------------------------------------------


def aligned(rule, *items, frame=100, wanted=(FEATURE,)):
    aligner = Aligner(wanted, rule)
    for item in items:
        aligner.add(item, item.mono_ns)
    return aligner.align(frame)


def test_nearest_prefers_the_earlier_of_two_equally_near_readings():
    got = aligned(config(wait=10), reading(95, 1.0), reading(105, 2.0)).readings["f"]
    assert (got.value, got.age_ns, got.flags) == (1.0, 5, ())


def test_a_feature_is_given_to_the_model_in_the_cards_unit_and_to_the_payload_as_measured():
    sample = aligned(config(), reading(100, 3.0))
    assert sample.features == {"f": 5.0}
    assert sample.readings["f"].value == 3.0
    assert sample.readings["f"].unit == "C"
    assert sample.quality == ()


def test_a_value_outside_the_cards_range_is_used_and_flagged():
    sample = aligned(config(), reading(100, 30.0, flags=(Flag.STUCK,)))
    assert sample.features == {"f": 59.0}
    assert sample.readings["f"].flags == (Flag.OUT_OF_RANGE, Flag.STUCK)
    assert sample.quality == ("f:out_of_range", "f:stuck")


def test_the_cards_range_does_not_judge_a_reading_that_only_travels_along():
    assert aligned(config(), reading(100, 1e6, "s.b"), wanted=(ATTACHED,)).readings["s.b"].flags == ()


def test_hold_keeps_an_older_value_and_says_so():
    got = aligned(config("hold"), reading(60, 2.0), reading(101, 9.0)).readings["f"]
    assert (got.value, got.age_ns, got.flags) == (2.0, 40, (Flag.HELD,))


def test_interpolation_lies_between_its_neighbours_and_has_the_flags_of_both():
    rule = config("interpolate", wait=50)
    got = aligned(rule, reading(90, 1.0, flags=(Flag.STUCK,)), reading(130, 3.0, flags=(Flag.OUT_OF_RANGE,)))
    assert got.readings["f"].value == 1.5
    assert got.readings["f"].age_ns == 10
    assert got.readings["f"].flags == (Flag.OUT_OF_RANGE, Flag.STUCK)


def test_interpolation_with_one_neighbour_takes_it_when_it_is_near_and_says_so():
    assert aligned(config("interpolate"), reading(95, 1.0)).readings["f"].flags == (Flag.NOT_INTERPOLATED,)


def test_interpolation_with_one_neighbour_that_is_not_near_has_nothing():
    flags = aligned(config("interpolate"), reading(80, 1.0)).readings["f"].flags
    assert flags == (Flag.MISSING, Flag.FILLED, Flag.STALE)


def test_interpolation_between_the_largest_numbers_does_not_overflow():
    got = aligned(config("interpolate", wait=50), reading(90, -1.7e308), reading(110, 1.7e308)).readings["f"]
    assert got.value == 0.0


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.booleans(), st.integers(1, 10**9), st.integers(1, 10**9))
def test_rounding_never_takes_an_interpolated_value_beyond_its_neighbours(first, second, same, before, after):
    second = first if same else second
    rule = config("interpolate", max_age=10**9, wait=10**9)
    got = aligned(rule, reading(-before, first), reading(after, second), frame=0).readings["f"]
    assert min(first, second) <= got.value <= max(first, second)


def test_an_invalid_reading_is_passed_over_for_an_older_valid_one():
    got = aligned(config(), reading(95, 1.0), reading(99, None)).readings["f"]
    assert (got.value, got.flags) == (1.0, ())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_counts_as_invalid(value):
    sample = aligned(config(), reading(99, value))
    assert sample.readings["f"].flags == (Flag.MISSING, Flag.FILLED, Flag.INVALID)


@pytest.mark.parametrize(
    ("items", "flags", "why"),
    [
        ([], (Flag.MISSING, Flag.FILLED), "no reading yet"),
        ([reading(50, 1.0)], (Flag.MISSING, Flag.FILLED, Flag.STALE), "the last reading is too old"),
        ([reading(95, None)], (Flag.MISSING, Flag.FILLED, Flag.INVALID), "only invalid readings in the window"),
    ],
)
def test_a_missing_feature_is_filled_and_flagged_or_the_frame_is_discarded_with_the_reason(items, flags, why):
    sample = aligned(config(), *items)
    assert sample.features == {"f": 7.5}
    assert (sample.readings["f"].value, sample.readings["f"].age_ns) == (None, None)
    assert sample.readings["f"].flags == flags
    discard = aligned(config(missing="discard"), *items)
    assert discard == Discard(DiscardReason.MISSING_FEATURE, f"f (s.a): {why}")


def test_a_missing_attached_reading_never_discards_a_frame():
    sample = aligned(config(missing="discard"), reading(100, 1.0), wanted=(FEATURE, ATTACHED))
    assert sample.readings["s.b"].flags == (Flag.MISSING,)
    assert sample.quality == ("s.b:missing",)


def test_one_field_can_be_a_feature_and_travel_along():
    both = (FEATURE, Wanted("s.a", "s.a", "C"))
    sample = aligned(config(), wanted=both)
    assert sample.readings["f"].flags == (Flag.MISSING, Flag.FILLED)
    assert sample.readings["s.a"].flags == (Flag.MISSING,)


def test_readings_that_nobody_wants_are_not_kept():
    aligner = Aligner([FEATURE], config())
    aligner.add(reading(1, 1.0, "other.field"), 1)
    assert len(aligner) == 0


def test_doubles_are_kept_once_and_count_from_their_first_arrival():
    aligner = Aligner([FEATURE], config())
    for arrival in (105, 100, 103):
        aligner.add(reading(99, 1.0), arrival)
    assert len(aligner) == 1
    assert aligner.align(100).readings["f"].value == 1.0


def test_a_late_reading_is_counted_once_and_changes_no_earlier_frame():
    aligner = Aligner([FEATURE], config("hold"))
    before = [aligner.align(frame) for frame in (100, 110, 120)]
    for _ in range(2):
        aligner.add(reading(99, 1.0), 125)
    assert aligner.late == 1
    assert [aligner.align(frame) for frame in (100, 110, 120)] == before
    assert aligner.align(130).readings["f"].value == 1.0
    assert aligner.late == 1


def test_a_late_reading_of_the_same_time_counts_only_when_it_is_the_one_that_would_have_been_used():
    aligner = Aligner([FEATURE], config())
    aligner.add(reading(99, 2.0), 99)
    aligner.align(100)
    aligner.add(reading(99, 3.0), 101)
    assert aligner.late == 0
    aligner.add(reading(99, 1.0), 101)
    assert aligner.late == 1


def test_a_reading_that_was_taken_after_the_deadline_is_not_late():
    aligner = Aligner([FEATURE], config())
    aligner.align(100)
    aligner.add(reading(103, 1.0), 104)
    assert aligner.late == 0


def test_a_reading_that_arrived_in_time_but_was_added_after_the_decision_is_counted():
    aligner = Aligner([FEATURE], config())
    aligner.align(100)
    aligner.add(reading(98, 1.0), 99)
    assert aligner.late == 1


def test_readings_known_beforehand_are_used_on_both_sides_of_the_frame_without_waiting():
    aligner = Aligner([FEATURE], config("interpolate"))
    for time in range(0, 200, 20):
        aligner.add(reading(time, float(time)), -(2**62))
    assert aligner.align(110).readings["f"].value == 110.0
    assert aligner.late == 0


def test_an_earlier_frame_is_aligned_by_the_same_rule_over_what_is_still_kept():
    aligner = Aligner([FEATURE], config("hold", wait=10))
    for time in range(0, 100, 10):
        aligner.add(reading(time, float(time)), time)
    later = [aligner.align(frame) for frame in (45, 95)]
    assert aligner.align(45) == later[0]
    assert aligner.align(50).readings["f"].value == 50.0


def test_memory_is_bounded_whatever_the_window():
    aligner = Aligner([FEATURE], config("hold", max_age=10**12))
    for time in range(READINGS_KEPT + 500):
        aligner.add(reading(time, float(time) if time % 3 else None), time)
    assert len(aligner) == READINGS_KEPT
    aligner.add(reading(3, 1.0), READINGS_KEPT + 500)
    assert len(aligner) == READINGS_KEPT


def test_readings_that_no_decided_frame_could_use_are_forgotten_but_the_sensor_is_known_to_have_delivered():
    aligner = Aligner([FEATURE], config())
    for time in range(0, 1000, 2):
        aligner.add(reading(time, 1.0), time)
    for frame in range(1000, 1000 + 30 * (DECIDED_KEPT + 1), 30):
        sample = aligner.align(frame)
    assert len(aligner) == 0
    assert sample.readings["f"].flags == (Flag.MISSING, Flag.FILLED, Flag.STALE)


def test_a_feature_that_could_be_neither_filled_nor_discarded_is_refused():
    bare = Wanted("f", "s.a", "C", feature=True)
    with pytest.raises(ValueError, match="'f' has no fill value"):
        Aligner([bare], config())
    assert isinstance(Aligner([bare], config(missing="discard")).align(0), Discard)


def test_two_wanted_readings_of_one_name_are_refused():
    with pytest.raises(ValueError, match="share a name"):
        Aligner([FEATURE, FEATURE], config())


# --- two models on one aligner -----------------------------------------------------------------------------------

# the same field in another scale and range, and one that the first model did not want
OTHER = [Wanted("g", "s.a", "C", feature=True, fill=1.0, to_card=(1.0, 3.0), valid=(0.0, 3.0)), Wanted("c", "s.c", "V")]

view_frames = st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=8).map(sorted)


@settings(max_examples=200, deadline=None)
@given(arrivals, view_frames, rules)
def test_each_of_two_models_gets_what_an_aligner_of_its_own_would_have_given_it(arrived, when, rule):
    shared, first, second = (Aligner(wanted, rule) for wanted in ([FEATURE, ATTACHED], [FEATURE, ATTACHED], OTHER))
    view = shared.view(OTHER)
    for item, at in arrived:
        for aligner in (shared, first, second):
            aligner.add(item, at)
    for time, other in when:
        own = second if other else first
        assert shared.align(time, view if other else None) == own.align(time)


def test_readings_that_were_there_before_the_view_count_for_it():
    aligner = Aligner([FEATURE], config())
    aligner.add(reading(5, 2.0), 5)
    sample = aligner.align(6, aligner.view(OTHER))
    assert isinstance(sample, Sample)
    assert sample.features == {"g": 5.0}
    assert sample.readings["c"].value is None


def test_what_only_the_new_model_wants_is_kept_from_then_on():
    aligner = Aligner([FEATURE], config())
    aligner.add(reading(5, 1.0, "s.c"), 5)
    view = aligner.view(OTHER)
    aligner.add(reading(6, 2.0, "s.c"), 6)
    sample = aligner.align(6, view)
    assert isinstance(sample, Sample)
    assert sample.readings["c"].value == 2.0


def test_a_reading_is_late_only_for_frames_whose_model_wanted_it():
    aligner = Aligner([FEATURE], config())
    view = aligner.view([OTHER[1]])
    aligner.align(10)
    aligner.add(reading(10, 1.0, "s.c"), 50)
    assert aligner.late == 0
    aligner.align(60, view)
    aligner.add(reading(60, 1.0, "s.c"), 80)
    assert aligner.late == 1


def test_a_view_is_held_to_the_same_rules():
    aligner = Aligner([FEATURE], config())
    with pytest.raises(ValueError, match="share a name"):
        aligner.view([FEATURE, FEATURE])
    with pytest.raises(ValueError, match="no fill value"):
        aligner.view([Wanted("f", "s.a", "C", feature=True)])
