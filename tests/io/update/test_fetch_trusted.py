"""The real client over every real way to a repository, good and bad ones: what arrives is what was signed, or a reason
says why nothing did."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import UpdateError
from edge_agent.io.fetch.folder import FolderSource
from edge_agent.io.fetch.http import HttpSource
from edge_agent.io.fetch.mqtt import MqttSource
from edge_agent.io.tuf_client import TrustedRepository
from edge_agent.ports import Source
from edge_agent.rollouts import Reason, Release
from fleet.chunk_server import ChunkServer
from fleet.http_server import RepositoryServer
from tests.simulators.broker import Mosquitto
from tests.simulators.chunk_answerer import ChunkAnswerer
from tests.simulators.tuf_repository import TufRepository
from tests.simulators.waiting import wait_for
from tests.simulators.web_server import Request, WebServer

MODEL = random.Random(9).randbytes(200_000)
WAYS = ("folder", "http", "mqtt")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path_factory.mktemp("broker"))
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    repository = TufRepository(tmp_path / "repo")
    repository.add_model("hall", "2.1.0", MODEL, 1)
    repository.set_rollouts("main", [])
    return repository


@pytest.fixture(params=WAYS)
def source(request: pytest.FixtureRequest, repository: TufRepository, broker: Mosquitto) -> Iterator[Source]:
    with ExitStack() as stack:
        made: Source
        if request.param == "folder":
            made = FolderSource(repository.folder)
        elif request.param == "http":
            made = HttpSource(stack.enter_context(RepositoryServer(repository.folder)).url)
        else:
            config = MqttConfig(port=broker.port)
            server = stack.enter_context(ChunkServer(config, Path(), repository.folder, "serve", lambda _: None))
            wait_for(server.connected.is_set, "the chunk server is connected")
            made = mqtt(broker)
        stack.callback(made.close)
        yield made


def mqtt(broker: Mosquitto, **limits: float) -> MqttSource:
    return MqttSource(MqttConfig(port=broker.port), Path(), "cam1-update", "edge-agent/cam1", **limits)  # type: ignore[arg-type]


class Device:
    def __init__(self, folder: Path, repository: TufRepository, source: Source) -> None:
        self.part = folder / "part"
        self._folder = folder / "tuf"
        self._root = repository.root_bytes
        self._source = source

    def check(self) -> tuple[TrustedRepository, Release]:
        trusted = TrustedRepository(self._folder, self._root, self._source, time.time_ns())
        trusted.refresh()
        assert trusted.channel("main").rollouts == ()
        return trusted, trusted.release("models/hall/2.1.0.tflite")

    def fetch(self) -> bytes:
        trusted, release = self.check()
        trusted.download(release, self.part, lambda _: None)
        return self.part.read_bytes()

    def refused(self, action: Callable[[], object]) -> Reason:
        with pytest.raises(UpdateError) as caught:
            action()
        return Reason(caught.value.reason)


def stored(repository: TufRepository) -> Path:
    return next((repository.folder / "targets" / "models").rglob("*.tflite"))


# --- each way -----------------------------------------------------------------------------------------------------


def test_a_signed_model_arrives(tmp_path: Path, repository: TufRepository, source: Source) -> None:
    device = Device(tmp_path, repository, source)
    assert device.fetch() == MODEL


def test_a_part_that_was_damaged_is_fetched_again(tmp_path: Path, repository: TufRepository, source: Source) -> None:
    device = Device(tmp_path, repository, source)
    device.part.write_bytes(bytes(50_000))
    assert device.fetch() == MODEL


def test_a_substituted_model_is_refused_and_not_kept(tmp_path: Path, repository: TufRepository, source: Source) -> None:
    device = Device(tmp_path, repository, source)
    stored(repository).write_bytes(MODEL[:-1] + bytes([MODEL[-1] ^ 1]))
    assert device.refused(device.fetch) is Reason.HASH
    assert not device.part.exists()
    stored(repository).write_bytes(MODEL)
    assert device.fetch() == MODEL


@pytest.mark.parametrize("content", [MODEL[:-1], MODEL + b"x", b""])
def test_a_model_of_another_length_is_refused(
    tmp_path: Path, repository: TufRepository, source: Source, content: bytes
) -> None:
    device = Device(tmp_path, repository, source)
    stored(repository).write_bytes(content)
    device.refused(device.fetch)
    stored(repository).write_bytes(MODEL)
    assert device.fetch() == MODEL


@pytest.mark.parametrize("garbage", [b"", b"\0" * 500, b"{}", b"<html>404</html>", b"[" * 10_000])
def test_a_repository_that_serves_garbage_is_refused(
    tmp_path: Path, repository: TufRepository, source: Source, garbage: bytes
) -> None:
    device = Device(tmp_path, repository, source)
    timestamp = repository.folder / "metadata" / "timestamp.json"
    signed = timestamp.read_bytes()
    timestamp.write_bytes(garbage)
    assert device.refused(device.check) is Reason.METADATA_REFUSED
    timestamp.write_bytes(signed)
    assert device.fetch() == MODEL


def test_metadata_larger_than_any_is_refused(tmp_path: Path, repository: TufRepository, source: Source) -> None:
    (repository.folder / "metadata" / "timestamp.json").write_bytes(bytes(2**20))
    device = Device(tmp_path, repository, source)
    assert device.refused(device.check) is Reason.METADATA_REFUSED


def test_a_model_that_is_not_there_is_waited_for(tmp_path: Path, repository: TufRepository, source: Source) -> None:
    device = Device(tmp_path, repository, source)
    stored(repository).unlink()
    assert device.refused(device.fetch) is Reason.UNREACHABLE


def test_a_full_disk_is_told_as_such(tmp_path: Path, repository: TufRepository, source: Source) -> None:
    device = Device(tmp_path, repository, source)
    device.part = Path("/dev/full")
    assert device.refused(device.fetch) is Reason.DISK_FULL


# --- servers that mean harm ---------------------------------------------------------------------------------------


def test_endless_data_over_http_is_refused(tmp_path: Path, repository: TufRepository) -> None:
    def answer(request: Request) -> None:
        if "root" in request.target:
            request.answer("404 Not Found")
            return
        request.send(b"HTTP/1.1 200 OK\r\n\r\n")
        request.for_ever(b"x" * 4096)

    with WebServer(answer) as server:
        device = Device(tmp_path, repository, HttpSource(server.url))
        assert device.refused(device.check) is Reason.METADATA_REFUSED


def test_slow_bytes_over_http_are_named(tmp_path: Path, repository: TufRepository) -> None:
    def answer(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\n\r\n")
        request.for_ever(b"x", 0.02)

    with WebServer(answer) as server:
        device = Device(tmp_path, repository, HttpSource(server.url, silence_s=0.3))
        assert device.refused(device.check) is Reason.SLOW


def test_slow_bytes_over_mqtt_are_named(tmp_path: Path, repository: TufRepository, broker: Mosquitto) -> None:
    with ChunkAnswerer(broker.port, lambda _number, _get: []):
        device = Device(tmp_path, repository, mqtt(broker, silence_s=0.3))
        assert device.refused(device.check) is Reason.SLOW


def test_nobody_there_is_unreachable(tmp_path: Path, repository: TufRepository, broker: Mosquitto) -> None:
    for source in (FolderSource(tmp_path / "stick"), HttpSource("http://127.0.0.1:1"), mqtt(broker, answer_s=0.2)):
        device = Device(tmp_path, repository, source)
        assert device.refused(device.check) is Reason.UNREACHABLE
