"""What ``edge-agent doctor`` says of cameras, sensors and the broker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from edge_agent.commands.common import Check
from edge_agent.config.checks_mqtt import is_loopback
from edge_agent.config.profile import Profile
from edge_agent.config.schema import MqttConfig
from edge_agent.io.cameras.discover import FoundCamera
from edge_agent.io.host import Host
from edge_agent.io.sensors.discover import FoundSensor

# Drivers of a Raspberry Pi's camera connectors: they deliver what the sensor sees, raw, and only libcamera makes a
# picture of it (opencv/opencv issues 22820 and 25072).
RAW_DRIVERS: Final = ("unicam", "rp1-cfe")


def camera_checks(
    cameras: Sequence[FoundCamera], profile: Profile, holders: Callable[[str], Sequence[str]]
) -> Iterator[Check]:
    """``holders``: the programs that have a device open."""
    libcamera = any(camera.source.startswith("picamera2:") for camera in cameras)
    for camera in cameras:
        yield camera_check(camera, libcamera, holders)
    if not cameras:
        fix = "attach one; a network camera or a file needs none (rtsp://, http://, file:, images:)"
        yield Check("camera", "skip", "no local camera", fix)
    for hint in profile.camera:
        yield Check("camera.hint", "ok", hint)


def camera_check(camera: FoundCamera, libcamera: bool, holders: Callable[[str], Sequence[str]]) -> Check:
    words = f"{camera.source} {camera.name}"
    if camera.name.startswith(RAW_DRIVERS):
        fix = 'source = "picamera2:0"' + ("" if libcamera else ", after sudo apt install python3-picamera2")
        return Check("camera", "warn", f"{words}: raw sensor data, which only libcamera turns into pictures", fix)
    if camera.problem:
        return Check("camera", "warn", words, camera.problem)
    node = os.path.realpath(camera.source.partition(":")[2])
    programs = [name for name in holders(node) if name != "edge-agent"]
    if programs:
        fix = f"stop it, or take another camera: one program at a time may capture (sudo systemctl stop {programs[0]})"
        return Check("camera", "warn", f"{words}: open in {', '.join(programs)}", fix)
    return Check("camera", "ok", words)


def sensor_checks(sensors: Sequence[FoundSensor]) -> Iterator[Check]:
    for sensor in sensors:
        yield Check("sensor", "ok", f"{sensor.source} {sensor.detail} {' '.join(sensor.selects)}".strip())
    if not sensors:
        yield Check("sensor", "skip", "no local sensor (IIO, hwmon, thermal zone, serial port)")


def broker(mqtt: MqttConfig, reason: str | None, host: Host) -> Check:
    """``reason``: why it can't be reached; None: it can."""
    place = f"{mqtt.host}:{mqtt.port}"
    if reason is None:
        return Check("broker", "ok", f"{place} accepts connections")
    detail = reason if place in reason else f"{place}: {reason}"
    if not is_loopback(mqtt.host):
        fix = "see that the broker runs and that no firewall is in the way (the daemon starts without and waits)"
    elif "mosquitto" in host.packages:
        fix = "sudo systemctl enable --now mosquitto  # the daemon starts without and waits"
    else:
        fix = "sudo apt install mosquitto  # or set [mqtt] host and port; the daemon starts without and waits"
    return Check("broker", "warn", detail, fix)
