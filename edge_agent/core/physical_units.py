"""Physical units that convert into each other: to = from * scale + offset.

One table: unit -> (size in the quantity's base unit, zero point in the base unit). Exact fractions, so that a
conversion is the nearest float and mm to m is 0.001 and nothing beside it.
"""

from __future__ import annotations

from fractions import Fraction

_ZERO = Fraction(0)
_KELVIN_AT_0C = Fraction("273.15")
_POUND = Fraction("0.45359237")  # kg, international yard and pound agreement of 1959
_INCH = Fraction("0.0254")  # m, the same agreement
_G_N = Fraction("9.80665")  # m/s2, standard gravity (3rd CGPM, 1901)
_MILLI = Fraction(1, 1000)
_KILO = Fraction(1000)
_ONE = Fraction(1)


def _sizes(sizes: dict[str, Fraction | int | str]) -> dict[str, tuple[Fraction, Fraction]]:
    """Units that have their zero in the same place."""
    return {unit: (Fraction(size), _ZERO) for unit, size in sizes.items()}


_CELSIUS = (_ONE, _KELVIN_AT_0C)
_FAHRENHEIT = (Fraction(5, 9), _KELVIN_AT_0C - Fraction(160, 9))

QUANTITIES: dict[str, dict[str, tuple[Fraction, Fraction]]] = {
    "temperature": {
        **{"degC": _CELSIUS, "°C": _CELSIUS, "C": _CELSIUS, "K": (_ONE, _ZERO)},
        **{"degF": _FAHRENHEIT, "°F": _FAHRENHEIT, "F": _FAHRENHEIT},
    },
    "mass": _sizes({"kg": 1, "g": _MILLI, "mg": _MILLI**2, "lb": _POUND, "oz": _POUND / 16}),
    "length": _sizes({"m": 1, "mm": _MILLI, "cm": "0.01", "km": _KILO, "in": _INCH, "ft": 12 * _INCH}),
    "pressure": _sizes(
        {"Pa": 1, "hPa": 100, "mbar": 100, "kPa": 1000, "bar": 100_000, "psi": _POUND * _G_N / _INCH**2}
    ),
    "speed": _sizes({"m/s": 1, "cm/s": "0.01", "mm/s": _MILLI, "km/h": Fraction(1000, 3600)}),
    "acceleration": _sizes({"m/s2": 1, "m/s²": 1, "g_n": _G_N}),
    "voltage": _sizes({"V": 1, "mV": _MILLI}),
    "current": _sizes({"A": 1, "mA": _MILLI}),
    "power": _sizes({"W": 1, "mW": _MILLI, "kW": _KILO}),
    "ratio": _sizes({"1": 1, "%": "0.01", "%RH": "0.01"}),
    "frequency": _sizes({"Hz": 1, "kHz": _KILO, "rpm": Fraction(1, 60)}),
    "time": _sizes({"s": 1, "ms": _MILLI, "min": 60, "h": 3600}),
}

_QUANTITY_OF = {unit: quantity for quantity, units in QUANTITIES.items() for unit in units}


def conversion(from_unit: str, to_unit: str) -> tuple[float, float]:
    """(scale, offset) with to = from * scale + offset; (1, 0) for the same unit and where a side has none.

    Raises ValueError for a unit that is not known and for two units of different quantities.
    """
    if from_unit == to_unit or not from_unit or not to_unit:
        return 1.0, 0.0
    quantity, other = _QUANTITY_OF.get(from_unit), _QUANTITY_OF.get(to_unit)
    if quantity is None or quantity != other:
        raise ValueError(_no_conversion(from_unit, to_unit))
    from_size, from_zero = QUANTITIES[quantity][from_unit]
    to_size, to_zero = QUANTITIES[quantity][to_unit]
    return float(from_size / to_size), float((from_zero - to_zero) / to_size)


def _no_conversion(from_unit: str, to_unit: str) -> str:
    known = {unit: _QUANTITY_OF[unit] for unit in (from_unit, to_unit) if unit in _QUANTITY_OF}
    if not known:
        return (
            f'neither "{from_unit}" nor "{to_unit}" is a known unit; write the same unit on both sides and convert '
            "with scale and offset"
        )
    what = f'"{from_unit}" can\'t be converted to "{to_unit}"'
    lists = [f"units of {quantity}: {', '.join(QUANTITIES[quantity])}" for quantity in dict.fromkeys(known.values())]
    return f"{what}; {'; '.join(lists)}"
