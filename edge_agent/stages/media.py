"""A sensor that runs with a pipeline's video: all its rows are known beforehand, and just enough of them are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_agent.core.readings import FieldConverter
from edge_agent.ports import Series
from edge_agent.records import Flag, Reading


class MediaSensor:
    """Used by one pipeline's thread. A rule needs the rows up to the frame and, of those after it, the first with a
    valid value; more are not read, so that a fast series does not push out what the frame needs."""

    def __init__(self, series: Series, converters: Sequence[FieldConverter], ahead_ns: int) -> None:
        """``ahead_ns``: how far after a frame a reading may be used."""
        self.readings = self.invalid = 0
        self._series = series
        self._converters = converters
        self._ahead_ns = ahead_ns
        self._last_ns = -(2**62)  # media time of the last row read
        self._last_valid = True

    def until(self, media_ns: int) -> Iterator[Reading]:
        """The readings that a frame at that media time can use and that were not given out before, in media time."""
        yield from self._read(media_ns)
        while not self._last_valid and media_ns < self._last_ns <= media_ns + self._ahead_ns:
            before_ns = self._last_ns
            yield from self._read(before_ns)
            if self._last_ns == before_ns:  # the series ended
                return

    def report(self) -> dict[str, object]:
        """The sensor's part of ``stats``, like that of a live sensor."""
        return {"state": "media", "readings": self.readings, "invalid": self.invalid, "failures": 0, "reopened": 0}

    def _read(self, media_ns: int) -> Iterator[Reading]:
        for raw in self._series.until(media_ns):
            readings = [converter.convert(raw) for converter in self._converters]
            broken = sum(Flag.INVALID in reading.flags for reading in readings)
            self.readings += len(readings)
            self.invalid += broken
            self._last_ns, self._last_valid = raw.mono_ns, not broken
            yield from readings
