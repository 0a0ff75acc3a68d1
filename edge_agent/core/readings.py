"""Raw sensor values into readings: number, scale and offset, and the flags that say what is wrong with a value.

Pure: the time is that of the samples. A value that is no finite number never gets further than here.
"""

from __future__ import annotations

import math
import struct

from edge_agent.config.schema import FieldConfig
from edge_agent.records import Flag, RawSample, Reading

# Fewer identical readings can be chance, or a sensor that is asked more often than it measures.
STUCK_READINGS = 30


class FieldConverter:
    """One field of one sensor. Remembers how long the raw value has been the same, bit for bit."""

    def __init__(self, sensor: str, name: str, config: FieldConfig) -> None:
        self._key = f"{sensor}.{name}"
        self._name = name
        self._config = config
        self._same_bits = b""
        self._same_since_ns = 0
        self._same_count = 0

    def convert(self, raw: RawSample) -> Reading:
        """The reading of this field: value = raw * scale + offset, in the field's unit.

        Text that is no number, NaN, infinity and an absent field give the value None and the flag ``invalid``. A
        value outside the field's range is kept and flagged ``out_of_range``. An invalid value neither counts as a
        repetition of the last one nor as a change.
        """
        number = _number(raw.values.get(self._name))
        value = math.nan if number is None else number * self._config.scale + self._config.offset
        if number is None or not math.isfinite(value):
            return Reading(self._key, raw.mono_ns, None, self._config.unit, (Flag.INVALID,))
        flags = []
        if self._config.range is not None and not self._config.range[0] <= value <= self._config.range[1]:
            flags.append(Flag.OUT_OF_RANGE)
        if self._stuck(number, raw.mono_ns):
            flags.append(Flag.STUCK)
        return Reading(self._key, raw.mono_ns, value, self._config.unit, tuple(flags))

    def _stuck(self, number: float, mono_ns: int) -> bool:
        bits = struct.pack("<d", number)
        if bits != self._same_bits:
            self._same_bits, self._same_since_ns, self._same_count = bits, mono_ns, 0
        self._same_count += 1
        long_ago = mono_ns - self._same_since_ns > self._config.stuck_after
        return self._config.stuck_after > 0 and long_ago and self._same_count >= STUCK_READINGS


def _number(raw: object) -> float | None:
    """A number, numeric text or a bool as a float; None for anything else and for what is not finite."""
    # float() also takes 1_000, which no device means as a number
    if not isinstance(raw, bool | int | float | str) or (isinstance(raw, str) and "_" in raw):
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):  # text, or an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None
