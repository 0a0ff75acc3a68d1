"""What is kept of a sensor field's readings, and what is remembered of those that are not."""

from __future__ import annotations

from edge_agent.core.kept_readings import KeptReadings
from edge_agent.limits import READINGS_KEPT
from edge_agent.records import Flag, Reading


def reading(time, value=1.0, flags=()):
    return Reading("s.a", time, value, "C", flags)


def test_a_double_changes_nothing_and_is_told_by_all_of_time_value_and_flags():
    kept = KeptReadings()
    assert kept.add(reading(1), 5) is not None
    assert kept.add(reading(1), 6) is None
    for other in (reading(2), reading(1, 2.0), reading(1, flags=(Flag.STUCK,)), reading(1, None)):
        assert kept.add(other, 7) is not None
    assert len(kept) == 5


def test_a_reading_is_found_late_once_and_forgotten_with_its_mark():
    kept = KeptReadings()
    entry = kept.add(reading(1), 5)
    assert [kept.mark_late(entry) for _ in range(3)] == [True, False, False]
    kept.forget_before(2)
    assert len(kept) == 0
    assert kept.mark_late(entry)


def test_forgotten_readings_are_remembered_as_something_the_sensor_delivered():
    kept = KeptReadings()
    kept.add(reading(1), 5)
    kept.forget_before(2)
    assert kept.add(reading(0), 4) is None
    assert not kept.any_before(10, deadline_ns=3)
    assert kept.any_before(10, deadline_ns=4)


def test_when_there_are_too_many_the_oldest_by_time_go_whatever_the_order_of_arrival():
    kept = KeptReadings()
    for time in range(READINGS_KEPT, 0, -1):
        assert kept.add(reading(time, None if time % 2 else 1.0), 0) is not None
    assert kept.add(reading(0), 0) is None
    assert kept.add(reading(READINGS_KEPT + 1), 0) is not None
    assert len(kept) == READINGS_KEPT
    left, right, missed = kept.neighbours(2, 0, 4, 0)
    assert (left[0], right[0], missed) == (2, 4, [])
    assert kept.invalid_within(0, 2, 0) == (False, [])
