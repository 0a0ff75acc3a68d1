"""Pictures that carry a number, so that a reader can tell which frame it got and how old it is.

The number is a row of 32 black or white blocks, most significant bit first, over the whole height: it survives
JPEG, H.264 and scaling. Plain bytes only: the RTSP simulator runs under an interpreter without numpy.
"""

from __future__ import annotations

from typing import Any

BITS = 32


def grey_bytes(number: int, width: int, height: int) -> bytes:
    """``width * height`` bytes, one per pixel. ``width`` must be a multiple of 32."""
    block = width // BITS
    bits = ((number >> shift) & 1 for shift in range(BITS - 1, -1, -1))
    row = b"".join((b"\xeb" if bit else b"\x10") * block for bit in bits)
    return row * height


def number_in(pixels: Any) -> int:
    """The number in an array of (height, width, 3) or (height, width)."""
    height, width = pixels.shape[:2]
    middle_row = pixels[height // 2]
    number = 0
    for place in range(BITS):
        pixel = middle_row[int((place + 0.5) * width / BITS)]
        number = number << 1 | int(pixel.mean() > 127)
    return number
