"""``watch``, ``status`` and the bell: real repositories, a real broker, and devices that answer the bell on the wire as
real ones do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import TransportError
from edge_agent.io.fetch.folder import FolderSource
from edge_agent.rollouts import Audience, Reason, Rollout
from fleet.bell import ring_once
from fleet.commands import status, watch
from fleet.releases import find_release
from fleet.rollout_book import RolloutBook
from tests.fleet.repository_world import NOW, Operator
from tests.simulators.broker import Mosquitto
from tests.simulators.subscriber import Subscriber
from tests.simulators.update_device import UpdateDevice
from tests.simulators.waiting import wait_for

NOW_NS = int(NOW.timestamp() * 1e9)
NewDevice = Callable[..., UpdateDevice]


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    made = Operator(tmp_path / "repo")
    made.publish("1")
    return made


@pytest.fixture
def device(broker: Mosquitto, operator: Operator, tmp_path: Path) -> Iterator[NewDevice]:
    made: list[UpdateDevice] = []

    def new(name: str, of: Operator = operator, **settings: Any) -> UpdateDevice:
        folder = tmp_path / name
        made.append(
            UpdateDevice(broker.port, name, folder, FolderSource(of.folder), of.first_root, wall_ns=NOW_NS, **settings)
        )
        return made[-1]

    yield new
    for one in made:
        one.close()


class WatchProcess:
    """``edge-fleet watch``, run to be interrupted."""

    def __init__(self, operator: Operator, broker: Mosquitto, folder: Path) -> None:
        self._out = folder / "watch.out"
        command = [sys.executable, "-m", "fleet", "watch", str(operator.folder), *broker_options(broker)]
        with self._out.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out)

    def said(self) -> str:
        return self._out.read_text()

    def wait_said(self, words: str) -> None:
        wait_for(lambda: words in self.said(), f"{words!r} among its words")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self) -> int:
        return self.process.wait(60)


@pytest.fixture
def watching(broker: Mosquitto, operator: Operator, tmp_path: Path) -> Iterator[Callable[[], WatchProcess]]:
    started: list[WatchProcess] = []

    def start() -> WatchProcess:
        started.append(WatchProcess(operator, broker, tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(20)


def begin(operator: Operator, *devices: str, **terms: object) -> Rollout:
    to = Audience(devices=devices) if devices else Audience(everyone=True)
    with operator.opened() as repository:
        release = find_release(repository, "hall")
        return RolloutBook(repository).begin(release, to, **terms)


def ring(broker: Mosquitto, rollout: Rollout) -> None:
    ring_once(MqttConfig(port=broker.port), Path(), rollout)


def broker_options(broker: Mosquitto) -> list[str]:
    return ["--mqtt-host", "127.0.0.1", "--mqtt-port", str(broker.port)]


def watched(operator: Operator, broker: Mosquitto, *options: str) -> int:
    return watch.main([str(operator.folder), *broker_options(broker), *options])


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def state_of(operator: Operator, rollout: Rollout) -> str:
    with operator.book() as book:
        return book.find(rollout.id).state


# --- the bell --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_bell_of_named_devices_is_theirs_alone_and_stays_for_those_that_are_away(
    broker: Mosquitto, operator: Operator, protocol: Any
) -> None:
    rollout = begin(operator, "a", "b")
    ring_once(MqttConfig(port=broker.port, protocol=protocol), Path(), rollout)
    late = Subscriber(broker.port, "edge-agent/#")
    wait_for(lambda: len(late.raw()) == 2, "two retained bells")
    assert {(topic, retained) for topic, _, retained in late.raw()} == {
        ("edge-agent/a/update/bell", True),
        ("edge-agent/b/update/bell", True),
    }
    late.close()


def test_the_bell_of_a_group_goes_to_the_whole_fleet(
    broker: Mosquitto, operator: Operator, subscriber: Subscriber
) -> None:
    ring(broker, begin(operator))
    wait_for(lambda: subscriber.raw("_fleet/update/bell"), "the bell of the fleet")


def test_a_bell_without_a_broker_is_an_error_of_the_network(operator: Operator) -> None:
    with pytest.raises(TransportError, match="refused"):
        ring_once(MqttConfig(port=1), Path(), begin(operator, "a"))


def test_a_broker_that_denies_the_bell_is_told_with_the_right_that_is_missing(
    operator: Operator, tmp_path: Path
) -> None:
    access = tmp_path / "acl"
    access.write_text("topic read #\n")
    access.chmod(0o600)
    denying = Mosquitto(tmp_path / "denying", f"acl_file {access}\n")
    denying.start()
    with pytest.raises(TransportError, match=r"must be allowed to write edge-agent/.*update/bell"):
        ring(denying, begin(operator, "a"))
    denying.stop()


# --- watch -----------------------------------------------------------------------------------------------------------


def test_a_rollout_that_every_device_commits_ends_well(
    broker: Mosquitto, operator: Operator, device: NewDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = [device(name) for name in ("a", "b", "c")]
    rollout = begin(operator)
    ring(broker, rollout)
    assert watched(operator, broker, rollout.id) == 0
    assert all(one.fetched for one in devices)
    said = capsys.readouterr().out
    assert "3 devices: 3 committed" in said
    assert "a  trial  runs factory" in said
    assert "a  committed  runs 1" in said


def test_a_rollout_past_its_failures_is_stopped_and_the_devices_are_woken_to_see_it(
    broker: Mosquitto, operator: Operator, device: NewDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy = device("a", stays=True)
    for name in ("b", "c"):
        device(name, fails=Reason.INVOKE)
    rollout = begin(operator, max_failures=1)
    ring(broker, rollout)
    assert watched(operator, broker, "--json") == 1
    assert len(healthy.rung) == 2
    assert healthy.state.last is not None
    assert healthy.state.last.reason is Reason.WITHDRAWN
    assert state_of(operator, rollout) == "stopped"
    *_, end = objects(capsys.readouterr().out)
    assert (end["verdict"], end["counts"]["failed"]) == ("too_many", 2)
    assert {one["reason"] for one in end["devices"] if one["phase"] == "failed"} == {"invoke"}


def test_a_failure_that_is_allowed_stops_nothing_but_is_no_good_end(
    broker: Mosquitto, operator: Operator, device: NewDevice
) -> None:
    device("a")
    device("b", fails=Reason.LATENCY)
    rollout = begin(operator, max_failures=1)
    ring(broker, rollout)
    assert watched(operator, broker, rollout.id) == 1
    assert state_of(operator, rollout) == "active"


def test_a_rollout_that_somebody_stops_meanwhile_ends_the_watching(
    operator: Operator, watching: Callable[[], WatchProcess]
) -> None:
    begin(operator, "away")
    process = watching()
    process.wait_said("connected to")
    with operator.book() as book:
        rollout = book.pause("hall")
    process.wait_said("is paused now")
    with operator.book() as book:
        book.stop(rollout.id)
    assert process.ended() == 1
    assert "was stopped" in process.said()


def test_ctrl_c_leaves_the_rollout_as_it_is(operator: Operator, watching: Callable[[], WatchProcess]) -> None:
    rollout = begin(operator, "away")
    process = watching()
    process.wait_said("connected to")
    process.interrupt()
    assert process.ended() == 130
    assert "not over yet; it goes on" in process.said()
    assert state_of(operator, rollout) == "active"


def test_a_broker_that_restarts_does_not_end_the_watching(
    broker: Mosquitto, operator: Operator, device: NewDevice, watching: Callable[[], WatchProcess]
) -> None:
    rollout = begin(operator, "a")
    process = watching()
    process.wait_said("connected to")
    broker.kill()
    process.wait_said("reached")
    broker.start()
    device("a")
    ring(broker, rollout)
    assert process.ended() == 0, process.said()


def test_without_the_operators_key_it_says_that_it_can_stop_nothing(
    broker: Mosquitto, device: NewDevice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path / "secured", "fleet")
    operator.publish("1")
    rollout = begin(operator, "a", max_failures=0)
    stick = tmp_path / "stick"
    operator.carry_away(stick)
    device("a", operator, fails=Reason.OUTPUT)
    ring(broker, rollout)
    assert watched(operator, broker) == 1
    said = capsys.readouterr().out
    assert "this can't stop it by itself" in said
    assert "should be stopped and could not be" in said
    assert watched(operator, broker, "--keys", str(stick)) == 1
    operator.sticks = [stick]
    assert state_of(operator, rollout) == "stopped"


def test_where_no_device_is_known_it_waits_as_long_as_it_may(
    broker: Mosquitto, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(operator)
    assert watched(operator, broker, "--for", "200ms") == 1
    assert "no device that is meant is known yet" in capsys.readouterr().out


def test_no_broker_is_one_line_that_names_the_options(operator: Operator) -> None:
    begin(operator, "a")
    with pytest.raises(TransportError, match="--mqtt-host and port"):
        watch.main([str(operator.folder), "--mqtt-port", "1"])


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_tells_of_rollouts_and_devices(
    broker: Mosquitto, operator: Operator, device: NewDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    device("a", groups=["line-3"])
    rollout = begin(operator)
    ring(broker, rollout)
    assert watched(operator, broker) == 0
    capsys.readouterr()
    assert status.main([str(operator.folder), *broker_options(broker), "--json"]) == 0
    (told,) = objects(capsys.readouterr().out)
    assert told["rollouts"][0]["counts"]["committed"] == 1
    assert told["devices"][0]["models"]["hall"]["version"] == "1"
    assert told["devices"][0]["groups"] == ["line-3"]
    assert status.main([str(operator.folder), *broker_options(broker)]) == 0
    said = capsys.readouterr().out
    assert "hall-1-1" in said
    assert "committed 1" in said


def test_status_shows_the_repository_where_the_broker_is_away(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(operator, "a")
    with pytest.raises(TransportError, match="nothing is known of the devices"):
        status.main([str(operator.folder), "--mqtt-port", "1"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("hall-1-1")]
    assert row.split()[-4:] == ["-"] * 4  # nobody waits as far as anybody knows
    with pytest.raises(TransportError):
        status.main([str(operator.folder), "--mqtt-port", "1", "--json"])
    (told,) = objects(capsys.readouterr().out)
    assert (told["ok"], told["rollouts"][0]["counts"]) == (False, None)
