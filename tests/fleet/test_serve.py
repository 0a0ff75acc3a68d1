"""``edge-fleet serve``: what is public and nothing else, whoever asks and however, over HTTP and over MQTT."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config.schema import MqttConfig, TlsConfig
from edge_agent.errors import ConfigError, NotThereError
from edge_agent.io.fetch.chunks import CHUNK_BYTES_MOST, Chunk, Get, decode_chunk, encode_get
from edge_agent.io.fetch.http import HttpSource
from edge_agent.io.fetch.mqtt import MqttSource
from fleet import chunk_server, http_server
from fleet.chunk_server import ChunkServer
from fleet.commands.serve import main
from fleet.http_server import RepositoryServer
from fleet.served_files import ServedFiles
from tests.simulators.broker import Mosquitto
from tests.simulators.certificates import Authority
from tests.simulators.served_folder import CONTENT, MODEL, TIMESTAMP, served_folder
from tests.simulators.tuf_repository import TufRepository
from tests.simulators.waiting import wait_for

SIZE = len(CONTENT)
NOT_PUBLIC = [
    "secret.key",
    "",
    "metadata",
    "metadata/",
    "metadata/.",
    "targets/models",
    "metadata/../secret.key",
    "metadata/./timestamp.json",
    "targets/../metadata/timestamp.json",
    "/metadata/timestamp.json",
    "//metadata/timestamp.json",
    "metadata//timestamp.json",
    "../repo/metadata/timestamp.json",
    "metadata\\..\\secret.key",
    "metadata/timestamp.json/",
    "metadata/timestamp.json\0.txt",
    "metadata/link",
    "metadata/outside/passwd",
    "metadata/pipe",
    "metadata/" + "x" * 300,
    "metadata/" + "x/" * 600 + "x",
    "METADATA/timestamp.json",
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody writes to it."""
    folder = served_folder(tmp_path_factory.mktemp("served") / "repo")
    (folder / "metadata" / "link").symlink_to(folder / "secret.key")
    (folder / "metadata" / "outside").symlink_to("/etc")
    os.mkfifo(folder / "metadata" / "pipe")
    return folder


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One for all: every test has its own clients, and nothing is kept."""
    mosquitto = Mosquitto(tmp_path_factory.mktemp("broker"))
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RepositoryServer]:
    with RepositoryServer(repository) as server:
        yield server


def asked(server: RepositoryServer, method: str, target: str, **headers: str) -> http.client.HTTPResponse:
    """The answer as it is, its body read into ``body``."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer: Any = connection.getresponse()
    answer.body = answer.read()
    connection.close()
    return answer


# --- what is public --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOT_PUBLIC)
def test_nothing_else_than_public_files_can_be_opened(repository: Path, path: str) -> None:
    with pytest.raises(NotThereError):
        ServedFiles(repository).open(path)


def test_public_files_can(repository: Path) -> None:
    with ServedFiles(repository).open("metadata/timestamp.json") as file:
        assert file.read(0, 100) == TIMESTAMP


def test_opening_leaves_no_descriptor_behind(repository: Path) -> None:
    files = ServedFiles(repository)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in [*NOT_PUBLIC, MODEL] * 3:
        with contextlib.suppress(NotThereError), files.open(path):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "quoted"),
    # Slashes at the beginning are one slash to an HTTP server, unless they are quoted
    [(path, quoted) for path in NOT_PUBLIC for quoted in (False, True) if quoted or not path.startswith("/")],
)
def test_paths_that_lead_elsewhere_over_http(server: RepositoryServer, path: str, quoted: bool) -> None:
    target = "/" + ("".join(f"%{ord(letter):02x}" for letter in path) if quoted else path.replace("\0", "%00"))
    answer: Any = asked(server, "GET", target)
    assert answer.status == 404
    assert answer.body == b""


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS", "PATCH", "CONNECT"])
def test_nothing_can_be_written(server: RepositoryServer, repository: Path, method: str) -> None:
    assert asked(server, method, "/metadata/timestamp.json").status == 501
    assert (repository / "metadata" / "timestamp.json").read_bytes() == TIMESTAMP


