"""``edge-fleet collect`` as a process, beside a real broker: killed, stopped, cut off, refused, without room."""

from __future__ import annotations

import json
import random
import resource
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fleet.__main__ import main
from fleet.collected import Collected
from tests.fleet.collector_process import CollectorProcess, Publisher, end_all
from tests.fleet.payloads import DEVICE, TOPIC, encoded, event, info, prediction
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.waiting import wait_for

UNLIMITED = "max_queued_messages 1000000\n"  # mosquitto drops what exceeds 1000 waiting messages otherwise


@pytest.fixture(autouse=True)
def _no_collector_stays() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path / "broker", UNLIMITED)
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture
def publisher(broker: Mosquitto) -> Iterator[Publisher]:
    opened = Publisher(broker.port)
    yield opened
    opened.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "collected.sqlite"


def predictions(first: int, end: int) -> Iterator[tuple[str, bytes]]:
    return ((TOPIC, encoded(prediction(seq))) for seq in range(first, end))


def stored(database: Path) -> list[int]:
    with Collected(database) as collected:
        return [one.seq for one in collected.predictions()]


def count(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        (number,) = connection.execute("SELECT count(*) FROM message").fetchone()
    connection.close()
    return int(number)


def test_killed_at_any_moment_it_has_every_prediction_exactly_once(
    broker: Mosquitto, publisher: Publisher, database: Path
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    collector = CollectorProcess(database, broker.port).connected()
    publishing = threading.Thread(target=lambda: publisher.send(predictions(0, 2000)))
    publishing.start()
    for _ in range(8):
        have = count(database)
        more = chance.randrange(1, 150)
        wait_for(lambda: count(database) >= min(have + more, 2000), "it goes on where it was killed")  # noqa: B023
        collector.kill()
        collector = CollectorProcess(database, broker.port)
    publishing.join(60)
    wait_for(lambda: count(database) >= 2000, "all of them")
    assert collector.stop() == 0
    assert stored(database) == list(range(2000))
    assert main(["gaps", "--db", str(database)]) == 0


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_broker_keeps_what_comes_while_the_collector_is_away(
    broker: Mosquitto, publisher: Publisher, database: Path, protocol: str
) -> None:
    options = ("--protocol", protocol)
    assert CollectorProcess(database, broker.port, *options).connected().stop(signal.SIGINT) == 0
    publisher.send(predictions(0, 300))
    collector = CollectorProcess(database, broker.port, *options, "--until-idle", "500ms")
    assert collector.ended() == 0
    assert "300 predictions, 0 events, 0 others, 0 duplicates" in collector.out()
    assert stored(database) == list(range(300))


def test_a_broker_that_is_killed_and_comes_back_is_found_again(
    broker: Mosquitto, publisher: Publisher, database: Path
) -> None:
    """It is killed after the first ones are collected: mosquitto acknowledges before it saves, so what it has just
    acknowledged to a publisher can go with it, whoever listens."""
    collector = CollectorProcess(database, broker.port).connected()
    publisher.send(predictions(0, 100))
    wait_for(lambda: count(database) >= 100, "the first ones")
    broker.kill()
    collector.wait_said("the connection to 127.0.0.1:.* was lost")
    broker.start()
    publisher.send(predictions(100, 200))
    wait_for(lambda: count(database) >= 200, "those of before and after")
    assert collector.stop() == 0
    assert stored(database) == list(range(200))
    with Collected(database) as collected:
        assert all(gaps.good for gaps in collected.missing())


def test_what_is_not_ours_is_counted_and_stops_nothing(broker: Mosquitto, publisher: Publisher, database: Path) -> None:
    collector = CollectorProcess(database, broker.port, "--json").connected()
    chance = random.Random(7)
    rubbish = [(TOPIC, chance.randbytes(chance.randrange(1, 300))) for _ in range(1200)]
    deep = (f"edge-agent/{DEVICE}/stats", b"[" * 200_000)
    large = (f"edge-agent/{DEVICE}/info", b" " * (2**20 + 1))
    alarm = (f"edge-agent/{DEVICE}/event", encoded(event(0)))
    whole = (f"edge-agent/{DEVICE}/info", encoded(info()))
    publisher.send([*rubbish, deep, large, alarm, whole, *predictions(0, 3)])
    wait_for(lambda: stored(database) == [0, 1, 2], "the predictions behind the rubbish")
    assert collector.stop() == 0
    with Collected(database) as collected:
        reasons = collected.rejected()
    assert (reasons.pop("too_deep"), reasons.pop("too_large"), sum(reasons.values())) == (1, 1, 1200)
    lines = [json.loads(line) for line in collector.out().splitlines()]
    assert [line["text"] for line in lines if line["type"] == "event"] == [
        "warning: camera_lost front: no frame for 5 s"
    ]
    assert (lines[-1]["type"], lines[-1]["predictions"], lines[-1]["rejected"]) == ("summary", 3, 1202)


@pytest.mark.parametrize("options", [(), ("--quiet",)])
def test_a_new_alarm_is_shown_once_and_not_to_who_wants_quiet(
    broker: Mosquitto, publisher: Publisher, database: Path, options: tuple[str, ...]
) -> None:
    collector = CollectorProcess(database, broker.port, *options).connected()
    topic = f"edge-agent/{DEVICE}/event"
    publisher.send(
        [(topic, encoded(event(0))), (topic, encoded(event(0))), (topic, encoded(event(1, severity="info")))]
    )
    wait_for(lambda: count(database) == 2, "both events")
    assert collector.stop() == 0
    assert collector.said().count("camera_lost front: no frame for 5 s") == (0 if options else 1)


def test_without_room_nothing_is_acknowledged_and_nothing_lost(
    broker: Mosquitto, publisher: Publisher, database: Path
) -> None:
    """A limit on the size of files stands in for the full disk: the write fails in the same place."""
    collector = CollectorProcess(database, broker.port).connected()
    publisher.send(predictions(0, 10))
    wait_for(lambda: count(database) == 10, "the first ones")
    resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    publisher.send(predictions(10, 200))
    collector.wait_said("nothing is acknowledged, the broker keeps it")
    assert stored(database) == list(range(10))
    resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: count(database) == 200, "the rest, when there is room again")
    assert "the disk takes data again" in collector.said()
    assert collector.stop() == 0
    assert stored(database) == list(range(200))


def test_stopped_without_room_it_leaves_the_rest_with_the_broker(
    broker: Mosquitto, publisher: Publisher, database: Path
) -> None:
    collector = CollectorProcess(database, broker.port).connected()
    resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    publisher.send(predictions(0, 50))
    collector.wait_said("nothing is acknowledged")
    assert collector.stop() == 0
    assert CollectorProcess(database, broker.port, "--until-idle", "500ms").ended() == 0
    assert stored(database) == list(range(50))


def test_a_file_that_another_collector_writes_is_refused(broker: Mosquitto, database: Path) -> None:
    first = CollectorProcess(database, broker.port).connected()
    assert main(["collect", "--db", str(database), "--port", str(broker.port), "--for", "1s"]) == 2
    assert first.stop() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "broker.example"], "--insecure to accept that"),
        (["--certificate", "c.pem"], "--certificate and --key go together"),
        (["--password-file", "p"], "give --username"),
        (["--base-topic", "a/#"], "base_topic"),
        (["--base-topic", "plant/"], "must not begin with $, begin or end with /"),
        (["--username", "u", "--password-file", "/nowhere/p"], "can't be read"),
        (["--ca", "/nowhere/ca.pem"], "--ca, --certificate and --key: the certificates can't be used"),
    ],
)
def test_options_that_can_not_be_meant_are_refused(
    database: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["collect", "--db", str(database), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "[mqtt" not in error


def test_an_unreachable_broker_is_said(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main(["collect", "--db", str(database), "--port", str(port), "--for", "500ms"]) == 1
    error = capsys.readouterr().err
    assert f"127.0.0.1:{port} can't be reached: Connection refused" in error
    assert "are --host and port right?" in error


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_refusal_ends_it_with_the_broker_s_word(
    tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str], protocol: str
) -> None:
    users = tmp_path / "users"
    users.write_text("")
    mosquitto = Mosquitto(tmp_path / "closed", f"allow_anonymous false\npassword_file {users}\n")
    mosquitto.start()
    try:
        options = ["--db", str(database), "--port", str(mosquitto.port), "--protocol", protocol]
        assert main(["collect", *options]) == 1
    finally:
        mosquitto.stop()
    error = capsys.readouterr().err
    assert "the broker refused the connection: Not authorized" in error
    assert "check --username and --password-file" in error


class StubBroker:
    """Accepts one connection after the other and answers CONNECT and then SUBSCRIBE with the given bytes."""

    def __init__(self, *answers: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._answers = answers
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection, suppress(ConnectionError):
                    for answer in self._answers:
                        connection.recv(4096)
                        connection.sendall(answer)
                    connection.recv(4096)

    def close(self) -> None:
        self._listener.close()


CONNACK = b"\x20\x03\x00\x00\x00"


def test_a_denied_subscription_ends_it_with_what_to_do(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub = StubBroker(CONNACK, b"\x90\x0a\x00\x01\x00" + b"\x01" * 4 + b"\x87" + b"\x01" * 2)
    try:
        assert main(["collect", "--db", str(database), "--port", str(stub.port)]) == 1
    finally:
        stub.close()
    error = capsys.readouterr().err
    assert "the broker denies edge-agent/+/stats (Not authorized); give this user the right to read" in error


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x20\x03\x00\x00\x00" + b"\x90\x02\x00\x01",  # a SUBACK without its properties
        CONNACK + b"\xff\xff\xff\xff\xff\xff\xff",
        CONNACK + b"\x32\x04\x00\x09ab",  # a topic longer than its packet
        CONNACK + b"\x32\x07\x00\x01\xff\x00\x01\x05\x99",  # properties that are not there
    ],
)
def test_a_broker_that_sends_rubbish_is_said_and_tried_again(database: Path, rubbish: bytes) -> None:
    stub = StubBroker(rubbish)
    collector = CollectorProcess(database, stub.port)
    try:
        collector.wait_said("trying again")
        wait_for(lambda: stub.connections >= 2, "another connection")
        assert collector.process.poll() is None
        assert collector.stop() == 0
    finally:
        collector.kill()
        stub.close()


def test_two_under_one_client_id_say_so_and_give_way(broker: Mosquitto, tmp_path: Path) -> None:
    """This broker closes the connection of the first and does not say why."""
    first = CollectorProcess(tmp_path / "first.sqlite", broker.port, "--client-id", "one").connected()
    second = CollectorProcess(tmp_path / "second.sqlite", broker.port, "--client-id", "one").connected()
    first.wait_said("times in a row soon after connecting: is its client id in use?")
    assert [first.stop(), second.stop()] == [0, 0]


def test_a_broker_that_names_the_other_client_is_believed(database: Path) -> None:
    stub = StubBroker(CONNACK, b"\x90\x0a\x00\x01\x00" + b"\x01" * 7 + b"\xe0\x02\x8e\x00")
    collector = CollectorProcess(database, stub.port)
    try:
        collector.wait_said("another client connected with this client id: let each collector have its own")
        assert collector.stop() == 0
    finally:
        collector.kill()
        stub.close()
