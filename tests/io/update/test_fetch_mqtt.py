"""A repository in pieces over a real mosquitto: a good server, a bad one, none, and a network that comes and goes."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import NotThereError, StorageError, TransportError
from edge_agent.io.fetch import mqtt, window
from edge_agent.io.fetch.chunks import Get, Head, encode_chunk
from edge_agent.io.fetch.mqtt import MqttSource
from edge_agent.io.fetch.pace import SlowError
from fleet.chunk_server import ChunkServer
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.chunk_answerer import ChunkAnswerer, good
from tests.simulators.link import Link
from tests.simulators.served_folder import CONTENT, MODEL, TIMESTAMP, served_folder
from tests.simulators.waiting import wait_for

SIZE = len(CONTENT)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One for all: every test has its own clients, and nothing is kept."""
    mosquitto = Mosquitto(tmp_path_factory.mktemp("broker"))
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_folder(tmp_path_factory.mktemp("served") / "repo")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "RECONNECT_S", 0.01)
    monkeypatch.setattr(window, "TIMEOUT_LEAST_S", 0.1)


def source(port: int, protocol: Literal["5", "3.1.1"] = "5", **options: Any) -> MqttSource:
    config = MqttConfig(port=port, protocol=protocol)
    return MqttSource(config, Path(), "edge-agent-cam1-update", "edge-agent/cam1", **options)


@contextlib.contextmanager
def serving(port: int, repository: Path, client_id: str = "serve") -> Iterator[ChunkServer]:
    with ChunkServer(MqttConfig(port=port), Path(), repository, client_id, lambda _: None) as server:
        wait_for(server.connected.is_set, "the chunk server is connected")
        yield server


def fetched(one: MqttSource, part: Path) -> bytes:
    try:
        one.download(MODEL, part, SIZE, lambda _: None)
    finally:
        one.close()
    return part.read_bytes()


# --- a good server -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_files_come_whole(broker: Mosquitto, repository: Path, tmp_path: Path, protocol: Any) -> None:
    with serving(broker.port, repository):
        one = source(broker.port, protocol)
        assert one.read("metadata/timestamp.json", 100) == TIMESTAMP
        assert len(one.read("metadata/1.models.json", 100_000)) == 100_000
        sizes: list[int] = []
        one.download(MODEL, tmp_path / "part", SIZE, sizes.append)
        assert (tmp_path / "part").read_bytes() == CONTENT
        assert sizes == [SIZE]
        one.close()


@pytest.mark.parametrize("had", [1, SIZE // 2, SIZE])
def test_what_is_there_is_not_fetched_again(broker: Mosquitto, repository: Path, tmp_path: Path, had: int) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:had])
    with serving(broker.port, repository) as server:
        assert fetched(source(broker.port), tmp_path / "part") == CONTENT
        assert server.served.bytes == SIZE - had


def test_what_is_not_there_is_told_from_a_server_that_is_not(
    broker: Mosquitto, repository: Path, tmp_path: Path
) -> None:
    with serving(broker.port, repository):
        one = source(broker.port)
        for path in ("metadata/2.root.json", "secret.key", "../repo/secret.key", "metadata"):
            with pytest.raises(NotThereError):
                one.read(path, 100)
        with pytest.raises(NotThereError):
            one.download("targets/other", tmp_path / "part", 5, lambda _: None)
        one.close()


def test_sizes_that_were_not_signed_or_are_not_taken(broker: Mosquitto, repository: Path, tmp_path: Path) -> None:
    with serving(broker.port, repository):
        one = source(broker.port)
        with pytest.raises(TransportError, match="at most 99999 are taken"):
            one.read("metadata/1.models.json", 99_999)
        with pytest.raises(TransportError, match=f"{SIZE - 1} were expected"):
            one.download(MODEL, tmp_path / "part", SIZE - 1, lambda _: None)
        one.close()


def test_a_rate_limit_changes_no_byte(broker: Mosquitto, repository: Path, tmp_path: Path) -> None:
    with serving(broker.port, repository):
        assert fetched(source(broker.port, rate=2**20), tmp_path / "part") == CONTENT


def test_a_rate_limit_is_no_server_that_went_away(broker: Mosquitto, repository: Path, tmp_path: Path) -> None:
    """With each burst of answers it holds back for longer than it would wait for one."""
    (tmp_path / "part").write_bytes(CONTENT[:-100_000])
    with serving(broker.port, repository):
        assert fetched(source(broker.port, rate=100_000, answer_s=0.5), tmp_path / "part") == CONTENT