def test_head_is_get_without_the_body(server: RepositoryServer) -> None:
    answer: Any = asked(server, "HEAD", f"/{MODEL}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(SIZE)


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=1000-", 1000, SIZE - 1),
        ("bytes=1000-1999", 1000, 1999),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        ("bytes=5-99999999", 5, SIZE - 1),
    ],
)
def test_a_range(server: RepositoryServer, wanted: str, first: int, last: int) -> None:
    answer: Any = asked(server, "GET", f"/{MODEL}", Range=wanted)
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.body == CONTENT[first : last + 1]


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-9", "bytes=-5", "bytes=a-b", "lines=1-", "bytes=" + "9" * 50 + "-"])
def test_a_range_of_another_kind_is_the_whole_file(server: RepositoryServer, wanted: str) -> None:
    answer: Any = asked(server, "GET", f"/{MODEL}", Range=wanted)
    assert (answer.status, answer.body) == (200, CONTENT)


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", "bytes=9-5"])
def test_a_range_beyond_the_end(server: RepositoryServer, wanted: str) -> None:
    answer = asked(server, "GET", f"/{MODEL}", Range=wanted)
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


def test_a_file_that_changed_is_given_whole(tmp_path: Path) -> None:
    model = served_folder(tmp_path / "repo") / MODEL
    with RepositoryServer(tmp_path / "repo") as server:
        tag = asked(server, "HEAD", f"/{MODEL}").headers["ETag"]
        assert asked(server, "GET", f"/{MODEL}", Range="bytes=9-", If_Range=tag).status == 206
        model.with_suffix(".new").write_bytes(CONTENT[::-1])
        model.with_suffix(".new").replace(model)
        answer: Any = asked(server, "GET", f"/{MODEL}", Range="bytes=9-", If_Range=tag)
    assert (answer.status, answer.body) == (200, CONTENT[::-1])


def test_more_connections_than_are_served_are_hung_up_on(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS_MOST", 2)
    with RepositoryServer(repository) as server, contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in range(3)]
        assert held[2].recv(1) == b""
        held.pop(0).close()
        wait_for(lambda: answered(server), "a place that became free is given to the next")


def answered(server: RepositoryServer) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return asked(server, "GET", "/metadata/timestamp.json").status == 200
    return False


def test_garbage_over_http_does_not_end_the_server(server: RepositoryServer) -> None:
    for garbage in (
        b"\0" * 1000,
        b"GET " + b"x" * 70_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%ff%zz HTTP/1.1\r\n\r\n",
        b"",
    ):
        with socket.create_connection(("127.0.0.1", server.port), 20) as connection, contextlib.suppress(OSError):
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(2**16):
                """To the end of the answer."""
    assert answered(server)


# --- MQTT ------------------------------------------------------------------------------------------------------------


