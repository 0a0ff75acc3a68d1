"""One picture file, of whatever kind, as BGR pixels."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from edge_agent.errors import ConfigError
from edge_agent.io.image_file import read_image

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


@pytest.mark.parametrize("suffix", ["bmp", "png", "ppm", "tif"])
def test_a_picture_is_read_as_bgr(tmp_path, suffix):
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}")
    pixels = read_image(tmp_path / f"a.{suffix}")
    assert pixels.dtype == np.uint8
    assert (pixels == RGB[:, :, ::-1]).all()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(GREY.astype(np.uint16) << 8 | 77), GREY),
        (Image.fromarray(GREY).convert("LA"), GREY),
        (Image.fromarray(GREY).convert("RGBA"), GREY),
        (Image.fromarray(GREY).convert("P"), GREY),
        (Image.fromarray(GREY > 100), np.where(GREY > 100, 255, 0)),
    ],
    ids=["grey", "16 bits", "grey with alpha", "alpha", "palette", "1 bit"],
)
def test_every_kind_of_pixel_becomes_bgr_of_eight_bits(tmp_path, image, expected):
    image.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert (pixels.shape, pixels.dtype) == ((4, 6, 3), np.uint8)
    assert (pixels == expected[:, :, None]).all()


def test_printer_colours_become_bgr(tmp_path):
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg", quality=100)
    blue, green, red = read_image(tmp_path / "cyan.jpg").mean(axis=(0, 1))
    assert blue > 240
    assert green > 240
    assert red < 15


def test_a_picture_is_turned_upright_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert (read_image(tmp_path / "a.png") == np.rot90(RGB[:, :, ::-1], -1)).all()


def test_a_picture_of_one_pixel_is_a_picture(tmp_path):
    Image.new("L", (1, 1), 9).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[9, 9, 9]]]


def test_a_picture_beyond_the_bound_is_refused_by_its_header(tmp_path):
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 20_000, 20_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(header)
    with pytest.raises(ConfigError, match=r"a\.bmp: 20000 x 20000 pixels; at most 64 million"):
        read_image(tmp_path / "a.bmp")


@pytest.mark.parametrize("suffix", ["bmp", "jpg", "png", "tif"])
def test_a_picture_that_ends_early_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=rf"a\.{suffix}: "):
        read_image(tmp_path / f"a.{suffix}")


def test_what_is_no_picture_is_refused_with_the_reason(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("a text")
    (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for path, reason in {
        tmp_path / "absent.png": "no such file",
        tmp_path / "text.png" / "below.png": "can't be read: ",
        tmp_path: "a folder; name one picture",
        tmp_path / "empty.png": "the file is empty",
        tmp_path / "text.png": "not a picture; readable are BMP",
        tmp_path / "page.eps": "not a picture",
    }.items():
        with pytest.raises(ConfigError) as refused:
            read_image(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert reason in str(refused.value)