def test_one_connection_does_for_many_small_files(broker: Mosquitto, repository: Path) -> None:
    with serving(broker.port, repository):
        one = source(broker.port)
        lines = set()
        for path in ("metadata/2.root.json", "metadata/timestamp.json", "metadata/3.root.json"):
            with contextlib.suppress(NotThereError):
                one.read(path, 100)
            lines.add(one._line)
        assert len(lines) == 1
        one.close()


def test_two_servers_at_once_do_no_harm(broker: Mosquitto, repository: Path, tmp_path: Path) -> None:
    with serving(broker.port, repository, "one"), serving(broker.port, repository, "two"):
        assert fetched(source(broker.port), tmp_path / "part") == CONTENT


# --- a bad one -----------------------------------------------------------------------------------------------------


def test_dropped_doubled_and_late_chunks(broker: Mosquitto, tmp_path: Path) -> None:
    chance = random.Random(3)
    kept: list[bytes] = []

    def answer(_number: int, get: Get) -> Iterator[bytes]:
        kept.append(good(get, CONTENT))
        chance.shuffle(kept)
        while kept and chance.random() < 0.6:
            yield from [kept.pop()] * chance.choice([0, 1, 1, 1, 2])

    with ChunkAnswerer(broker.port, answer):
        assert fetched(source(broker.port), tmp_path / "part") == CONTENT


def test_forged_chunks_are_ignored(broker: Mosquitto, tmp_path: Path) -> None:
    """By somebody who can write to the device's topic and can't read its questions."""

    def answer(number: int, get: Get) -> Iterator[bytes]:
        for forged in (number, get.id + 1000, 0):
            yield encode_chunk(Head(forged, get.path, get.offset, SIZE), bytes(get.length))
        yield encode_chunk(Head(get.id, "metadata/other", get.offset, SIZE), bytes(get.length))
        yield encode_chunk(Head(get.id, get.path, get.offset + 1, SIZE), bytes(get.length))
        yield encode_chunk(Head(get.id, get.path, get.offset, SIZE), bytes(get.length + 1))
        yield encode_chunk(Head(get.id, get.path, get.offset, SIZE))
        yield encode_chunk(Head(get.id + 1000, get.path, get.offset, status=404))
        yield from (b"", b"\0", b"no head", b"[" * 4000, b"{}\n", b'{"id":"x"}\n', bytes(2**19))
        yield good(get, CONTENT)

    with ChunkAnswerer(broker.port, answer) as answerer:
        assert fetched(source(broker.port), tmp_path / "part") == CONTENT
        assert len(answerer.asked) < 20


def test_an_answer_that_the_broker_kept_answers_nobody(broker: Mosquitto, tmp_path: Path) -> None:
    with ChunkAnswerer(broker.port, lambda _number, get: [good(get, CONTENT)]) as answerer:
        answerer.say(encode_chunk(Head(1, MODEL, 0, SIZE), b"old"), retain=True)
        try:
            assert fetched(source(broker.port), tmp_path / "part") == CONTENT
        finally:
            answerer.say(b"", retain=True)


