"""Reads one picture file as BGR pixels. Its size is known and within bounds before a pixel is decoded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, Final

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edge_agent.errors import ConfigError
from edge_agent.limits import IMAGE_PIXELS_MOST
from edge_agent.records import Pixels

# Of all that Pillow can open only these: some others start programs (EPS starts Ghostscript).
FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Pillow's own bound would speak first and name no size; ours is lower and checked for every picture.
Image.MAX_IMAGE_PIXELS = None


def read_image(path: Path) -> Pixels:
    """(height, width, 3) uint8 BGR, turned upright as its EXIF says; grey, alpha, palette, CMYK and 16-bit pictures
    become that too (alpha is dropped, 16 bits lose the lower eight).

    Raises ConfigError that names the file and what is wrong with it.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; name one picture in it")
    try:
        if path.stat().st_size == 0:
            raise ConfigError(f"{path}: the file is empty")
        with path.open("rb") as stream:
            return _decoded(stream, str(path))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: the picture can't be read: {error}") from error


def decode_image(content: bytes, what: str) -> Pixels:
    """The same of a picture that is in memory; ``what`` names it in messages. Raises ConfigError."""
    if not content:
        raise ConfigError(f"{what}: it is empty")
    return _decoded(io.BytesIO(content), what)


def _decoded(stream: BinaryIO, what: str) -> Pixels:
    try:
        with Image.open(stream, formats=FORMATS) as image:
            check_size(image.size, what)
            return _as_bgr(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ConfigError(f"{what}: not a picture; readable are {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # what Pillow raises for damaged files; SyntaxError for a broken PNG chunk
        raise ConfigError(f"{what}: the picture can't be read: {error}") from error


def check_size(size: tuple[int, int], what: str) -> None:
    """Raises ConfigError when (width, height) is more than this program decodes."""
    width, height = size
    if width * height > IMAGE_PIXELS_MOST:
        raise ConfigError(
            f"{what}: {width} x {height} pixels; at most {IMAGE_PIXELS_MOST // 10**6} million are decoded; "
            "scale it down"
        )


def _as_bgr(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow's own conversion would cut every value above 255 to white
        grey = np.clip(np.asarray(image), 0, 65535)
        return np.asarray(cv2.cvtColor((grey >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)
    if image.mode == "F":
        raise ValueError("floating-point pixels; 8 or 16 bits are readable")
    return np.asarray(cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR), np.uint8)
