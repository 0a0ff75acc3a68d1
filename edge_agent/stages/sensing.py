"""One thread for each live sensor: open, read, convert, hand each reading to the pipelines that want it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from edge_agent import limits
from edge_agent.core.backoff import Backoff
from edge_agent.core.readings import FieldConverter
from edge_agent.errors import DeviceError
from edge_agent.ports import Sensor
from edge_agent.records import Event, Flag, RawSample, Reading
from edge_agent.stages.worker import Services, Worker

ReadingSink = Callable[[Reading, int], None]
"""Called with a reading and its arrival time (CLOCK_MONOTONIC ns)."""


class SensorWorker(Worker):
    """Reads one sensor for all the pipelines that use it; ``silence_s`` without a reading counts as lost."""

    def __init__(
        self,
        name: str,
        sensor: Sensor,
        converters: Sequence[FieldConverter],
        sinks: Mapping[str, Sequence[ReadingSink]],
        silence_s: float,
        services: Services,
    ) -> None:
        """``sinks`` maps "sensor.field" to those who want it."""
        super().__init__(f"sensor {name}", services)
        self.sensor_name = name
        self.state = "opening"  # opening | reading | silent | lost
        self.readings = self.invalid = self.failures = self.reopened = 0
        self._sensor = sensor
        self._converters = converters
        self._sinks = sinks
        self._silence_s = silence_s
        self._backoff = Backoff(limits.BACKOFF_FIRST_S, limits.BACKOFF_LAST_S)

    def work(self) -> None:
        while not self.services.stopping.is_set():
            self.beat()
            try:
                self._sensor.open()
                self._read()
            except DeviceError as error:
                self._lost(error)
            finally:
                self._sensor.close()
            self.pause(self._backoff.next(random.random()))

    def recover(self) -> None:
        """The failure was reported as ``worker_failed``; readings that come again are ``sensor_back``."""
        self.failures += 1
        self.state = "lost"

    def report(self) -> dict[str, object]:
        """The sensor's part of ``stats``."""
        return {
            "state": self.state,
            "readings": self.readings,
            "invalid": self.invalid,
            "failures": self.failures,
            "reopened": self.reopened,
        }

    def _read(self) -> None:
        """Until the process stops. Raises DeviceError when the sensor is lost."""
        heard_ns = self.clock.monotonic_ns()
        while not self.services.stopping.is_set():
            raw = self._sensor.read(1.0)
            self.beat()
            now_ns = self.clock.monotonic_ns()
            if raw is not None:
                heard_ns = now_ns
                self._deliver(raw, now_ns)
            elif now_ns - heard_ns > self._silence_s * 1e9 and self.state != "silent":
                self.state = "silent"
                detail = f"no reading for {self._silence_s:g} s; check the device and its cable"
                self.services.emit(Event("sensor_silent", "warning", self.sensor_name, detail))

    def _deliver(self, raw: RawSample, now_ns: int) -> None:
        if self.state != "reading":
            if self.state != "opening":
                self.reopened += 1
                self.services.emit(Event("sensor_back", "info", self.sensor_name, "readings again"))
            self.state = "reading"
            self._backoff.reset()
        for converter in self._converters:
            reading = converter.convert(raw)
            self.readings += 1
            self.invalid += Flag.INVALID in reading.flags
            for sink in self._sinks.get(reading.key, ()):
                sink(reading, now_ns)

    def _lost(self, error: DeviceError) -> None:
        self.failures += 1
        if self.state != "lost":
            self.services.emit(Event("sensor_lost", "warning", self.sensor_name, str(error)))
        self.state = "lost"
