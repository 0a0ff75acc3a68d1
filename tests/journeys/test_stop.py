"""How a daemon starts, reloads and ends under a service manager, also while its broker or its camera hangs."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulators import rtsp_server
from tests.simulators.agent_toml import MODEL, belt, camera, head, inspect, machine
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.daemon import Daemon
from tests.simulators.mjpeg_server import MjpegServer
from tests.simulators.rtsp_server import RtspServer
from tests.simulators.service_manager import ServiceManager
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

LINE = belt() + machine("media") + inspect() + MODEL
STOP_LIMIT_S = 15  # far below the 90 s after which a service manager kills
StartDaemon = Callable[..., Daemon]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path, watchdog_s=4) as service_manager:
        yield service_manager


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def ends_well(process: Daemon, number: signal.Signals = signal.SIGTERM) -> None:
    process.process.send_signal(number)
    assert process.wait_exit(STOP_LIMIT_S) == 0, process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_working_daemon(
    number: signal.Signals, broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon
) -> None:
    process = daemon(head(broker.port) + LINE)
    subscriber.wait_predictions(3)
    ends_well(process, number)
    wait_for(lambda: subscriber.raw("/availability")[-1][1] == b"offline", "the farewell")
    stats = subscriber.last("/stats")
    assert stats is not None
    assert len(subscriber.predictions()) == stats["pipelines"]["inspect"]["published"]


def test_a_daemon_without_a_broker_ends_as_well(daemon: StartDaemon) -> None:
    process = daemon(head(free_port()) + LINE)
    process.wait_ready()
    wait_for(lambda: "can't be reached" in process.log, "a failed connection")
    ends_well(process)


def test_a_daemon_whose_broker_never_answers_ends_as_well(daemon: StartDaemon, silent_port: int) -> None:
    process = daemon(head(silent_port) + LINE)
    process.wait_ready()
    ends_well(process)


def test_a_daemon_whose_mjpeg_camera_hangs_ends_as_well(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon
) -> None:
    with MjpegServer() as server:
        process = daemon(
            head(broker.port) + camera("web", server.url, 'timeout = "60s"') + machine() + inspect("p", "web") + MODEL
        )
        subscriber.wait_predictions(3)
        server.mode = "stall"
        ends_well(process)


def test_a_daemon_whose_rtsp_camera_hangs_ends_as_well(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon
) -> None:
    missing = rtsp_server.why_missing()
    if missing:
        pytest.skip(missing)
    with RtspServer() as server:
        process = daemon(
            head(broker.port) + camera("gate", server.url, 'timeout = "60s"') + machine() + inspect("p", "gate") + MODEL
        )
        subscriber.wait_predictions(3)
        server.freeze()
        ends_well(process)


def test_a_second_signal_does_not_wait_for_the_first(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, manager: ServiceManager
) -> None:
    process = daemon(head(broker.port) + LINE, **manager.environment())
    subscriber.wait_predictions(3)
    broker.freeze()
    process.process.send_signal(signal.SIGTERM)
    manager.wait_said("STOPPING=1")
    process.process.send_signal(signal.SIGTERM)
    assert process.wait_exit(STOP_LIMIT_S) == 128 + signal.SIGTERM
    broker.kill()


def test_the_service_manager_hears_of_each_step_and_that_the_daemon_is_alive(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, manager: ServiceManager
) -> None:
    process = daemon(head(broker.port) + LINE, **manager.environment())
    manager.wait_said("WATCHDOG=1", 3)
    wait_for(lambda: "streaming; broker connected" in manager.said("STATUS=")[-1], "a status line at work")
    ends_well(process)
    wait_for(lambda: "STOPPING=1" in manager.words(), "the last word")
    start = ["reading the configuration", "reading models", "loading model conveyor: trying xnnpack"]
    assert manager.said("STATUS=")[:4] == [*start, "loading model conveyor: warming up"]
    words = manager.words()
    ready = words.index("READY=1")
    assert set(words[:ready]) == {"EXTEND_TIMEOUT_USEC=120000000"}
    assert words[-1] == "STOPPING=1"
    assert set(words[ready + 1 : -1]) == {"WATCHDOG=1"}


def test_a_lost_camera_and_a_lost_broker_do_not_keep_the_watchdog_from_being_fed(
    daemon: StartDaemon, manager: ServiceManager
) -> None:
    absent = camera("absent", "v4l2:/dev/video99") + machine() + inspect("p", "absent")
    daemon(head(free_port()) + absent + MODEL, **manager.environment())
    wait_for(lambda: "camera absent lost" in "".join(manager.said("STATUS=")[-1:]), "a status line about the camera")
    fed = len(manager.said("WATCHDOG=1"))
    manager.wait_said("WATCHDOG=1", fed + 3)


def test_a_reload_applies_what_can_change_and_names_what_can_not(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, manager: ServiceManager
) -> None:
    text = head(broker.port) + LINE
    process = daemon(text, **manager.environment())
    configuration = tmp_path / "agent0.toml"

    def reload(changed: str) -> None:
        done = len(manager.said("READY=1"))
        configuration.write_text(changed)
        process.process.send_signal(signal.SIGHUP)
        manager.wait_said("READY=1", done + 1)

    def wait_rate(value: str) -> None:
        wait_for(lambda: (subscriber.last("/setting/inspect/rate") or {}).get("value") == value, f"the rate {value}")

    wait_rate("max")
    reload(text.replace('camera = "belt"', 'camera = "belt"\nrate = "4/s"\nthreshold = 0.25'))
    wait_rate("4/s")
    assert manager.said("RELOADING=1")
    assert not subscriber.events("reload_partial")
    reload(text.replace("fps = 20", "fps = 25").replace('id = "line1"', 'id = "line2"'))
    wait_rate("max")
    wait_for(lambda: subscriber.events("reload_partial"), "the event that names what waits")
    assert subscriber.events("reload_partial")[-1]["detail"].endswith("need a restart: device, camera")
    assert subscriber.payloads("/setting/inspect/threshold")[-1]["value"] is None
    reload(text.replace("fps = 20", "fps = -1"))
    wait_for(lambda: subscriber.events("reload_refused"), "the event of the refusal")
    assert "nothing was changed" in subscriber.events("reload_refused")[-1]["detail"]
    seen = len(subscriber.predictions())
    subscriber.wait_predictions(seen + 3)
