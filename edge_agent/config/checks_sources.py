"""Cameras and sensors one by one: a source of a known kind, and only keys that mean something for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from edge_agent.config import sources
from edge_agent.config.finding import Finding, at
from edge_agent.config.schema import CameraConfig, Config, SensorConfig
from edge_agent.config.words import choices, key_path, listed, show, without_secrets

_VIDEO_SUFFIXES: Final = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".h264")


def _cameras(config: Config) -> Iterator[Finding]:
    for i, camera in enumerate(config.camera):
        where = f"camera[{i}]"
        yield from _known_kind(f"{where}.source", camera.source, sources.CAMERAS)
        yield from _credentials(where, camera)
        if sources.is_live_camera(camera.source):
            yield from _live_camera(where, camera)


def _sensors(config: Config) -> Iterator[Finding]:
    for i, sensor in enumerate(config.sensor):
        where = f"sensor[{i}]"
        yield from _known_kind(f"{where}.source", sensor.source, sources.SENSORS)
        yield from _only_for_files(where, sensor)
        yield from _pattern(where, sensor)
        for name, field in sensor.fields.items():
            if field.range and not field.range[0] < field.range[1]:
                place = key_path(f"{where}.fields", name) + ".range"
                yield Finding(at(place, list(field.range)), "the first number must be below the second")


def _known_kind(where: str, source: str, kinds: tuple[str, ...]) -> Iterator[Finding]:
    kind = sources.kind(source)
    if kind not in kinds:
        text = _guess(source, kinds) or choices(kind, kinds, "a source begins with one of")
        yield Finding(at(where, source), f"no such kind of source{text}")
    elif not sources.rest(source).strip("/"):
        yield Finding(at(where, source), f"nothing follows {show(kind + ':')}")


def _guess(source: str, kinds: tuple[str, ...]) -> str:
    """The likeliest meaning of a path without its kind."""
    likely = {"v4l2": source.startswith("/dev/video"), "serial": source.startswith("/dev/tty")}
    likely |= {"file": source.lower().endswith(_VIDEO_SUFFIXES), "csv": source.lower().endswith(".csv")}
    for kind, fits in likely.items():
        if fits and kind in kinds:
            return f"; did you mean {show(f'{kind}:{source}')}?"
    return ""


def _credentials(where: str, camera: CameraConfig) -> Iterator[Finding]:
    network = sources.kind(camera.source) in sources.NETWORK_CAMERAS
    if network and sources.has_password(camera.source):
        text = "a password does not belong into an address: take it out and set username and password_file"
        yield Finding(f"{where}.source", text)
    elif without_secrets(camera.source) != camera.source and sources.is_live_camera(camera.source):
        text = "a secret in this file: keep the file from others (chmod o=), or use username and password_file"
        yield Finding(f"{where}.source", text, fatal=False)
    for key in ("username", "password_file"):
        if getattr(camera, key) is not None and not network:
            yield Finding(f"{where}.{key}", f"only for sources on the network ({listed(sources.NETWORK_CAMERAS)})")
    if camera.password_file is not None and camera.username is None:
        yield Finding(f"{where}.password_file", "there is no username to go with it: set username")


def _live_camera(where: str, camera: CameraConfig) -> Iterator[Finding]:
    only = f"only for {' and '.join(f'{kind}:' for kind in sources.FILE_CAMERAS)}; {show(camera.name)} is live"
    if camera.loop:
        yield Finding(at(f"{where}.loop", True), only)
    if camera.pace != "media":
        yield Finding(at(f"{where}.pace", camera.pace), only)
    if camera.drop == "none":
        text = "frames of a live camera grow old while they wait for a slower model"
        yield Finding(at(f"{where}.drop", camera.drop), text, fatal=False)


def _only_for_files(where: str, sensor: SensorConfig) -> Iterator[Finding]:
    if sources.kind(sensor.source) == "csv":
        return
    only = f"only for csv: sources; {show(sensor.name)} is live"
    if sensor.timeline == "media":
        yield Finding(at(f"{where}.timeline", sensor.timeline), only)
    if sensor.loop:
        yield Finding(at(f"{where}.loop", True), only)
    if sensor.speed != 1.0:
        yield Finding(at(f"{where}.speed", sensor.speed), only)
    for key in ("start", "time_column"):
        if getattr(sensor, key) is not None:
            yield Finding(at(f"{where}.{key}", getattr(sensor, key)), only)


def _pattern(where: str, sensor: SensorConfig) -> Iterator[Finding]:
    """A pattern belongs to format = "regex", compiles, and has a group for each field."""
    place = f"{where}.pattern"
    if sensor.format != "regex":
        if sensor.pattern is not None:
            yield Finding(place, f'only for format = "regex", and format is {show(sensor.format)}')
        return
    if sensor.pattern is None:
        yield Finding(place, 'missing; format = "regex" needs it, with a group (?P<name>…) for each field')
        return
    try:
        groups = re.compile(sensor.pattern).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        yield Finding(at(place, sensor.pattern), f"not a regular expression: {error}")
        return
    for name, field in sensor.fields.items():
        if (field.select or name) not in groups:
            text = f"no group (?P<{field.select or name}>…) for the field {show(name)}; groups: {listed(groups)}"
            yield Finding(place, text)


SOURCE_CHECKS = (_cameras, _sensors)