class Asker:
    """Any client at all, on any device's topics. ``heard``: topic and chunk."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, Chunk]] = []
        self._subscribed = False
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _c, _d, message: self.heard.append(
            (message.topic, decode_chunk(message.payload))
        )
        self.client.on_subscribe = self._granted
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe("edge-agent/+/update/chunk")
        wait_for(lambda: self._subscribed, "subscribed")

    def ask(self, *payloads: bytes | Get, device: str = "cam1", retain: bool = False) -> None:
        for payload in payloads:
            data = payload if isinstance(payload, bytes) else encode_get(payload)
            self.client.publish(f"edge-agent/{device}/update/get", data, retain=retain)

    def answers(self, count: int) -> list[Chunk]:
        wait_for(lambda: len(self.heard) >= count, f"{count} answers")
        return [chunk for _, chunk in self.heard]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _granted(self, *_: Any) -> None:
        self._subscribed = True


@pytest.fixture
def asker(broker: Mosquitto) -> Iterator[Asker]:
    one = Asker(broker.port)
    yield one
    one.close()


@pytest.fixture
def chunks(broker: Mosquitto, repository: Path) -> Iterator[ChunkServer]:
    with ChunkServer(MqttConfig(port=broker.port), Path(), repository, "serve", lambda _: None) as server:
        wait_for(server.connected.is_set, "connected")
        yield server


def test_paths_that_lead_elsewhere_over_mqtt(chunks: ChunkServer, asker: Asker) -> None:
    for path in NOT_PUBLIC:
        if len(path) <= 1024:
            asker.ask(Get(len(path), path, 0, 100))
            assert asker.answers(1)[0].head.status == 404
            assert asker.heard.pop()[1].data == b""


def test_each_device_is_answered_on_its_own_topic(chunks: ChunkServer, asker: Asker) -> None:
    asker.ask(Get(1, "metadata/timestamp.json", 0, 100), device="cam1")
    asker.ask(Get(2, "metadata/timestamp.json", 0, 100), device="cam2")
    asker.answers(2)
    assert {(topic, chunk.head.id) for topic, chunk in asker.heard} == {
        ("edge-agent/cam1/update/chunk", 1),
        ("edge-agent/cam2/update/chunk", 2),
    }


def test_an_answer_is_never_larger_than_a_chunk(chunks: ChunkServer, asker: Asker) -> None:
    asker.ask(Get(1, MODEL, 0, 2**50), Get(2, MODEL, SIZE - 3, 2**50), Get(3, MODEL, SIZE, 100))
    assert [len(chunk.data) for chunk in asker.answers(3)] == [CHUNK_BYTES_MOST, 3, 0]
    assert {(chunk.head.size, chunk.head.status) for _, chunk in asker.heard} == {(SIZE, 200)}


@pytest.mark.parametrize("offset", [SIZE + 1, 2**52])
def test_a_place_beyond_the_end_is_refused(chunks: ChunkServer, asker: Asker, offset: int) -> None:
    asker.ask(Get(1, MODEL, offset, 100))
    assert asker.answers(1)[0].head.status == 400


def test_garbage_gets_no_answer_and_ends_nothing(chunks: ChunkServer, asker: Asker) -> None:
    asker.ask(b"", b"\0", b"{}", b"[" * 100_000, b'{"id":1,"path":"x","offset":-1,"length":1}', bytes(300_000))
    asker.ask(Get(7, "metadata/timestamp.json", 0, 100))
    assert [chunk.head.id for chunk in asker.answers(1)] == [7]
    assert chunks.served.refused + chunks.served.overflowed == 6


def test_names_that_no_device_can_have_are_not_answered(chunks: ChunkServer, asker: Asker) -> None:
    for device in ("_fleet", "CAM1", "a b", "x" * 64, "$x", ""):
        asker.ask(Get(1, "metadata/timestamp.json", 0, 100), device=device)
    asker.ask(Get(2, "metadata/timestamp.json", 0, 100), device="x" * 63)
    assert [chunk.head.id for chunk in asker.answers(1)] == [2]


def test_a_question_that_the_broker_kept_is_not_answered(broker: Mosquitto, repository: Path, asker: Asker) -> None:
    asker.ask(Get(1, "metadata/timestamp.json", 0, 100), retain=True)
    with ChunkServer(MqttConfig(port=broker.port), Path(), repository, "serve", lambda _: None) as server:
        wait_for(server.connected.is_set, "connected")
        asker.ask(Get(2, "metadata/timestamp.json", 0, 100), device="cam2")
        assert [chunk.head.id for chunk in asker.answers(1)] == [2]
    asker.ask(b"", retain=True)


def test_a_device_that_floods_does_not_starve_another(chunks: ChunkServer, asker: Asker) -> None:
    asker.ask(*[Get(number, MODEL, 0, 4096) for number in range(500)], device="flood")
    asker.ask(Get(9999, "metadata/timestamp.json", 0, 100), device="cam1")
    wait_for(lambda: any(topic == "edge-agent/cam1/update/chunk" for topic, _ in asker.heard), "the other is answered")
    wait_for(lambda: chunks.served.chunks + chunks.served.overflowed == 501, "every question is accounted for")


def test_questions_of_one_device_wait_in_a_bounded_queue(repository: Path) -> None:
    server = ChunkServer(MqttConfig(), Path(), repository, "serve", lambda _: None)
    message = paho.MQTTMessage(topic=b"edge-agent/cam1/update/get")
    for _ in range(100):
        server._asked(server._client, None, message)
    assert server.served.overflowed == 100 - chunk_server.WAITING_MOST


def test_a_broker_that_comes_back_is_served_again(tmp_path: Path, repository: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(chunk_server, "RETRY_FIRST_S", 0.05)
    broker = Mosquitto(tmp_path / "broker")
    said: list[str] = []
    with ChunkServer(MqttConfig(port=broker.port), Path(), repository, "serve", said.append) as server:
        wait_for(lambda: said, "it says that there is no broker")
        assert "refused" in said[0]
        broker.start()
        wait_for(server.connected.is_set, "connected")
        broker.kill()
        wait_for(lambda: not server.connected.is_set(), "lost")
        broker.start()
        wait_for(server.connected.is_set, "connected again")
        assert MqttSource(MqttConfig(port=broker.port), Path(), "c", "edge-agent/cam1").read(MODEL, SIZE) == CONTENT
    broker.stop()


# --- the command -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """What it says at its start, and a stop that returns what it says at its end."""
    command = [sys.executable, "-m", "fleet", "serve", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        def stop() -> dict[str, Any]:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
            assert process.returncode == 0
            return {**json.loads(out), "stderr": err}

        try:
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield json.loads(line), stop
        finally:
            process.kill()


def test_serve_over_http_and_mqtt_at_once(repository: Path, broker: Mosquitto) -> None:
    with running(str(repository), "--port", "0", "--mqtt-host", "127.0.0.1", "--mqtt-port", str(broker.port)) as (
        said,
        stop,
    ):
        assert said["schema"] == "edge-fleet/serve/1"
        assert said["mqtt"] == {"host": "127.0.0.1", "port": broker.port, "base_topic": "edge-agent"}
        assert HttpSource(said["url"]).read(MODEL, SIZE) == CONTENT
        source = MqttSource(MqttConfig(port=broker.port), Path(), "cam1-update", "edge-agent/cam1")
        assert source.read(MODEL, SIZE) == CONTENT
        source.close()
        assert stop()["bytes"] == {"http": SIZE, "mqtt": SIZE}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--no-http"], "give --mqtt-host"),
        (["--key", "x"], "give --certificate, too"),
        (["--certificate", "nothing.pem"], "--certificate, --key, --client-ca can't be used"),
        (["--port", "99999"], "can't listen on 127.0.0.1:99999"),
        (["--host", "192.0.2.1"], "can't listen on 192.0.2.1"),
        (["--mqtt-host", "example.org"], "--mqtt-host example.org: not this machine"),
        (["--mqtt-host", "localhost", "--mqtt-key", "x"], "--mqtt-certificate and --mqtt-key go together"),
        (["--mqtt-host", "localhost", "--mqtt-password-file", "x"], "give --mqtt-username"),
        (
            ["--mqtt-host", "localhost", "--mqtt-ca", "nothing"],
            "--mqtt-ca, --mqtt-certificate and --mqtt-key: the cert",
        ),
        (["--mqtt-host", "localhost", "--mqtt-username", "x", "--mqtt-password-file", "nothing"], "can't be read"),
        (["--mqtt-host", "localhost", "--base-topic", "/x"], "--base-topic /x"),
    ],
)
def test_options_that_cant_be(repository: Path, options: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        main([str(repository), "--port", "0", *options])


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (lambda path: TufRepository(path, days=2).folder, "timestamp expires"),
        (lambda path: TufRepository(path, days=-2).folder, "timestamp expired"),
        (served_folder, "warning: "),
    ],
)
def test_what_devices_would_refuse_is_served_with_a_warning(
    tmp_path: Path, folder: Callable[[Path], Path], said: str
) -> None:
    with running(str(folder(tmp_path / "repo")), "--port", "0") as (serving, stop):
        assert HttpSource(serving["url"]).read("metadata/timestamp.json", 10_000)
        assert said in stop()["stderr"]


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edge-fleet init makes one"):
        main([str(tmp_path)])


def test_a_port_in_use(repository: Path, server: RepositoryServer) -> None:
    with pytest.raises(ConfigError, match="in use; choose another"):
        main([str(repository), "--port", str(server.port)])


def test_https_for_devices_with_a_certificate(repository: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    authority.issue("server", "subjectAltName=IP:127.0.0.1")
    authority.issue("device")
    files = [str(authority.folder / name) for name in ("server.pem", "server.key", "ca.pem")]
    options = ["--certificate", files[0], "--key", files[1], "--client-ca", files[2]]
    with running(str(repository), "--port", "0", *options) as (said, _stop):
        tls = TlsConfig(ca="ca.pem", certificate="device.pem", key="device.key")
        assert HttpSource(said["url"], tls=tls, folder=authority.folder).read(MODEL, SIZE) == CONTENT


def test_for_people_it_says_what_to_write_where(repository: Path, broker: Mosquitto) -> None:
    command = [sys.executable, "-m", "fleet", "serve", str(repository), "--port", "0", "--mqtt-host", "127.0.0.1"]
    command += ["--mqtt-port", str(broker.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert lines[0].endswith("in agent.toml of a device, below [update]:\n")
    assert lines[1].startswith('repository = "http://127.0.0.1:')
    assert lines[2].startswith('repository = "mqtt:"')
    assert "0 bytes served over HTTP, 0 over MQTT" in err
    assert process.returncode == 0
