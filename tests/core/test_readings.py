import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.schema import FieldConfig
from edge_agent.config.units import Duration
from edge_agent.core.readings import STUCK_READINGS, FieldConverter
from edge_agent.records import Flag, RawSample, Reading

S = 10**9


def converter(**keys):
    return FieldConverter("machine", "t", FieldConfig(**keys))


def convert(raw, **keys):
    return converter(**keys).convert(RawSample(7, {"t": raw}))


def test_a_reading_carries_its_key_its_time_its_unit_and_the_converted_value():
    assert convert("212", unit="degC", scale=0.5, offset=-6.0) == Reading("machine.t", 7, 100.0, "degC", ())


@pytest.mark.parametrize(
    ("raw", "value"), [(21.5, 21.5), (3, 3.0), ("21.5", 21.5), (" -1e3\r", -1000.0), (True, 1.0), (False, 0.0)]
)
def test_numbers_numeric_text_and_bools_are_values(raw, value):
    assert convert(raw).value == value


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "off",
        "21,5",
        "1_000",
        "0x10",
        "nan",
        "-inf",
        math.nan,
        math.inf,
        10**400,
        None,
        [1],
        b"1",
        "unreadable: 21.5",
    ],
)
def test_what_is_no_finite_number_is_invalid_and_has_no_value(raw):
    assert convert(raw, unit="V") == Reading("machine.t", 7, None, "V", (Flag.INVALID,))


def test_an_absent_field_is_invalid():
    assert converter().convert(RawSample(7, {"other": 1.0})).flags == (Flag.INVALID,)


def test_a_value_that_overflows_in_conversion_is_invalid():
    assert convert(1e308, scale=100.0) == Reading("machine.t", 7, None, "", (Flag.INVALID,))


@pytest.mark.parametrize(("raw", "flags"), [(-1, ()), (1, ()), (1.5, (Flag.OUT_OF_RANGE,)), (-2, (Flag.OUT_OF_RANGE,))])
def test_the_range_holds_in_the_converted_unit_and_keeps_the_value(raw, flags):
    reading = convert(raw, scale=10.0, range=(-10, 10))
    assert reading.value == raw * 10
    assert reading.flags == flags


def readings(values, step_s, **keys):
    one = converter(stuck_after=Duration(60 * S), **keys)
    return [one.convert(RawSample(i * step_s * S, {"t": value})).flags for i, value in enumerate(values)]


def test_a_value_is_stuck_after_the_time_and_the_number_of_readings_and_until_it_changes():
    flags = readings([5] * 70 + [6], 1)
    assert [index for index, flag in enumerate(flags) if flag] == list(range(61, 70))
    assert flags[61] == (Flag.STUCK,)


def test_a_slow_sensor_is_not_stuck_before_enough_readings():
    flags = readings([5] * 40, 30)
    assert [index for index, flag in enumerate(flags) if flag] == list(range(STUCK_READINGS - 1, 40))


def test_the_smallest_change_begins_anew():
    assert not any(readings([5, math.nextafter(5, 6)] * 50, 10))
    assert not any(readings([0.0, -0.0] * 50, 10))


def test_the_same_number_written_another_way_is_the_same():
    assert readings(["5", "5.0"] * 40, 10)[-1] == (Flag.STUCK,)


def test_an_invalid_reading_neither_counts_nor_begins_anew():
    flags = readings([5, "off"] * 40, 10)
    assert flags[-1] == (Flag.INVALID,)
    assert flags[-2] == (Flag.STUCK,)
    assert flags[2 * (STUCK_READINGS - 2)] == ()
    assert flags[2 * (STUCK_READINGS - 1)] == (Flag.STUCK,)


def test_a_value_may_be_stuck_and_out_of_range_at_once():
    assert readings([5] * 40, 10, range=(0, 1))[-1] == (Flag.OUT_OF_RANGE, Flag.STUCK)


def test_stuck_after_nothing_means_never():
    one = converter(stuck_after=Duration(0))
    assert not any(one.convert(RawSample(i * S, {"t": 5})).flags for i in range(1000))


anything = st.floats() | st.integers() | st.text() | st.booleans() | st.none()


@given(values=st.lists(anything), scale=st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_the_device_delivers_a_value_is_finite_or_absent_and_invalid(values, scale):
    one = converter(scale=scale)
    for value in values:
        reading = one.convert(RawSample(0, {"t": value}))
        assert (reading.value is None) == (Flag.INVALID in reading.flags)
        assert reading.value is None or math.isfinite(reading.value)
