"""A repository behind HTTP or HTTPS: any static web server."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, ProtocolError
from urllib3.exceptions import SSLError as TlsError
from urllib3.exceptions import TimeoutError as TooLongError
from urllib3.response import BaseHTTPResponse

from edge_agent import __version__, limits
from edge_agent.config.schema import TlsConfig
from edge_agent.errors import ConfigError, NotThereError, TooLargeError, TransportError
from edge_agent.io.fetch.http_line import Line, PlainConnection, SecureConnection
from edge_agent.io.fetch.pace import Pace, SlowError
from edge_agent.io.fetch.part import PartFile
from edge_agent.io.fetch.paths import inside

CONNECT_TIMEOUT_S: Final = 10.0  # for TCP and for the TLS handshake
BLOCK_BYTES: Final = 2**14  # what a lost connection costs at most, of what had come
RESUME_LEAST_BYTES: Final = 2**16  # a lost connection that brought so much is resumed at once
REDIRECTS_MOST: Final = 3

_HEADERS: Final = {"User-Agent": f"edge-agent/{__version__}", "Accept-Encoding": "identity"}
_AS_IT_IS: Final[dict[str, Any]] = {"retries": False, "redirect": False, "preload_content": False}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Object stores answer 403 for what is not there to those who may not list it.
_NOT_THERE: Final = frozenset({403, 404, 410})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")


class HttpSource:
    """Implements ``ports.Source``. Proxies of the environment are not used; redirections only within the server."""

    def __init__(
        self,
        url: str,
        *,
        tls: TlsConfig | None = None,
        folder: Path = Path(),
        rate: int = 0,
        silence_s: float = limits.TRANSFER_SILENCE_S,
        encoded: bool = False,
    ) -> None:
        """``url``: of the repository; files of ``tls`` are meant from ``folder``; ``rate``: bytes a second of a
        download at most, 0 for any; ``encoded``: paths are percent-encoded already. Raises ConfigError."""
        self._safe = "/%" if encoded else "/"
        self._url = url.rstrip("/") + "/"
        self._read_line = Line(Pace(silence_s=silence_s))
        self._download_line = Line(Pace(rate, silence_s=silence_s))
        self._pools = {line: _pool(self._url, tls, folder, line) for line in (self._read_line, self._download_line)}
        self._tag: tuple[str, str] | None = None  # path and entity tag of the last download

    def read(self, path: str, most: int) -> bytes:
        with self._get(path, {}, self._read_line, most) as answer:
            _good(path, answer)
            data = bytearray()
            blocks = answer.stream(BLOCK_BYTES, decode_content=False)
            while max(len(data), _content_length(answer) or 0) <= most:
                block = next(blocks, None)
                if block is None:
                    return bytes(data)
                data += block
            raise TooLargeError(f"{path} is larger than the {most} bytes that are taken")

    def download(self, path: str, part: Path, length: int, progress: Callable[[int], None]) -> None:
        with PartFile(part, length, progress) as grown:
            while not grown.whole:
                before = grown.size
                try:
                    self._append(path, grown, length)
                except (SlowError, NotThereError):
                    raise
                except TransportError:
                    if self._download_line.stopped or grown.whole or grown.size - before < RESUME_LEAST_BYTES:
                        raise

    def stop(self) -> None:
        for line in self._pools:
            line.stop()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _append(self, path: str, part: PartFile, length: int) -> None:
        headers = {}
        if part.size:
            headers["Range"] = f"bytes={part.size}-"
            if self._tag is not None and self._tag[0] == path:
                headers["If-Range"] = self._tag[1]
        with self._get(path, headers, self._download_line, length) as answer:
            self._place(path, answer, part, length)
            tag = answer.headers.get("ETag", "")
            self._tag = (path, tag) if tag.startswith('"') else None  # a weak one names no bytes
            for block in answer.stream(BLOCK_BYTES, decode_content=False):
                part.write(block)
            if not part.whole:
                raise TransportError(f"{path} ended after {part.size} of {length} bytes")

    @staticmethod
    def _place(path: str, answer: BaseHTTPResponse, part: PartFile, length: int) -> None:
        """See that the bytes to come belong at the part's end, or begin it anew. Raises TransportError."""
        if part.size and answer.status in (206, 416):
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if answer.status == 206 and found and int(found[1]) == part.size and found[3] in ("*", str(length)):
                return
            # The next attempt takes the whole file: one that resumes would meet the same answer for ever.
            place = part.size
            part.restart()
            raise TransportError(f"{path}: the server does not resume at byte {place} of {length} as it should")
        _good(path, answer)
        size = _content_length(answer)
        if size not in (None, length):
            raise TransportError(f"{path} has {size} bytes on the server; {length} were signed")
        if part.size:  # the server does not resume, or the file is another one now
            part.restart()

    @contextlib.contextmanager
    def _get(self, path: str, headers: Mapping[str, str], line: Line, most: int) -> Iterator[BaseHTTPResponse]:
        """The answer that is no redirection; whatever goes wrong with it is a TransportError."""
        url = self._url + quote("/".join(inside(path)), safe=self._safe)
        answer = None
        try:
            for _ in range(REDIRECTS_MOST + 1):
                answer = self._ask(url, headers, line, most)
                if answer.status not in _REDIRECTS:
                    break
                url = self._redirected(url, answer)
                answer.close()
            else:
                raise TransportError(f"{url}: more than {REDIRECTS_MOST} redirections")
            yield answer
        except (HTTPError, OSError, ValueError) as error:
            if line.stopped:
                raise TransportError("stopped") from None
            raise _explained(self._url, error) from error
        finally:
            if answer is not None:
                # A connection whose answer was not read to its end can't be used again
                answer.close() if getattr(answer, "length_remaining", None) != 0 else answer.release_conn()

    def _ask(self, url: str, headers: Mapping[str, str], line: Line, most: int) -> BaseHTTPResponse:
        line.begin(most)
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            return self._pools[line].urlopen("GET", target, headers={**_HEADERS, **headers}, **_AS_IT_IS)
        except ProtocolError:  # kept open since the last request, and closed by the server just now
            return self._pools[line].urlopen("GET", target, headers={**_HEADERS, **headers}, **_AS_IT_IS)

    def _redirected(self, url: str, answer: BaseHTTPResponse) -> str:
        there = urljoin(url, answer.headers.get("Location", ""))
        if urlsplit(there)[:2] != urlsplit(self._url)[:2]:
            raise TransportError(
                f"{self._url} sends us to {there[:200]!r}: no other server is used; name it as [update] repository"
            )
        return there


