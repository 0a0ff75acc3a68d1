"""Network cameras that send JPEG after JPEG over HTTP (MJPEG).

Not through OpenCV's FFmpeg, which was measured against this reader: it bounds stalls as well, but hands out half of a
frame as a whole one, ends on a frame that is no JPEG, scales a changed size back to the first without a word, does
not check certificates, and decodes every frame that is only grabbed. Here decoding is paid for in retrieve().
"""

from __future__ import annotations

import hashlib
import http.client
import io
import select
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import ConfigError, DeviceError, FrameError
from edge_agent.io.cameras._bounded_http import ANSWER_BYTES_MOST, Allowance, BoundedHttpHandler, BoundedHttpsHandler
from edge_agent.io.cameras._multipart import Multipart, boundary_of
from edge_agent.io.cameras._network import split_address
from edge_agent.io.cameras._opencv import as_bgr
from edge_agent.io.cameras.registry import label
from edge_agent.io.image_file import check_size
from edge_agent.ports import Clock
from edge_agent.records import Grab, Pixels

READ_BYTES: Final = 256 * 2**10

# Reads without waiting for one grab: together more than a kernel's largest receive buffer (6 MiB).
DRAIN_READS_MOST: Final = 64

_START_OF_SCAN: Final = b"\xff\xda"
_END_OF_IMAGE: Final = b"\xff\xd9"


