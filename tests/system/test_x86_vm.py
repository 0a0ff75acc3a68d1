"""The package in a virtual machine with simulated hardware: real drivers of a real kernel, unplugged and plugged in
again while the service runs, and a broker outside behind a line that can be made bad.

Tested in emulation: the CPU is translated by QEMU, so no time is a board's. The tests share one machine and one start
of the service, and run in the order in which they stand here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.ledger import Ledger, check_order, once_each
from tests.simulators.waiting import wait_for
from tests.system.debian_machine import unavailable
from tests.system.simulated_hardware import I2cSensors, LoopbackCamera, UsbScale, VividCamera, bad_line, fetch
from tests.system.simulated_line import LIMIT_S, UNIT, Part, World, label, value
from tests.system.virtual_machine import AMD64, missing_tools

WHY_NOT = unavailable() or missing_tools(AMD64)
pytestmark = [pytest.mark.system, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

BAD_LINE_S = 60.0
OUTBOX = "/var/lib/edge-agent/outbox.sqlite"

GOOD = Part("0077", 121.4, 38.0, 1.6, "good")
PARTS = [
    Part("0032", 123.7, 62.5, 3.28, "hollow"),
    Part("0056", 180.0, 50.0, 1.6, "scratched"),
    Part("0107", 78.9, 63.0, 2.38, "worn_bearing"),
    # the same picture twice: the reading alone decides
    Part("0077", 121.4, 51.0, 1.6, "overheated"),
    GOOD,
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("x86"))
    try:
        world.start()
        yield world
    finally:
        world.close()


def test_a_service_with_none_of_its_devices_is_ready_and_says_what_is_missing(world: World) -> None:
    lost = {"camera_lost": {"belt", "gate"}, "sensor_lost": {"heat", "air", "scale"}}
    for kind, subjects in lost.items():
        wait_for(lambda: {event["subject"] for event in world.stranger.events(kind)} == subjects, kind, LIMIT_S)  # noqa: B023
    assert (world.show("ActiveState"), world.show("NRestarts")) == ("active", "0")


def test_what_is_plugged_in_after_the_start_is_used(world: World) -> None:
    """The devices of a class are allowed before the first of the class is there."""
    world.scale.shows(GOOD.weight, GOOD.vibration)
    with world.hears("camera_back", "belt"), world.hears("sensor_back", "scale"):
        with world.hears("sensor_back", "heat"), world.hears("sensor_back", "air"):
            world.i2c.plug_in(GOOD.celsius)
        world.scale.plug_in()
        world.belt.plug_in(GOOD.picture)
    with world.hears("camera_back", "gate"):
        assert world.gate.plug_in() == "/dev/video0"
    assert world.predicts("watch")["delegate"] == "xnnpack"
    readings = world.predicts("inspect", lambda item: value(item, "air.pressure") is not None)["readings"]
    assert (readings["air.temperature"]["value"], readings["air.temperature"]["unit"]) == (
        pytest.approx(I2cSensors.CELSIUS),
        "degC",
    )
    assert (readings["air.pressure"]["value"], readings["air.pressure"]["unit"]) == (
        pytest.approx(I2cSensors.HECTOPASCAL, abs=0.01),
        "hPa",
    )


def test_devices_of_other_classes_stay_closed_to_the_service(world: World) -> None:
    def opens(node: str) -> bool:
        """Whether root, among the processes of the service, may open it."""
        among = f"echo $$ >/sys/fs/cgroup/system.slice/{UNIT}.service/cgroup.procs"
        return world.machine.status(f"sh -c '{among} && exec 3<{node}'") == 0

    assert [opens(node) for node in ("/dev/video7", "/dev/ttyUSB0", "/dev/null")] == [True] * 3
    assert [opens(node) for node in ("/dev/vda", "/dev/kmsg", "/dev/input/event0")] == [False] * 3


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.label)
def test_a_picture_and_readings_become_the_expected_class(world: World, part: Part) -> None:
    """Each instrument shows the part at its own time: the LM75's driver measures anew every second and a half."""
    said = {"weight": part.weight, "temperature": part.celsius, "vibration": part.vibration}
    world.present(part)
    found = world.predicts(
        "inspect",
        lambda item: label(item) == part.label and {name: value(item, name) for name in said} == said,
    )
    assert found["outputs"]["fault"]["classes"][0]["score"] > 0.9
    assert found["time_source"] == "driver"


