import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.physical_units import QUANTITIES, conversion

UNITS = sorted(unit for units in QUANTITIES.values() for unit in units)
PAIRS = sorted((a, b) for units in QUANTITIES.values() for a in units for b in units)


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "expected"),
    [
        (212, "degF", "degC", 100),
        (-40, "degF", "degC", -40),
        (0, "°C", "K", 273.15),
        (37, "C", "degF", 98.6),
        (1, "lb", "g", 453.59237),
        (16, "oz", "lb", 1),
        (1, "in", "mm", 25.4),
        (1, "km", "ft", 3280.8398950131),
        (1, "psi", "Pa", 6894.757293168361),
        (1013.25, "hPa", "bar", 1.01325),
        (100.653, "kPa", "mbar", 1006.53),
        (36, "km/h", "m/s", 10),
        (2, "g_n", "m/s2", 19.6133),
        (1500, "mV", "V", 1.5),
        (0.5, "A", "mA", 500),
        (2, "kW", "W", 2000),
        (45, "%RH", "%", 45),
        (45, "%", "1", 0.45),
        (3000, "rpm", "Hz", 50),
        (90, "min", "h", 1.5),
    ],
)
def test_known_conversions(value, from_unit, to_unit, expected):
    scale, offset = conversion(from_unit, to_unit)
    assert value * scale + offset == pytest.approx(expected, rel=1e-12)


def test_a_factor_is_the_nearest_float():
    assert conversion("mm", "m") == (0.001, 0.0)
    assert conversion("degC", "K") == (1.0, 273.15)
    assert conversion("in", "cm") == (2.54, 0.0)


@given(pair=st.sampled_from(PAIRS), value=st.floats(-1e6, 1e6))
def test_there_and_back_again(pair, value):
    there_scale, there_offset = conversion(*pair)
    back_scale, back_offset = conversion(*reversed(pair))
    there = value * there_scale + there_offset
    # temperatures lose what their zero point is larger than the value
    assert there * back_scale + back_offset == pytest.approx(value, rel=1e-9, abs=1e-9 * max(1, abs(back_offset)))


@given(value=st.floats(-1e6, 1e6), data=st.data())
def test_a_detour_through_a_third_unit_changes_nothing(value, data):
    units = sorted(data.draw(st.sampled_from(sorted(map(sorted, QUANTITIES.values())))))
    a, b, c = (data.draw(st.sampled_from(units)) for _ in range(3))
    (s1, o1), (s2, o2), (s3, o3) = conversion(a, b), conversion(b, c), conversion(a, c)
    assert (value * s1 + o1) * s2 + o2 == pytest.approx(value * s3 + o3, rel=1e-9, abs=1e-6)


@given(unit=st.text())
def test_the_same_unit_and_no_unit_need_no_conversion(unit):
    assert conversion(unit, unit) == conversion(unit, "") == conversion("", unit) == (1.0, 0.0)


def test_units_of_two_quantities_are_told_apart():
    with pytest.raises(
        ValueError, match=r'"degC" can\'t be converted to "mm"; units of temperature: degC, .*; units of leng'
    ):
        conversion("degC", "mm")


@pytest.mark.parametrize("pair", [("celsius", "degC"), ("degC", "celsius")])
def test_an_unknown_unit_is_answered_with_the_known_ones_of_the_other(pair):
    with pytest.raises(ValueError, match=r"units of temperature: degC, °C, C, K, degF, °F, F$"):
        conversion(*pair)


def test_two_unknown_units_are_refused_with_what_to_do():
    with pytest.raises(
        ValueError, match=r'neither "foo" nor "bar2" is a known unit; write the same unit on both sides'
    ):
        conversion("foo", "bar2")


def test_no_unit_belongs_to_two_quantities():
    assert len(UNITS) == len(set(UNITS))
