"""``csv:PATH``: rows of a file given out at their own times, in real time or on a video's media time.

The row at ``start`` is media time 0, and a row's media time is (its time - start) / speed. With ``loop`` the rows
begin again after the last one plus the median step between different times: the seam looks like any other step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.context import SensorContext
from edge_agent.io.sensors.csv_table import TIMES_ALLOWED, CsvTable, load_table, parse_time
from edge_agent.records import RawSample


class CsvSeries:
    """The Series of a file on media time."""

    def __init__(self, config: SensorConfig, argument: str, folder: Path) -> None:
        """Raises DeviceError for a missing file, ConfigError for one that does not fit the configuration."""
        self._rows = _Rows(config, load_table(config, folder / argument))
        self._last_ns: int | None = None

    def until(self, media_ns: int) -> Sequence[RawSample]:
        """The rows not yet given out up to that media time, and one beyond it."""
        given: list[RawSample] = []
        while self._last_ns is None or self._last_ns <= media_ns:
            if self._rows.next_ns is None:
                break
            row = self._rows.take()
            self._last_ns = row.mono_ns
            given.append(row)
        return given


class CsvSensor:
    """The same rows in real time, from the first ``open`` on.

    A reopening goes on where the time is: hourly rows leave a silence that may be taken for a lost sensor, and
    beginning anew each time would never get beyond the first row.
    """

    def __init__(self, config: SensorConfig, argument: str, context: SensorContext) -> None:
        """Raises ConfigError when the file is there and does not fit the configuration."""
        self._config = config
        self._path = context.folder / argument
        self._clock = context.clock
        self._stopping = context.stopping
        self._begin_ns: int | None = None
        self._rows: _Rows | None = None
        # Not there yet is no mistake of the configuration: open will say it.
        with contextlib.suppress(DeviceError):
            self._rows = _Rows(config, load_table(config, self._path))

    def open(self) -> None:
        """Load the file where that is not done, and start the time. Raises DeviceError."""
        if self._rows is None:
            try:
                self._rows = _Rows(self._config, load_table(self._config, self._path))
            except ConfigError as error:
                raise DeviceError(str(error)) from None
        if self._begin_ns is None:
            self._begin_ns = self._clock.monotonic_ns()

    def read(self, timeout_s: float) -> RawSample | None:
        """The next row once its time has come, stamped with exactly that time; None for ever after the last."""
        if self._rows is None or self._begin_ns is None:
            raise DeviceError(f'sensor "{self._config.name}": {self._path} is not open')
        next_ns = self._rows.next_ns
        left_s = (self._begin_ns + next_ns - self._clock.monotonic_ns()) / 1e9 if next_ns is not None else float("inf")
        if self._stopping.wait(max(0.0, min(left_s, timeout_s))) or left_s > timeout_s:
            return None
        row = self._rows.take()
        return RawSample(self._begin_ns + row.mono_ns, row.values)

    def close(self) -> None:
        """The rows are in memory: there is nothing to release."""


class _Rows:
    """The rows from ``start`` on, each with its media time, once or for ever."""

    def __init__(self, config: SensorConfig, table: CsvTable) -> None:
        self._table = table
        start_ns = _start_ns(config, table.times_ns)
        self._skipped = int(np.searchsorted(table.times_ns, start_ns))
        used = table.times_ns[self._skipped :]
        if not len(used):
            raise ConfigError(
                f'sensor "{config.name}": start {config.start!r} is after the last row of {config.source}, whose '
                f"times run from {_as_text(table.times_ns[0])} to {_as_text(table.times_ns[-1])}"
            )
        self._media_ns = np.rint((used - start_ns) / config.speed).astype(np.int64)
        self._period_ns = _period_ns(config, used) if config.loop else None
        self._lap = 0
        self._row = 0

    @property
    def next_ns(self) -> int | None:
        """Media time of the next row; None after the last."""
        if self._row < len(self._media_ns):
            return int(self._media_ns[self._row]) + self._lap * (self._period_ns or 0)
        return None

    def take(self) -> RawSample:
        """The next row; there must be one."""
        sample = RawSample(
            int(self._media_ns[self._row]) + self._lap * (self._period_ns or 0),
            self._table.values(self._skipped + self._row),
        )
        self._row += 1
        if self._row == len(self._media_ns) and self._period_ns is not None:
            self._lap, self._row = self._lap + 1, 0
        return sample


def _start_ns(config: SensorConfig, times_ns: npt.NDArray[np.int64]) -> int:
    if config.start is None:
        return int(times_ns[0])
    try:
        return parse_time(str(config.start))
    except ValueError:
        raise ConfigError(f'sensor "{config.name}": start {config.start!r} is no time; {TIMES_ALLOWED}') from None


def _period_ns(config: SensorConfig, used: npt.NDArray[np.int64]) -> int:
    """Length of one lap; the median step stands between its last row and the first one of the next."""
    steps = np.diff(used)
    # A file with every row twice has a median step of 0, and the laps would overlap.
    steps = steps[steps > 0]
    step_ns = float(np.median(steps)) if len(steps) else 0.0
    period_ns = round((int(used[-1] - used[0]) + step_ns) / config.speed)
    if period_ns < 1:
        raise ConfigError(f'sensor "{config.name}": loop needs rows at two different times at least; remove loop')
    return period_ns


def _as_text(time_ns: int) -> str:
    """A time of the file for a message; small numbers are seconds of the file's own."""
    year_ns = 365 * 86400 * 10**9
    return str(np.datetime64(int(time_ns), "ns").astype("datetime64[s]")) if time_ns > year_ns else f"{time_ns / 1e9:g}"
