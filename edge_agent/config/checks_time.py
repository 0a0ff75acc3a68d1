"""Clocks and durations: media time and live time never meet in one pipeline, and no wait is zero or endless."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_agent.config.finding import Finding, at, at_time
from edge_agent.config.schema import CameraConfig, Config, PipelineConfig, SensorConfig
from edge_agent.config.sources import is_live_camera, kind
from edge_agent.config.words import duration_text, key_path, show

_S: Final = 10**9
_FOREVER: Final = 3650 * 86400 * _S
_KEEPALIVE_MOST: Final = 65535 * _S  # two bytes on the wire (MQTT 5, 3.1.2.10)
_POLLED: Final = ("command", "hwmon", "iio")  # sensors that are asked every `interval`
_SLOWEST_RATE: Final = 1 / 86400  # one frame a day: slower than that is a mistake in the unit


def _clocks(config: Config) -> Iterator[Finding]:
    cameras = {camera.name: camera for camera in config.camera}
    sensors = {sensor.name: sensor for sensor in config.sensor}
    for i, pipeline in enumerate(config.pipeline):
        camera = cameras[pipeline.camera]
        for place, sensor in _sensors_of(f"pipeline[{i}]", pipeline, sensors):
            yield from _one_clock(place, camera, sensor)
        for tensor, name in pipeline.images.items():
            place = at(key_path(f"pipeline[{i}].images", tensor), name)
            yield from _same_pace(place, camera, cameras[name])
        yield from _interpolation(f"pipeline[{i}].align", pipeline, sensors)
        yield from _between_polls(f"pipeline[{i}].align", pipeline, sensors)


def _sensors_of(
    where: str, pipeline: PipelineConfig, sensors: dict[str, SensorConfig]
) -> Iterator[tuple[str, SensorConfig]]:
    for feature, ref in pipeline.features.items():
        yield at(key_path(f"{where}.features", feature), ref), sensors[ref.partition(".")[0]]
    for n, name in enumerate(pipeline.attach):
        yield at(f"{where}.attach[{n}]", name), sensors[name]


def _one_clock(place: str, camera: CameraConfig, sensor: SensorConfig) -> Iterator[Finding]:
    if camera.pace == "max" and sensor.timeline == "live":
        yield Finding(
            place,
            f'camera {show(camera.name)} has pace = "max" and runs on media time, sensor {show(sensor.name)} is live: '
            'set pace = "media", or take a csv: sensor with timeline = "media"',
        )
    if sensor.timeline == "media" and is_live_camera(camera.source):
        yield Finding(
            place,
            f'sensor {show(sensor.name)} has timeline = "media", which needs a file: or images: camera; '
            f"{show(camera.name)} is live",
        )


def _same_pace(place: str, camera: CameraConfig, other: CameraConfig) -> Iterator[Finding]:
    if camera.pace != other.pace:
        text = f"its pace is {show(other.pace)}, that of {show(camera.name)} is {show(camera.pace)}"
        yield Finding(place, f"{text}: cameras of one pipeline must run on the same time")


def _interpolation(where: str, pipeline: PipelineConfig, sensors: dict[str, SensorConfig]) -> Iterator[Finding]:
    live = any(sensor.timeline == "live" for _, sensor in _sensors_of(where, pipeline, sensors))
    if pipeline.align.method == "interpolate" and pipeline.align.wait == 0 and live:
        text = 'a live reading after the frame is never there yet, so "interpolate" takes the nearest: set wait'
        yield Finding(at_time(f"{where}.wait", 0), text, fatal=False)


def _between_polls(where: str, pipeline: PipelineConfig, sensors: dict[str, SensorConfig]) -> Iterator[Finding]:
    skew = pipeline.align.max_skew
    if pipeline.align.method != "nearest":
        return
    for sensor in {sensor.name: sensor for _, sensor in _sensors_of(where, pipeline, sensors)}.values():
        if kind(sensor.source) in _POLLED and sensor.interval > 2 * skew:
            text = (
                f"pipeline {show(pipeline.name)} takes the nearest reading, but sensor {show(sensor.name)} is asked "
                f"every {show(duration_text(sensor.interval))}, so many frames have none that near: "
                'set method = "hold" with max_age, or a larger max_skew'
            )
            yield Finding(at_time(f"{where}.max_skew", skew), text, fatal=False)


def _durations(config: Config) -> Iterator[Finding]:
    for where, ns, least, most in _bounded(config):
        if not least <= ns <= most:
            limits = f"from {duration_text(least)} to {duration_text(most)}"
            yield Finding(at_time(where, ns), f"expected a time {limits}")
    for i, pipeline in enumerate(config.pipeline):
        if pipeline.rate < _SLOWEST_RATE:
            yield Finding(at(f"pipeline[{i}].rate", str(pipeline.rate)), "less than one frame a day: see its unit")
    if config.outbox.path is not None and not config.outbox.path.strip():
        yield Finding(at("outbox.path", config.outbox.path), "expected the path of a file, or leave it out")
    if config.outbox.memory < 2**16:
        yield Finding(at("outbox.memory", f"{config.outbox.memory:d}B"), 'expected at least "64KiB"')
    if config.outbox.disk < 2**20:
        yield Finding(at("outbox.disk", f"{config.outbox.disk:d}B"), 'expected at least "1MiB"')


def _bounded(config: Config) -> Iterator[tuple[str, int, int, int]]:
    """Key path, nanoseconds, least, most."""
    for i, camera in enumerate(config.camera):
        yield f"camera[{i}].timeout", camera.timeout, _S // 10, 3600 * _S
    for i, sensor in enumerate(config.sensor):
        yield f"sensor[{i}].interval", sensor.interval, _S // 1000, 86400 * _S
        yield f"sensor[{i}].timeout", sensor.timeout, _S // 10, _FOREVER
    for i, pipeline in enumerate(config.pipeline):
        yield f"pipeline[{i}].publish.interval", pipeline.publish.interval, _S // 1000, 86400 * _S
    yield "mqtt.keepalive", config.mqtt.keepalive, _S, _KEEPALIVE_MOST
    yield "mqtt.prediction_expiry", config.mqtt.prediction_expiry, _S, _FOREVER
    yield "mqtt.stats_interval", config.mqtt.stats_interval, _S, 86400 * _S
    yield "outbox.max_age", config.outbox.max_age, _S, _FOREVER
    yield "update.poll", config.update.poll, 10 * _S, 30 * 86400 * _S
    yield "drift.report", config.drift.report, _S, 86400 * _S
    yield "drift.block", config.drift.block, _S, 86400 * _S
    yield "drift.commissioning", config.drift.commissioning, 20 * config.drift.block, 366 * 86400 * _S
    yield "drift.feedback", config.drift.feedback, _S, 366 * 86400 * _S


TIME_CHECKS = (_clocks, _durations)