class HttpMjpegCamera:
    """``http://`` and ``https://`` with Basic or Digest authentication; redirections are followed, proxies not used.

    Opening, with all its steps, and each whole frame take the camera's time-out at most, however slowly bytes come.
    """

    live = True

    def __init__(self, config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> None:
        self._config = config
        self._clock = clock
        self._label = label(config)
        self._address, self._credentials = split_address(config, folder)
        self._response: http.client.HTTPResponse | None = None
        self._allowance = Allowance(clock)
        self._parts = Multipart("")
        self._newest = b""
        self._waiting: list[tuple[bytes, int]] = []  # whole parts and when they were
        self._ended = False

    def open(self) -> None:
        """Raises DeviceError when the camera is not reached, refuses, or sends no MJPEG."""
        self.close()
        self._allowance.begin(self._config.timeout, ANSWER_BYTES_MOST)
        response = self._request()
        content_type = response.headers.get("Content-Type", "nothing")
        boundary = boundary_of(content_type)
        if boundary is None:
            response.close()
            raise DeviceError(f"{self._label}: sends {content_type[:80]!r}, not MJPEG; look for its stream's address")
        self._response = response
        self._parts = Multipart(boundary)
        self._waiting = []
        self._ended = False

    def grab(self) -> Grab | None:
        """The newest whole part that has arrived; with ``drop = "none"`` the next one. Raises DeviceError."""
        self._allowance.begin(self._config.timeout)
        while not self._waiting:
            if self._ended:
                raise DeviceError(f"{self._label}: the camera ended the connection")
            self._receive()
        skipped = self._drain() if self._config.drop != "none" else 0
        self._newest, arrival_ns = self._waiting.pop(0)
        return Grab(arrival_ns, arrival_ns, "arrival", skipped)

    def retrieve(self) -> Pixels:
        """(height, width, 3) uint8 BGR. Raises FrameError for what is no JPEG, half of one, or too large."""
        return decode_jpeg(self._newest, self._label)

    def close(self) -> None:
        """By the thread that reads."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _drain(self) -> int:
        """Keep the last of all parts that are here already: the earlier ones waited for a slow reader. Returns how many
        those were."""
        skipped = 0
        for _ in range(DRAIN_READS_MOST):
            if self._ended or self._response is None or not select.select([self._response], [], [], 0)[0]:
                break
            self._receive()
            skipped += len(self._waiting) - 1
            del self._waiting[:-1]
        skipped += len(self._waiting) - 1
        del self._waiting[:-1]
        return skipped

    def _receive(self) -> None:
        """Keep the parts completed by one read, which waits for at least one byte."""
        if self._response is None:
            raise DeviceError(f"{self._label}: is not open")
        try:
            data = self._response.read1(READ_BYTES)
            parts = self._parts.feed(data)
        except TimeoutError as error:
            raise self._silent() from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DeviceError(f"{self._label}: the connection broke: {error}") from error
        self._ended = not data
        arrival_ns = self._clock.monotonic_ns()
        self._waiting += [(part, arrival_ns) for part in parts]

    def _silent(self) -> DeviceError:
        return DeviceError(f"{self._label}: no frame within {self._config.timeout.seconds:g} s")

    def _request(self) -> http.client.HTTPResponse:
        try:
            response = _opener(self._address, self._credentials, self._allowance).open(self._address)
        except urllib.error.HTTPError as error:
            error.close()
            # in the standard's words: the camera's own may have several lines, or quote an address
            words = http.client.responses.get(error.code, "an unknown status")
            raise DeviceError(f"{self._label}: answers {error.code} {words}; {self._advice(error.code)}") from None
        except urllib.error.URLError as error:
            raise DeviceError(f"{self._label}: {_reason(error.reason)}") from None
        except OSError as error:
            raise DeviceError(f"{self._label}: {_reason(error)}") from None
        except http.client.HTTPException:  # its text may quote the address
            raise DeviceError(f"{self._label}: does not answer as an HTTP camera; check the address and port") from None
        except ValueError:  # its text may quote the credentials
            raise DeviceError(
                f"{self._label}: asks for an authentication that is neither Basic nor Digest, or the name of its host "
                "is none; check the camera's settings and the address"
            ) from None
        if not isinstance(response, http.client.HTTPResponse):
            raise DeviceError(f"{self._label}: does not answer as an HTTP camera; check the address and port")
        return response

    def _advice(self, code: int) -> str:
        if code >= http.client.INTERNAL_SERVER_ERROR:
            return "the camera itself failed: start it anew if that lasts"
        if code not in (401, 403):
            return "check the path of the address"
        if self._credentials is None:
            return "it asks for a user: write username and password_file"
        return "check username and the content of password_file"


def decode_jpeg(jpeg: bytes, what: str) -> Pixels:
    """Raises FrameError. A JPEG without its end is refused: libraries fill what is missing with grey."""
    if not 0 < jpeg.rfind(_START_OF_SCAN) < jpeg.rfind(_END_OF_IMAGE):
        raise FrameError(f"{what}: a frame of {len(jpeg)} bytes is no whole JPEG")
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as header:
            check_size(header.size, what)
    except ConfigError as error:
        raise FrameError(str(error)) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(f"{what}: a frame of {len(jpeg)} bytes has no JPEG header") from error
    try:
        pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # for one, no memory for so large a picture
        pixels = None
    if pixels is None:
        raise FrameError(f"{what}: a frame of {len(jpeg)} bytes can't be decoded")
    return as_bgr(pixels)


def _opener(address: str, credentials: tuple[str, str] | None, allowance: Allowance) -> urllib.request.OpenerDirector:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if credentials is not None:
        passwords.add_password(None, address, *credentials)
    opener = urllib.request.OpenerDirector()
    handlers: tuple[urllib.request.BaseHandler, ...] = (
        BoundedHttpHandler(allowance),
        BoundedHttpsHandler(allowance),
        urllib.request.HTTPRedirectHandler(),
        _DigestAuthHandler(passwords),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _DigestAuthHandler(urllib.request.HTTPDigestAuthHandler):
    """With SHA-256 and passwords beyond ASCII, which Python's own lacks before 3.14 (RFC 7616)."""

    HASHES: Final = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}

    def get_algorithm_impls(self, algorithm: str) -> tuple[Callable[[str], str], Callable[[str, str], str]]:
        """The hash and the keyed hash of that name. Raises ValueError for an unknown one."""
        if algorithm not in self.HASHES:
            raise ValueError(algorithm)

        def digest(text: str) -> str:
            return self.HASHES[algorithm](text.encode()).hexdigest()

        return digest, lambda secret, data: digest(f"{secret}:{data}")


def _reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}); add the camera's authority to the system's "
            "certificates (update-ca-certificates)"
        )
    if isinstance(error, TimeoutError):
        return "did not answer within the time-out; check the address and the network"
    if isinstance(error, socket.gaierror):
        return "its host name is not known; check the address"
    if isinstance(error, OSError):
        return (
            f"can't be reached ({error.strerror or type(error).__name__}); check the address, the port and the network"
        )
    return "can't be reached; check the address and the network"
