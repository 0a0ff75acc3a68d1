"""The small server for readers on this machine: what it answers, and that nobody can hold it up."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from edge_agent.io import http_port
from edge_agent.io.http_port import Answer, HttpPort
from tests.simulators.waiting import wait_for


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that a thread serves."""
    answers = {
        "/good": lambda: Answer(HTTPStatus.OK, "text/plain", b"hello\n"),
        "/ill": lambda: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"no\n"),
        "/broken": lambda: Answer(HTTPStatus.OK, "text/plain", str(1 // 0).encode()),
    }
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            server.serve(0.02)

    with HttpPort("127.0.0.1", 0, answers) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.port
        stopping.set()
        thread.join()


def ask(port: int, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_paths_are_answered_with_their_status(port: int) -> None:
    assert ask(port, "GET", "/good") == (200, b"hello\n")
    assert ask(port, "GET", "/good?x=1") == (200, b"hello\n")
    assert ask(port, "GET", "/ill") == (503, b"no\n")
    assert ask(port, "HEAD", "/good") == (200, b"")


def test_an_unknown_path_says_what_there_is(port: int) -> None:
    assert ask(port, "GET", "/../etc/passwd") == (404, b"there are: /good /ill /broken\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "NONSENSE"])
def test_nothing_but_reading_is_possible(port: int, method: str) -> None:
    assert ask(port, method, "/good")[0] == 501


def test_an_answer_that_fails_ends_its_own_connection_alone_and_is_told(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        ask(port, "GET", "/broken")
    wait_for(lambda: "no answer to 127.0.0.1: integer division" in caplog.text, "what went wrong in the log")
    assert ask(port, "GET", "/good")[0] == 200


def test_rubbish_is_refused(port: int) -> None:
    for rubbish in (b"\x16\x03\x01\x02\x00\x01", b"GET " + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"\n\n\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(rubbish)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    assert ask(port, "GET", "/good")[0] == 200


def test_clients_that_never_ask_are_hung_up_on_and_keep_nobody_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_port, "CONNECTION_S", 0.3)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(2 * http_port.CONNECTIONS_MOST)]
    try:
        for client in silent:
            assert client.recv(1) == b""  # hung up on: at once, or after its time
        assert wait_for(lambda: ask(port, "GET", "/good")[0] == 200, "an answer")
    finally:
        for client in silent:
            client.close()


def test_a_port_that_is_taken_is_an_error() -> None:
    with HttpPort("127.0.0.1", 0, {}) as first, pytest.raises(OSError, match="in use"):
        HttpPort("127.0.0.1", first.port, {})
