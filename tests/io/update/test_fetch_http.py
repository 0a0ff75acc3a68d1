"""A repository behind HTTP: a real server, a server that misbehaves in every way, and the disk at the other end."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge_agent.config.schema import TlsConfig
from edge_agent.errors import ConfigError, NotThereError, StorageError, TransportError
from edge_agent.io.fetch.http import HttpSource
from edge_agent.io.fetch.pace import SlowError
from fleet.http_server import RepositoryServer
from tests.simulators.served_folder import CONTENT, MODEL, TIMESTAMP, served_folder
from tests.simulators.waiting import wait_for
from tests.simulators.web_server import Request, WebServer

SIZE = len(CONTENT)


def fetched(source: HttpSource, part: Path, length: int = SIZE) -> bytes:
    source.download(MODEL, part, length, lambda _: None)
    return part.read_bytes()


def partial(request: Request, content: bytes = CONTENT) -> None:
    """A good answer to a request with Range."""
    first = request.first_byte()
    span = f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}"
    request.answer("206 Partial Content", content[first:], span)


# --- a good server -------------------------------------------------------------------------------------------------


def test_files_come_whole_over_one_connection(tmp_path: Path) -> None:
    with RepositoryServer(served_folder(tmp_path / "repo")) as server:
        source = HttpSource(server.url)
        assert source.read("metadata/timestamp.json", 100) == TIMESTAMP
        assert len(source.read("metadata/1.models.json", 100_000)) == 100_000
        sizes: list[int] = []
        source.download(MODEL, tmp_path / "part", SIZE, sizes.append)
        assert (tmp_path / "part").read_bytes() == CONTENT
        assert sizes == [SIZE]
        source.close()


def test_progress_tells_what_is_on_the_disk_each_mib(tmp_path: Path) -> None:
    content = bytes(3 * 2**20 + 5)
    folder = served_folder(tmp_path / "repo")
    (folder / MODEL).write_bytes(content)
    sizes: list[int] = []
    with RepositoryServer(folder) as server:
        HttpSource(server.url).download(MODEL, tmp_path / "part", len(content), sizes.append)
    assert sizes == [2**20, 2 * 2**20, 3 * 2**20, len(content)]


@pytest.mark.parametrize("had", [1, 2**16, SIZE - 1, SIZE])
def test_what_is_there_is_not_fetched_again(tmp_path: Path, had: int) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:had])
    with RepositoryServer(served_folder(tmp_path / "repo")) as server:
        assert fetched(HttpSource(server.url), tmp_path / "part") == CONTENT
        assert server.bytes_sent == SIZE - had


def test_a_part_of_another_longer_file_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(bytes(SIZE + 1))
    with RepositoryServer(served_folder(tmp_path / "repo")) as server:
        assert fetched(HttpSource(server.url), tmp_path / "part") == CONTENT


def test_a_file_that_is_not_there_is_told_from_a_server_that_is_not(tmp_path: Path) -> None:
    with RepositoryServer(served_folder(tmp_path / "repo")) as server:
        source = HttpSource(server.url)
        with pytest.raises(NotThereError):
            source.read("metadata/2.root.json", 100)
        with pytest.raises(NotThereError):
            source.download("targets/other", tmp_path / "part", 5, lambda _: None)
    with pytest.raises(TransportError) as caught:
        source.read("metadata/2.root.json", 100)
    assert not isinstance(caught.value, NotThereError)


@pytest.mark.parametrize("name", ["a b", "100%25", "what?", "a#b", "né", "a+b&c=d", "..a"])
def test_a_name_with_odd_letters_arrives(tmp_path: Path, name: str) -> None:
    folder = served_folder(tmp_path / "repo")
    (folder / "targets" / name).write_text("odd")
    with RepositoryServer(folder) as server:
        assert HttpSource(server.url + "/").read(f"targets/{name}", 3) == b"odd"


def test_a_path_that_is_encoded_already_stays_as_it_is() -> None:
    with WebServer(lambda request: request.answer("200 OK", request.target.encode())) as server:
        assert HttpSource(server.url, encoded=True).read("1.%3F%2F.json", 50) == b"/1.%3F%2F.json"
        assert HttpSource(server.url).read("1.%3F.json", 50) == b"/1.%253F.json"


def test_a_repository_below_a_path_of_the_server(tmp_path: Path) -> None:
    with WebServer(lambda request: request.answer("200 OK", request.target.encode())) as server:
        assert HttpSource(f"{server.url}/a/repo").read("metadata/x", 50) == b"/a/repo/metadata/x"


@pytest.mark.parametrize("path", ["../secret.key", "metadata/../secret.key", "/etc/passwd", "a//b", "", "a\\b", "a\0b"])
def test_a_path_that_leads_out_is_not_even_asked_for(path: str) -> None:
    with WebServer(lambda request: request.answer("200 OK")) as server:
        with pytest.raises(NotThereError):
            HttpSource(server.url).read(path, 10)
        assert server.requests == []


def test_proxies_of_the_environment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with RepositoryServer(served_folder(tmp_path / "repo")) as server:
        assert HttpSource(server.url).read("metadata/timestamp.json", 100) == TIMESTAMP


def test_a_rate_limit_changes_no_byte(tmp_path: Path) -> None:
    with RepositoryServer(served_folder(tmp_path / "repo")) as server:
        assert fetched(HttpSource(server.url, rate=4 * 2**20), tmp_path / "part") == CONTENT


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew() -> None:
    def answer(request: Request) -> None:
        request.answer("200 OK", b"x")
        request.hang_up()

    with WebServer(answer) as server:
        source = HttpSource(server.url)
        assert [source.read("metadata/x", 1) for _ in range(5)] == [b"x"] * 5


# --- lost connections and servers that resume badly ------------------------------------------------------------------


def test_a_connection_that_breaks_again_and_again_is_resumed(tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        first = request.first_byte()
        status = "206 Partial Content" if first else "200 OK"
        span = f"Content-Range: bytes {first}-{SIZE - 1}/{SIZE}"
        request.answer(status, CONTENT[first : first + 80_000], span, length=SIZE - first)
        request.hang_up()

    with WebServer(answer) as server:
        assert fetched(HttpSource(server.url), tmp_path / "part") == CONTENT
        assert len(server.requests) > SIZE // 80_000


def test_what_came_before_a_cut_stays_for_the_next_attempt(tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        if request.number:
            partial(request)
            return
        request.answer("200 OK", CONTENT[:20_000], length=SIZE)
        request.hang_up()

    part, sizes = tmp_path / "part", list[int]()
    with WebServer(answer) as server:
        with pytest.raises(TransportError, match=r"IncompleteRead|broken"):
            HttpSource(server.url).download(MODEL, part, SIZE, sizes.append)
        assert 0 < part.stat().st_size <= 20_000
        assert sizes == [part.stat().st_size]
        assert fetched(HttpSource(server.url), part) == CONTENT
        assert server.requests[-1].first_byte() == sizes[0]


def test_the_whole_file_in_place_of_the_rest_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"of an older file")
    with WebServer(lambda request: request.answer("200 OK", CONTENT)) as server:
        assert fetched(HttpSource(server.url), tmp_path / "part") == CONTENT


@pytest.mark.parametrize(
    ("status", "span"),
    [
        ("206 Partial Content", f"Content-Range: bytes 999-{SIZE - 1}/{SIZE}"),
        ("206 Partial Content", f"Content-Range: bytes 1001-{SIZE - 1}/{SIZE}"),
        ("206 Partial Content", f"Content-Range: bytes 1000-{SIZE}/{SIZE + 1}"),
        ("206 Partial Content", "Content-Range: bytes of all sorts"),
        ("206 Partial Content", "Nothing-Of: the sort"),
        ("416 Range Not Satisfiable", "Content-Range: bytes */7"),
    ],
)
def test_a_server_that_resumes_at_another_place_is_asked_for_the_whole(tmp_path: Path, status: str, span: str) -> None:
    def answer(request: Request) -> None:
        if "range" in request.headers:
            request.answer(status, CONTENT[1000:], span)
        else:
            request.answer("200 OK", CONTENT)

    part = tmp_path / "part"
    part.write_bytes(CONTENT[:1000])
    with WebServer(answer) as server:
        source = HttpSource(server.url)
        with pytest.raises(TransportError, match="does not resume at byte 1000"):
            fetched(source, part)
        assert fetched(source, part) == CONTENT


def test_a_file_that_changed_since_the_cut_is_not_glued_to_the_old_one(tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        if request.number == 0:
            request.answer("200 OK", bytes(100_000), 'ETag: "old"', length=SIZE)
            request.hang_up()
        elif request.headers["if-range"] == '"old"':
            request.answer("200 OK", CONTENT, 'ETag: "new"')

    with WebServer(answer) as server:
        assert fetched(HttpSource(server.url), tmp_path / "part") == CONTENT


# --- servers that mean harm ------------------------------------------------------------------------------------------


def test_another_length_than_was_signed_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    with WebServer(lambda request: request.answer("200 OK", CONTENT)) as server:
        with pytest.raises(TransportError, match=f"has {SIZE} bytes on the server; 1000 were signed"):
            fetched(HttpSource(server.url), tmp_path / "part", 1000)
        assert (tmp_path / "part").read_bytes() == b""


def test_more_bytes_than_were_signed_are_not_written(tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        request.for_ever(b"1000\r\n" + bytes(0x1000) + b"\r\n")

    with WebServer(answer) as server:
        with pytest.raises(TransportError, match="more than the 100000 bytes"):
            fetched(HttpSource(server.url), tmp_path / "part", 100_000)
        assert (tmp_path / "part").stat().st_size == 100_000


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
    "chunks": (CHUNKED, b"10\r\n0123456789abcdef\r\n"),
    "mark of a chunk": (CHUNKED, b"0" * 4096),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n" * 99),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 99),
    "header line": (b"HTTP/1.1 200 OK\r\na: ", b"x" * 4096),
    "status line": (b"HTTP/1.1 200 ", b"x" * 4096),
    "100 continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "garbage": (b"", b"\0\1\2\3" * 1024),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_data_is_given_up(kind: str) -> None:
    begin, more = ENDLESS[kind]

    def answer(request: Request) -> None:
        request.send(begin)
        request.for_ever(more)

    with WebServer(answer) as server, pytest.raises(TransportError):
        HttpSource(server.url).read("metadata/timestamp.json", 10_000)


def test_a_file_larger_than_is_taken_is_refused_by_what_its_head_says() -> None:
    def answer(request: Request) -> None:
        request.answer("200 OK", b"x", length=10**12)

    with WebServer(answer) as server, pytest.raises(TransportError, match="larger than the 10000 bytes"):
        HttpSource(server.url).read("metadata/timestamp.json", 10_000)


SLOW: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "headers": (b"", b"H"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_slow_retrieval_is_given_up_and_told_apart(tmp_path: Path, kind: str) -> None:
    begin, more = SLOW[kind]

    def answer(request: Request) -> None:
        request.send(begin)
        request.for_ever(more, 0.02)

    with WebServer(answer) as server:
        source = HttpSource(server.url, silence_s=0.3)
        with pytest.raises(SlowError):
            source.read("metadata/timestamp.json", 5000)
        with pytest.raises(SlowError):
            fetched(source, tmp_path / "part", 5000)


def test_redirections_within_the_server_are_followed() -> None:
    def answer(request: Request) -> None:
        if request.target == "/there/x?a=b":
            request.answer("200 OK", b"found")
        else:
            request.answer("302 Found", b"", "Location: /there/x?a=b")

    with WebServer(answer) as server:
        assert HttpSource(server.url).read("metadata/x", 10) == b"found"


@pytest.mark.parametrize("there", ["http://127.0.0.1:1/x", "https://127.0.0.1/x", "file:///etc/passwd", "//else/x"])
def test_redirections_to_elsewhere_are_refused(there: str) -> None:
    with WebServer(lambda request: request.answer("301 Moved", b"", f"Location: {there}")) as server:
        with pytest.raises(TransportError, match="no other server is used"):
            HttpSource(server.url).read("metadata/x", 10)
        assert len(server.requests) == 1


def test_redirections_in_a_circle_end() -> None:
    with WebServer(lambda request: request.answer("301 Moved", b"", "Location: /metadata/x")) as server:
        with pytest.raises(TransportError, match="redirections"):
            HttpSource(server.url).read("metadata/x", 10)
        assert len(server.requests) == 4


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "410 Gone"])
def test_what_object_stores_say_of_a_file_that_is_not_there(status: str) -> None:
    with WebServer(lambda request: request.answer(status, b"<Error>")) as server, pytest.raises(NotThereError):
        HttpSource(server.url).read("metadata/x", 10)


@pytest.mark.parametrize("status", ["500 Oops", "503 Busy", "204 No Content", "206 Partial Content", "999 What"])
def test_other_statuses_are_trouble_with_the_server(tmp_path: Path, status: str) -> None:
    with WebServer(lambda request: request.answer(status)) as server:
        with pytest.raises(TransportError, match=status.partition(" ")[0]):
            HttpSource(server.url).read("metadata/x", 10)
        with pytest.raises(TransportError, match=status.partition(" ")[0]):
            fetched(HttpSource(server.url), tmp_path / "part")


def test_a_compressed_answer_is_not_unpacked() -> None:
    def bomb(request: Request) -> None:
        request.answer("200 OK", b"\x1f\x8b", "Content-Encoding: gzip")

    with WebServer(bomb) as server, pytest.raises(TransportError, match="compressed"):
        HttpSource(server.url).read("metadata/x", 10)


# --- stop, disk, configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_stop_ends_the_call_under_way_and_all_later_ones(tmp_path: Path, begin: bytes) -> None:
    def answer(request: Request) -> None:
        request.send(begin)
        request.nothing()

    errors: list[Exception] = []

    def call() -> None:
        try:
            fetched(source, tmp_path / "part", 9)
        except TransportError as error:
            errors.append(error)

    with WebServer(answer) as server:
        source = HttpSource(server.url)
        thread = threading.Thread(target=call)
        thread.start()
        wait_for(lambda: server.requests, "a request")
        source.stop()
        thread.join(10)
        assert [str(error) for error in errors] == ["stopped"]
        for _ in range(2):
            with pytest.raises(TransportError, match="stopped"):
                source.read("metadata/x", 10)
        assert len(server.requests) == 1


def test_a_full_disk_is_said_as_such(tmp_path: Path) -> None:
    with RepositoryServer(served_folder(tmp_path / "repo")) as server:
        with pytest.raises(StorageError, match="No space left") as caught:
            fetched(HttpSource(server.url), Path("/dev/full"))
        assert isinstance(caught.value.__cause__, OSError)


def test_a_folder_that_is_not_there_is_trouble_with_the_disk(tmp_path: Path) -> None:
    with (
        RepositoryServer(served_folder(tmp_path / "repo")) as server,
        pytest.raises(StorageError, match="No such file"),
    ):
        fetched(HttpSource(server.url), tmp_path / "parts" / "x.part")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://", "expected http"),
        ("ftp://host/x", "expected http"),
        ("http://host:notaport/x", "expected http"),
        ("http://host/x?query=1", "expected http"),
        ("https://user:secret@host/x", "no user and password"),
    ],
)
def test_addresses_that_are_none(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        HttpSource(url)
    assert "secret" not in str(caught.value)


def test_a_host_that_has_no_address() -> None:
    with pytest.raises(TransportError, match=r"nobody\.invalid"):
        HttpSource("http://nobody.invalid").read("metadata/x", 10)


def test_tls_settings_without_tls_are_refused() -> None:
    with pytest.raises(ConfigError, match="write https"):
        HttpSource("http://host/x", tls=TlsConfig(ca="ca.pem"))


def test_nobody_listens(tmp_path: Path) -> None:
    with RepositoryServer(served_folder(tmp_path / "repo")) as server:
        url = server.url
    assert urlsplit(url).port
    with pytest.raises(TransportError, match="refused"):
        HttpSource(url).read("metadata/timestamp.json", 100)
