"""Pictures inside the page: data URIs, so that the file needs nothing beside it."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from edge_agent.records import Array, Pixels

SIDE_MOST = 320  # pixels: a sample is shown small
LOSSLESS_MOST = 128  # a small picture is shown pixel for pixel: JPEG would blur what the model saw
JPEG_QUALITY = 85


def picture_uri(pixels: Pixels) -> str:
    """(height, width, 3) uint8 BGR as a data URI, at most 320 pixels wide or high."""
    height, width = pixels.shape[:2]
    factor = SIDE_MOST / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    if max(height, width) <= LOSSLESS_MOST:
        return _uri("png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return _uri("jpeg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def heat_uri(shares: Array, colour: tuple[int, int, int]) -> str:
    """(n, n) of 0..1 as one pixel each: ``colour`` (red, green, blue), the stronger the more opaque."""
    picture = np.empty((*shares.shape, 4), np.uint8)
    picture[..., :3] = colour[::-1]
    picture[..., 3] = np.round(255 * np.sqrt(np.clip(shares, 0.0, 1.0)))  # the root: single rows stay visible
    return _uri("png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _uri(form: str, pixels: Array, parameters: list[int]) -> str:
    written, octets = cv2.imencode(f".{form}", pixels, parameters)
    if not written:
        raise ValueError(f"a picture of shape {pixels.shape} can't be written as {form}")
    return f"data:image/{form};base64,{base64.b64encode(octets.tobytes()).decode()}"