def test_check_and_doctor_name_the_devices_as_the_configuration_writes_them(world: World) -> None:
    said = json.loads(world.machine.run("edge-agent doctor --json 2>/dev/null", check=False, limit_s=900.0))
    details = " ".join(check["detail"] for check in said["checks"])
    for source in (f"v4l2:{LoopbackCamera.NODE}", f"v4l2:{VividCamera.LINK}", f"serial:{UsbScale.LINK}"):
        assert source in details
    assert "hwmon:lm75" in details
    assert "iio:bmp280" in details
    check = f"runuser -u {UNIT} -- edge-agent check --devices --json --config /etc/edge-agent/agent.toml"
    findings = json.loads(world.machine.run(f"{check} 2>/dev/null", check=False, limit_s=900.0))["findings"]
    found = {finding["subject"]: finding["detail"] for finding in findings}
    # What may be read by two at a time is read; what the service holds is said to be in use.
    assert f"temperature = {GOOD.celsius}" in found["sensor heat"]
    assert "pressure = 100.65" in found["sensor air"]
    assert "in use by another program" in found["camera gate"]
    assert "in use by another program" in found["sensor scale"]


@pytest.mark.parametrize("form", ["MJPG", "GREY", "YUYV"])
def test_a_camera_that_falls_silent_is_opened_anew_and_may_have_another_format(world: World, form: str) -> None:
    world.predicts("inspect")  # one that is lost just now, in a machine this slow, would not be lost once more
    with world.hears("camera_lost", "belt", "no frame within 5 s"):
        world.belt.fall_silent()
    with world.hears("camera_back", "belt"):
        world.belt.plug_in(GOOD.picture, form)
    world.predicts("inspect", lambda item: form == "GREY" or label(item) == GOOD.label)


def test_a_camera_that_is_unplugged_comes_back_under_another_number(world: World) -> None:
    world.predicts("watch")
    with world.hears("camera_lost", "gate"):  # the driver may be gone a moment before its name is: two wordings
        world.gate.unplug()
    with world.hears("camera_back", "gate"):
        assert world.gate.plug_in(number=5) == "/dev/video5"
    world.predicts("watch")
    wait_for(lambda: world.gate_counts("reopened") >= 1, "the loss is counted", LIMIT_S)


def test_what_the_driver_takes_instead_of_a_wish_is_said(world: World) -> None:
    details = [event["detail"] for event in world.stranger.events("camera_changed") if event["subject"] == "gate"]
    assert details == ["the driver gives 320x180 instead of 300x170 and 10 frames a second instead of 7"]


def test_a_camera_in_use_by_another_program_is_said_and_taken_when_it_is_free(world: World) -> None:
    world.predicts("watch")
    with world.hears("camera_lost", "gate"):
        world.gate.unplug()
    with world.hears("camera_back", "gate"), world.gate.plugged_in_and_taken(number=3):
        before = world.gate_counts("failures")
        wait_for(lambda: world.gate_counts("failures") > before, "another attempt", LIMIT_S)


@pytest.mark.parametrize(("driver", "sensor"), [("lm75", "heat"), ("bmp280", "air")])
def test_a_sensor_whose_driver_goes_costs_readings_and_no_prediction(world: World, driver: str, sensor: str) -> None:
    reading = "temperature" if sensor == "heat" else "air.pressure"
    with world.hears("sensor_lost", sensor):
        world.i2c.unbind(driver)
    world.predicts("inspect", lambda item: "missing" in item["readings"][reading]["flags"])
    with world.hears("sensor_back", sensor):
        world.i2c.bind(driver)
    world.predicts("inspect", lambda item: value(item, reading) is not None and not item["readings"][reading]["flags"])


