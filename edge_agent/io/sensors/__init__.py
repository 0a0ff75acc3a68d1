"""Sensors by the scheme of their source: ``csv:`` ``iio:`` ``hwmon:`` ``serial:`` ``mqtt:`` ``command:``.

A back-end's module is imported only when a configured sensor chooses it. What can be seen to be wrong with the
source or the keys at construction is a ConfigError there; from ``open`` on there is DeviceError alone.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError
from edge_agent.io.sensors.context import SensorContext, choices, source_of
from edge_agent.ports import Clock, MessageHandler, Sensor, Series

SENSORS = {
    "command": "edge_agent.io.sensors.command:CommandSensor",
    "csv": "edge_agent.io.sensors.csv_replay:CsvSensor",
    "hwmon": "edge_agent.io.sensors.hwmon:HwmonSensor",
    "iio": "edge_agent.io.sensors.iio:IioSensor",
    "mqtt": "edge_agent.io.sensors.mqtt_topic:MqttTopicSensor",
    "serial": "edge_agent.io.sensors.serial_lines:SerialLinesSensor",
}
SERIES = {"csv": "edge_agent.io.sensors.csv_replay:CsvSeries"}


def create_sensor(
    config: SensorConfig,
    clock: Clock,
    folder: Path,
    *,
    subscribe: Callable[[str, MessageHandler], None] | None,
    stopping: threading.Event,
) -> Sensor:
    """The sensor of a configuration with ``timeline = "live"``, not yet open.

    ``folder`` is where relative paths start. Raises ConfigError for a source, key or selector that can't work.
    """
    factory, argument = _choose(config, SENSORS)
    sensor: Sensor = factory(config, argument, SensorContext(clock, folder, stopping, subscribe))
    return sensor


def create_series(config: SensorConfig, folder: Path) -> Series:
    """The rows of a configuration with ``timeline = "media"``.

    Raises ConfigError for a source that has no rows of its own or can't be used, DeviceError for a missing file.
    """
    factory, argument = _choose(config, SERIES, ' with timeline = "media"')
    series: Series = factory(config, argument, folder)
    return series


def _choose(config: SensorConfig, registry: dict[str, str], where: str = "") -> tuple[Any, str]:
    scheme, colon, argument = config.source.partition(":")
    if not colon or scheme not in registry:
        kinds = choices(scheme, registry)
        raise ConfigError(f'{source_of(config)} begins with "{scheme}", which is no kind of sensor{where}; {kinds}')
    if not argument:
        raise ConfigError(f'{source_of(config)} names nothing after "{scheme}:"; say which device or file')
    if not config.fields:
        raise ConfigError(f'sensor "{config.name}" has no fields; add at least one [sensor.fields.NAME]')
    module, _, name = registry[scheme].partition(":")
    return getattr(importlib.import_module(module), name), argument