def test_chunks_larger_than_the_broker_takes_come_smaller(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker", "message_size_limit 20000\n")
    broker.start()
    try:
        with serving(broker.port, served_folder(tmp_path / "repo")):
            assert fetched(source(broker.port), tmp_path / "part") == CONTENT
    finally:
        broker.stop()


# --- nobody, and a network that comes and goes ------------------------------------------------------------------


def test_nobody_answers(broker: Mosquitto, tmp_path: Path) -> None:
    one = source(broker.port, answer_s=0.3)
    with pytest.raises(TransportError, match=r"nobody answers on edge-agent/cam1/update/chunk: is edge-fleet serve"):
        one.read("metadata/timestamp.json", 100)
    with pytest.raises(TransportError, match="nobody answers"):
        fetched(one, tmp_path / "part")


def test_a_server_that_goes_away_is_found_again(broker: Mosquitto, repository: Path, tmp_path: Path) -> None:
    part, sizes = tmp_path / "part", list[int]()
    with ChunkAnswerer(broker.port, lambda number, get: [good(get, CONTENT)] if number < 6 else []):
        one = source(broker.port, answer_s=0.3)
        with pytest.raises(TransportError, match="nobody answers"):
            one.download(MODEL, part, SIZE, sizes.append)
    assert 0 < part.stat().st_size < SIZE
    assert sizes == [part.stat().st_size]
    with serving(broker.port, repository) as server:
        assert fetched(one, part) == CONTENT
        assert server.served.bytes == SIZE - sizes[0]


def test_a_server_that_is_too_slow(broker: Mosquitto, tmp_path: Path) -> None:
    with ChunkAnswerer(broker.port, lambda _number, _get: []), pytest.raises(SlowError):
        fetched(source(broker.port, silence_s=0.3), tmp_path / "part")


def test_no_broker(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="refused"):
        fetched(source(free_port()), tmp_path / "part")


def test_a_broker_that_wants_a_password(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "passwd").touch(0o600)
    broker = Mosquitto(tmp_path / "broker", f"password_file {tmp_path}/broker/passwd\n")
    text = broker._configuration.read_text().replace("allow_anonymous true", "allow_anonymous false")
    broker._configuration.write_text(text)
    broker.start()
    try:
        with pytest.raises(TransportError, match=r"refused the connection: Not authorized; check \[mqtt\] username"):
            source(broker.port).read("metadata/timestamp.json", 100)
    finally:
        broker.stop()


def test_a_connection_that_breaks_is_made_anew(broker: Mosquitto, tmp_path: Path) -> None:
    with Link(broker.port) as link:

        def answer(number: int, get: Get) -> Iterator[bytes]:
            if number in (3, 9):
                link.cut()
            yield good(get, CONTENT)

        with ChunkAnswerer(broker.port, answer) as answerer:
            assert fetched(source(link.port), tmp_path / "part") == CONTENT
            assert len(answerer.asked) > 9


@pytest.fixture
def intrude(broker: Mosquitto) -> Iterator[Callable[[], None]]:
    """Another program connects with our client id, so that the broker throws us out."""
    others: list[paho.Client] = []

    def connect() -> None:
        others.append(paho.Client(CallbackAPIVersion.VERSION2, client_id="edge-agent-cam1-update"))
        others[-1].connect("127.0.0.1", broker.port)

    yield connect
    for other in others:
        other.disconnect()


def test_the_client_id_used_twice(broker: Mosquitto, tmp_path: Path, intrude: Callable[[], None]) -> None:
    def answer(number: int, get: Get) -> Iterator[bytes]:
        if number == 3:
            intrude()
        yield good(get, CONTENT)

    with ChunkAnswerer(broker.port, answer):
        assert fetched(source(broker.port), tmp_path / "part") == CONTENT


def test_a_fight_over_the_client_id_ends_with_its_name(broker: Mosquitto, intrude: Callable[[], None]) -> None:
    def answer(_number: int, _get: Get) -> Iterator[bytes]:
        intrude()
        yield from ()

    with (
        ChunkAnswerer(broker.port, answer),
        pytest.raises(TransportError, match=r"taken over|another client use the id"),
    ):
        source(broker.port).read("metadata/timestamp.json", 100)


def test_stop_ends_the_call_under_way_and_all_later_ones(broker: Mosquitto, tmp_path: Path) -> None:
    errors: list[str] = []
    one = source(broker.port)

    def call() -> None:
        try:
            one.download(MODEL, tmp_path / "part", SIZE, lambda _: None)
        except TransportError as error:
            errors.append(str(error))

    with ChunkAnswerer(broker.port, lambda _number, _get: []) as answerer:
        thread = threading.Thread(target=call)
        thread.start()
        wait_for(lambda: answerer.asked, "a question")
        one.stop()
        thread.join(10)
        call()
    assert errors == ["stopped", "stopped"]
    one.close()
    one.close()


def test_a_full_disk_is_said_as_such(broker: Mosquitto, repository: Path) -> None:
    with serving(broker.port, repository), pytest.raises(StorageError, match="No space left"):
        source(broker.port).download(MODEL, Path("/dev/full"), SIZE, lambda _: None)


def test_a_password_file_that_went_away_is_trouble_not_the_end(tmp_path: Path) -> None:
    config = MqttConfig(username="cam1", password_file="gone")
    one = MqttSource(config, tmp_path, "id", "edge-agent/cam1")
    with pytest.raises(TransportError, match="gone"):
        one.read("metadata/timestamp.json", 100)
