"""What a device in the field meets when it starts and later: nothing of it ends the service, or starts it in a loop."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edge_agent.core.boot import STARTS_MOST
from edge_agent.io.model_store import MODEL, ModelStore
from edge_agent.rollouts import DeviceState, Held, Slot
from tests.simulators.waiting import wait_for
from tests.system.debian_machine import REPOSITORY, Machine
from tests.system.debian_root import Suite
from tests.system.service import STATE, UNIT, Service

pytestmark = pytest.mark.system

CAMERA = 'source = "images:/usr/share/edge-agent/conveyor/media/frames/*.jpg"\nfps = 10\npace = "media"\nloop = true\n'
START_S = 15  # twelve accelerators that take 1.5 s each until they say no take longer
SENSOR = 'timeline = "media"\n'


def test_a_broker_that_comes_after_the_start_is_found(service: Service) -> None:
    service.systemctl("stop", "mosquitto")
    service.systemctl("restart", UNIT)  # waits until the service is ready
    service.wait_status("broker .*can't be reached")
    service.systemctl("start", "mosquitto")
    assert service.predicts()
    wait_for(lambda: service.availability() == "online", "online")
    assert service.restarts == 0


def test_a_name_that_nobody_resolves_delays_neither_the_start_nor_signs_of_life(service: Service) -> None:
    with service.configured(('host = "127.0.0.1"', 'host = "broker.plant.example"\ninsecure = true')):
        service.wait_ready()
        first = int(service.show("WatchdogTimestampMonotonic"))
        wait_for(lambda: int(service.show("WatchdogTimestampMonotonic")) - first > 10e6, "ten seconds of signs of life")
        assert "broker.plant.example" in service.show("StatusText")
        assert service.restarts == 0
    service.systemctl("stop", UNIT)
    assert service.show("Result") == "success"


def test_a_camera_that_is_unplugged_at_the_start_is_no_reason_to_restart(service: Service) -> None:
    with service.configured((CAMERA, 'source = "v4l2:/dev/video0"\n'), (SENSOR, "")):
        service.wait_ready()
        service.wait_status("camera belt lost")
        [lost] = service.logged("camera_lost")
        assert (lost["EDGE_AGENT_SUBJECT"], lost["PRIORITY"]) == ("belt", "4")
        first = int(service.show("WatchdogTimestampMonotonic"))
        wait_for(lambda: int(service.show("WatchdogTimestampMonotonic")) - first > 10e6, "ten seconds of signs of life")
        assert (service.active, service.restarts) == (True, 0)
        assert len(service.logged("camera_lost")) == 1


@contextmanager
def full_disk(machine: Machine) -> Iterator[None]:
    """A state directory without a byte left."""
    machine.run("mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", f"/{STATE}")
    try:
        machine.run("sh", "-c", f"dd if=/dev/zero of=/{STATE}/filled bs=4k 2>/dev/null || true")
        yield
    finally:
        machine.run("umount", f"/{STATE}")


def test_a_full_disk_stops_neither_the_start_nor_the_predictions(service: Service) -> None:
    service.systemctl("stop", UNIT)
    with full_disk(service.machine):
        service.systemctl("start", UNIT)
        assert service.predicts()
        wait_for(lambda: service.stranger.events("outbox_degraded"), "the event outbox_degraded")
        assert service.restarts == 0
        service.systemctl("stop", UNIT)
    assert service.show("Result") == "success"


def commit(machine: Machine, content: bytes, version: str) -> None:
    """A model that came over the air and was committed, as the daemon keeps it."""
    folder = machine.root / STATE / "update"
    slot = Slot(sha256=hashlib.sha256(content).hexdigest(), version=version, seq=9)
    model = folder / "slots" / slot.sha256 / MODEL
    model.parent.mkdir(parents=True)
    model.write_bytes(content)
    ModelStore(folder).save(DeviceState(models={"conveyor": Held(current=slot, floor=9)}))
    machine.run("chown", "-R", "edge-agent:edge-agent", f"/{STATE}/update")


def test_a_service_that_keeps_dying_waits_longer_and_goes_back_to_the_factory_model(service: Service) -> None:
    service.systemctl("stop", UNIT)
    shutil.rmtree(service.machine.root / STATE / "update", ignore_errors=True)
    commit(service.machine, (REPOSITORY / "examples/conveyor/model/conveyor.tflite").read_bytes(), "9.9.9")
    try:
        service.systemctl("start", UNIT)
        assert service.predicts()["model"]["version"] == "9.9.9"
        for death in range(1, STARTS_MOST + 1):
            wait_for(lambda: service.active, "the service is ready")
            service.kill("KILL")
            wait_for(lambda count=death: service.restarts == count, "the next start")
        service.wait_ready()
        wait_for(lambda: service.stranger.events("update_rolled_back"), "the event update_rolled_back")
        assert service.predicts()["model"]["version"] != "9.9.9"
        waits = [
            entry["MESSAGE"].rpartition("waiting ")[2]
            for entry in service.machine.journal("-u", UNIT, "EDGE_AGENT_EVENT=starts_unhealthy")
        ]
        assert waits[-3:] == ["1 s", "2 s", "4 s"]
    finally:
        service.systemctl("stop", UNIT)
        shutil.rmtree(service.machine.root / STATE / "update")


@pytest.fixture
def delegate(machine: Machine, suite: Suite) -> Iterator[str]:
    """The path of an accelerator's library in the container; see its source for what it can do wrong."""
    if suite.name != "bookworm":
        pytest.skip("it does not depend on the system, and the library is built with this one's: shown on bookworm")
    library = machine.root / "usr/lib/libtestdelegate.so"
    source = REPOSITORY / "tests/io/runtimes/delegate.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    yield "/usr/lib/libtestdelegate.so"
    library.unlink()


