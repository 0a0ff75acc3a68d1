"""Cuts a ``multipart/x-mixed-replace`` stream into its parts. Bytes in, whole parts out; no socket, no clock.

Cheap cameras bend the format: dashes of the delimiter written into the boundary parameter or left out, quotes,
bare line feeds, no Content-Length. All of that is read; how the bytes are split between calls changes nothing.
"""

from __future__ import annotations

import re
from typing import Final

# A part larger than that is no picture of a camera; without a bound a broken stream would fill the memory.
PART_BYTES_MOST: Final = 32 * 2**20
HEADER_BYTES_MOST: Final = 16 * 2**10

_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_CONTENT_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d{1,12})\s*$")
_BOUNDARY = re.compile(r"""(?i);\s*boundary\s*=\s*(?:"([^"]+)"|([^;\s]+))""")


def boundary_of(content_type: str) -> str | None:
    """The boundary that a Content-Type names; None where it is no multipart or names none."""
    found = _BOUNDARY.search(content_type)
    if not found or not content_type.lower().lstrip().startswith("multipart/"):
        return None
    return (found[1] or found[2]).strip("-") or None


class Multipart:
    """``boundary`` without the dashes around it."""

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"--" + boundary.encode("latin-1")
        self._buffer = bytearray()
        self._in_part = False
        self._length: int | None = None  # of the part, where its header said so
        self._searched = 0  # bytes of the buffer that are known to hold no delimiter

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of the parts that ended in ``data``. Raises ValueError when a part grows beyond its bound."""
        self._buffer += data
        bodies = []
        while True:
            if not self._in_part and not self._enter_part():
                break
            body = self._leave_part()
            if body is None:
                break
            bodies.append(body)
        if len(self._buffer) > PART_BYTES_MOST:
            raise ValueError(f"a part of more than {PART_BYTES_MOST >> 20} MiB")
        return bodies

    def _enter_part(self) -> bool:
        """Past the next delimiter and its header."""
        start = self._find_delimiter()
        if start < 0:
            del self._buffer[: self._searched]  # nothing between two parts is of use
            self._searched = 0
            return False
        del self._buffer[:start]
        self._searched = 0
        end = _END_OF_HEADER.search(self._buffer, len(self._delimiter))
        if end is None:
            if len(self._buffer) > HEADER_BYTES_MOST:
                raise ValueError(f"a part's header of more than {HEADER_BYTES_MOST >> 10} KiB")
            return False
        length = _CONTENT_LENGTH.search(self._buffer, 0, end.start())
        self._length = int(length[1]) if length else None
        self._in_part = True
        del self._buffer[: end.end()]
        return True

    def _leave_part(self) -> bytes | None:
        """The body, once all of it is there."""
        if self._length is not None:
            if self._length > PART_BYTES_MOST:
                raise ValueError(f"a part that announces {self._length} bytes")
            if len(self._buffer) < self._length:
                return None
            end = self._length
        else:
            end = self._find_delimiter()
            if end < 0:
                return None
        body = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched = 0
        self._in_part = False
        return body

    def _find_delimiter(self) -> int:
        found = self._buffer.find(self._delimiter, self._searched)
        if found < 0:
            self._searched = max(0, len(self._buffer) - len(self._delimiter) + 1)
        return found
