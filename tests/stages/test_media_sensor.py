"""A sensor on media time gives a frame what its rule can use, however fast the series is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.schema import AlignConfig, FieldConfig, SensorConfig
from edge_agent.config.units import Duration
from edge_agent.core.align import Aligner, Wanted
from edge_agent.core.readings import FieldConverter
from edge_agent.io.sensors import create_series
from edge_agent.limits import READINGS_KEPT
from edge_agent.records import Sample
from edge_agent.stages.media import MediaSensor

SECOND = 10**9


def aligned(folder: Path, rows: list[str], method: str, frames_ns: list[int]) -> list[float | None]:
    """The value that each frame gets of a series with these rows of time and value."""
    (folder / "series.csv").write_text("\n".join(["time,v", *rows]) + "\n")
    config = SensorConfig(name="s", source="csv:series.csv", timeline="media", fields={"v": FieldConfig()})
    aligner = Aligner([Wanted(name="s.v", key="s.v", unit="")], AlignConfig(method=method))
    sensor = MediaSensor(create_series(config, folder), [FieldConverter("s", "v", FieldConfig())], aligner.ahead_ns)
    values = []
    for frame_ns in frames_ns:
        for reading in sensor.until(frame_ns):
            aligner.add(reading, -(2**62))
        sample = aligner.align(frame_ns)
        assert isinstance(sample, Sample)
        values.append(sample.readings["s.v"].value)
    return values


@pytest.mark.parametrize("method", ["nearest", "hold", "interpolate"])
def test_a_series_of_a_thousand_rows_a_second_gives_each_frame_its_own_row(method: str, tmp_path: Path) -> None:
    rows = [f"{number / 1000:.3f},{number}" for number in range(3 * READINGS_KEPT)]
    frames_ns = [number * SECOND // 10 for number in range(100)]
    assert aligned(tmp_path, rows, method, frames_ns) == [number * 100.0 for number in range(100)]


def test_rows_without_a_value_are_read_past_to_the_next_one_of_the_window(tmp_path: Path) -> None:
    rows = ["0,0", "0.1,", "0.2,nan", "0.4,4"]
    assert aligned(tmp_path, rows, "interpolate", [SECOND // 10]) == [pytest.approx(1.0)]


def test_nothing_is_read_past_the_window() -> None:
    assert Aligner([], AlignConfig(method="hold")).ahead_ns == 0
    assert Aligner([], AlignConfig(max_skew=Duration(7))).ahead_ns == 7
