"""What the sensor tests share: a context in a scratch folder, sensors that are closed, a folder like sysfs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge_agent.io.clock import SystemClock
from edge_agent.io.sensors import create_sensor, create_series
from edge_agent.io.sensors.context import SensorContext
from tests.io.sensors.making import sensor_config


@pytest.fixture
def clock():
    return SystemClock()


@pytest.fixture
def stopping():
    return threading.Event()


@pytest.fixture
def context(clock, stopping, tmp_path):
    return SensorContext(clock, tmp_path, stopping)


@pytest.fixture
def sensor(clock, stopping, tmp_path):
    """Makes sensors as the agent does and closes them after the test."""
    made = []

    def make(source, fields, subscribe=None, **keys):
        config = sensor_config(source, fields, **keys)
        made.append(create_sensor(config, clock, tmp_path, subscribe=subscribe, stopping=stopping))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def series(tmp_path):
    def make(source, fields, **keys):
        return create_series(sensor_config(source, fields, timeline="media", **keys), tmp_path)

    return make


@pytest.fixture
def tree(tmp_path):
    """A folder as sysfs would show it, from path -> content."""

    def make(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")
        return tmp_path / "sys"

    return make