def section(name: str, library: str, **options: str) -> str:
    values = ", ".join(f'{key} = "{value}"' for key, value in options.items())
    return f'\n[delegate.{name}]\nlibrary = "{library}"\noptions = {{ {values} }}\n'


def test_one_thread_that_hangs_in_a_driver_ends_in_a_restart(service: Service, delegate: str) -> None:
    device = service.machine.root / STATE / "bus" / "usb:0"
    device.parent.mkdir()
    device.write_text("success")
    service.machine.run("chown", "-R", "edge-agent", f"/{STATE}/bus")
    with service.configured(more='delegates = ["npu"]\n' + section("npu", delegate, bus=f"/{STATE}/bus")):
        service.wait_ready()
        service.wait_status(" on npu,")
        service.predicts()
        device.write_text("hang-in-run")
        service.wait_status("^no progress: ")  # the process itself still answers
        wait_for(lambda: service.restarts == 1, "a restart by the watchdog")
        device.write_text("success")
        service.wait_ready()
        assert service.predicts()
    said = [entry["MESSAGE"] for entry in service.machine.journal("-u", UNIT)]
    assert any("Watchdog timeout" in message for message in said)
    assert any(message.startswith("Thread 0x") for message in said), "where each thread stood"
    wait_for(lambda: service.stranger.events("no_progress"), "the event no_progress, kept over the restart")
    shutil.rmtree(device.parent)


def test_a_slow_start_says_what_it_does_and_gets_time_for_each_step(service: Service, delegate: str) -> None:
    """A GPU may compile its shaders for longer than the manager's time for the whole start."""
    service.systemctl("stop", UNIT)
    names = [f"npu{number}" for number in range(12)]
    order = ", ".join(f'"{name}"' for name in (*names, "xnnpack"))
    tried = [section(name, delegate, mode="slow-start", bus="/nowhere") for name in names]
    with (
        service.with_drop_in(f"TimeoutStartSec={START_S}\n"),
        service.configured(more=f"delegates = [{order}]\n" + "".join(tried)),
    ):
        service.wait_status("^loading model conveyor: trying npu11")
        assert (service.show("ActiveState"), service.restarts) == ("activating", 0)
        service.wait_ready()
        assert service.predicts()["delegate"] == "xnnpack"
        assert service.restarts == 0
        start, ready = (
            int(service.show(name)) for name in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        )
        assert ready - start > 1e6 * START_S
