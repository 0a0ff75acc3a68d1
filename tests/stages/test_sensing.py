"""A sensor's thread among failing converters and failing takers."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from edge_agent import limits
from edge_agent.config.schema import FieldConfig
from edge_agent.core.readings import FieldConverter
from edge_agent.errors import DeviceError
from edge_agent.records import RawSample, Reading
from edge_agent.stages.sensing import SensorWorker
from tests.simulators.supervised import Site
from tests.simulators.waiting import wait_for

JOIN_S = 20.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 0.002)
    monkeypatch.setattr(limits, "BACKOFF_LAST_S", 0.01)


class ScriptedSensor:
    """``ports.Sensor``: a value a read, or an exception to raise; silent at the end."""

    def __init__(self, script: Iterable[float | Exception]) -> None:
        self.opened = self.closed = self.reads = 0
        self._script = iter(script)

    def open(self) -> None:
        self.opened += 1

    def read(self, timeout_s: float) -> RawSample | None:
        item = next(self._script, None)
        if isinstance(item, Exception):
            raise item
        if item is None:
            return None
        self.reads += 1
        return RawSample(self.reads, {"value": item})

    def close(self) -> None:
        self.closed += 1


class Taker:
    """Keeps readings; raises for those of ``bad`` values."""

    def __init__(self, bad: Iterable[float] = ()) -> None:
        self.values: list[float | None] = []
        self._bad = set(bad)

    def __call__(self, reading: Reading, arrival_ns: int) -> None:
        if reading.value in self._bad:
            raise ArithmeticError("alignment")
        self.values.append(reading.value)


def worker(site: Site, name: str, sensor: ScriptedSensor, taker: Taker) -> SensorWorker:
    field = FieldConfig(select="value", unit="degC")
    converters = [FieldConverter(name, "value", field)]
    return SensorWorker(name, sensor, converters, {f"{name}.value": [taker]}, 600.0, site.services)


def test_a_taker_or_a_driver_that_fails_hurts_only_its_own_sensor() -> None:
    site = Site()
    sensor, taker = ScriptedSensor([1.0, 2.0, RuntimeError("driver"), 3.0, 4.0]), Taker(bad=[2.0])
    other_sensor, other_taker = ScriptedSensor(range(200)), Taker()
    brittle, other = worker(site, "brittle", sensor, taker), worker(site, "other", other_sensor, other_taker)
    for item in (brittle, other):
        item.start()
    wait_for(lambda: taker.values == [1.0, 3.0, 4.0] and len(other_taker.values) == 200, "all readings are taken")
    site.stopping.set()
    for item in (brittle, other):
        item.join(JOIN_S)
        assert not item.is_alive()
    assert brittle.report() == {
        "state": "reading",
        "readings": 4,
        "invalid": 0,
        "failures": 2,
        "reopened": 1,
    }
    assert brittle.crashes == 2
    assert (sensor.opened, sensor.closed) == (3, 3)
    assert [(event.kind, event.subject) for event in site.events] == [
        ("worker_failed", "sensor brittle"),
        ("sensor_back", "brittle"),
    ]
    assert other.crashes == 0
    assert not site.deaths


def test_a_sensor_that_stays_away_waits_longer_and_longer_as_workers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """By ``Worker.pause``, which beats: a sensor that is away for hours never looks like a hung thread."""
    site = Site()
    gone = worker(site, "gone", ScriptedSensor([DeviceError("unplugged")] * 4), Taker())
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            site.stopping.set()

    monkeypatch.setattr(gone, "pause", pause)
    gone.start()
    gone.join(JOIN_S)
    assert not gone.is_alive()
    assert [0.001 <= waits[0] <= 0.002, 0.002 <= waits[1] <= 0.004, 0.005 <= waits[3] <= 0.01] == [True] * 3
    assert [event.kind for event in site.events] == ["sensor_lost"]