def test_a_serial_line_that_is_unplugged_comes_back_under_another_number(world: World) -> None:
    with world.hears("sensor_lost", "scale"):
        world.scale.unplug()
    world.scale.plug_in_another()
    world.scale.shows(150.0, GOOD.vibration)
    with world.hears("sensor_back", "scale"):
        assert world.scale.plug_in() == "/dev/ttyUSB1"
    world.predicts("inspect", lambda item: value(item, "weight") == 150.0)


def test_a_serial_line_that_falls_silent_is_said(world: World) -> None:
    with world.hears("sensor_silent", "scale"):
        world.scale.fall_silent()
    with world.hears("sensor_back", "scale"):
        world.scale.speak()


def test_a_line_that_loses_and_delays_costs_no_prediction_and_no_order(world: World, tmp_path: Path) -> None:
    with bad_line(world.machine, loss=30, delay_ms=300):
        end = time.monotonic() + BAD_LINE_S
        wait_for(lambda: time.monotonic() > end, "a minute of a bad line", 2 * BAD_LINE_S)
    for pipeline in ("inspect", "watch"):
        newest = world.predicts(pipeline, lambda item: not item["buffered"])["seq"]
        wait_for(
            lambda: {item["seq"] for item in world.predictions(pipeline)} >= set(range(newest)),  # noqa: B023
            f"all that {pipeline} found on the bad line",
            LIMIT_S,
        )
    world.machine.run(f"systemctl stop {UNIT}", limit_s=LIMIT_S)
    for path in world.machine.run(f"ls {OUTBOX} {OUTBOX}-wal 2>/dev/null", check=False).split():
        fetch(world.machine, path, tmp_path / Path(path).name)  # a stop that took too long here leaves the log behind
    ledger = Ledger(tmp_path / "outbox.sqlite").check()
    (boot_id,) = ledger.boot_ids
    for pipeline in ("inspect", "watch"):
        row = ledger.predictions(boot_id, pipeline)
        arrived = once_each(world.predictions(pipeline))
        assert sorted(item["seq"] for item in arrived) == list(range(len(arrived)))
        assert not row.discarded
        assert row.acknowledged <= len(arrived) <= row.produced
        check_order(world.predictions(pipeline))


def test_through_all_of_it_the_service_was_never_started_again(world: World) -> None:
    assert (world.show("NRestarts"), world.show("Result")) == ("0", "success")
    assert world.stranger.events("worker_failed") == []
    assert world.machine.run("dmesg | grep -E 'BUG|Oops|segfault|Out of memory'", check=False) == ""


def test_a_limit_of_its_control_group_is_known_and_bites(world: World) -> None:
    """Version 2 of control groups; the containers of the other tests have those of the host."""
    world.machine.run(f"systemctl start {UNIT}", limit_s=900.0)
    for limit_mb in (400, 300):
        world.machine.run(f"systemctl set-property --runtime {UNIT} MemoryMax={limit_mb}M")
        wait_for(lambda: world.stranger.last("/stats")["memory_limit_mb"] == limit_mb, "the limit in stats", LIMIT_S)  # noqa: B023
    world.machine.run(f"systemctl set-property --runtime {UNIT} MemoryMax=30M")
    wait_for(lambda: int(world.show("NRestarts")) > 0, "the kernel ends what needs more", LIMIT_S)
    assert world.machine.status("dmesg | grep -q 'Memory cgroup out of memory'") == 0
    world.machine.run(f"systemctl set-property --runtime {UNIT} MemoryMax=infinity", limit_s=900.0)
    wait_for(lambda: world.show("ActiveState") == "active", "the service after the limit", 900.0)
    world.predicts("watch")