def _pool(url: str, tls: TlsConfig | None, folder: Path, line: Line) -> urllib3.HTTPConnectionPool:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ConfigError(f"[update] repository = {url!r}: expected http(s)://HOST[:PORT][/PATH]")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("[update] repository: no user and password in the address; use [update.tls] certificate, key")
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=line.pace.silence_s)
    if parts.scheme == "http":
        if tls is not None:
            raise ConfigError(f"[update.tls] does not go with repository = {url!r}: write https://")
        pool = urllib3.HTTPConnectionPool(host, port, timeout=timeout, maxsize=1, line=line)
        pool.ConnectionCls = PlainConnection
        return pool
    secure = urllib3.HTTPSConnectionPool(
        host, port, timeout=timeout, maxsize=1, ssl_context=_context(tls or TlsConfig(), folder), line=line
    )
    secure.ConnectionCls = SecureConnection
    return secure


def _context(tls: TlsConfig, folder: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(folder / tls.ca) if tls.ca else None)
        if tls.certificate is not None:
            key = str(folder / tls.key) if tls.key else None
            context.load_cert_chain(str(folder / tls.certificate), key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"[update.tls]: the certificates can't be used: {error}; check ca, certificate and key"
        ) from None
    return context


def _good(path: str, answer: BaseHTTPResponse) -> None:
    """Raises NotThereError, TransportError."""
    if answer.status in _NOT_THERE:
        raise NotThereError(f"{path} is not there (HTTP status {answer.status})")
    if answer.status != 200:
        raise TransportError(f"{path}: HTTP status {answer.status} {answer.reason or ''}".rstrip())
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise TransportError(f"{path} comes compressed, though that was not asked for; turn it off at the server")


def _content_length(answer: BaseHTTPResponse) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"\d{1,15}", text) else None


def _explained(url: str, error: Exception) -> TransportError:
    """In one line."""
    cause = error.args[0] if isinstance(error, TlsError) and error.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = (
            f"its certificate can't be verified ({cause.verify_message}); check [update.tls] ca and this device's clock"
        )
        return TransportError(f"{url}: {why}")
    if isinstance(error, TooLongError) and not isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return SlowError(f"{url}: too slow, or silent; it is tried again later")
    if isinstance(error, NameResolutionError):
        return TransportError(f"{url}: no address for this name; check [update] repository and the DNS")
    return TransportError(f"{url} can't be read: {cause}")
