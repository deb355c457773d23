from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from aicore.runtime.headers import read_header

GREY = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)


def written(image: np.ndarray, kind: str, mode: str | None = None, **options) -> bytes:
    picture = Image.fromarray(image)
    stream = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_size_and_channels(kind, mode):
    header = read_header(written((GREY % 256).astype(np.uint8), kind, mode))
    assert (header.width, header.height) == (60, 40)
    assert header.channels == (3 if mode == "RGB" or kind == "WEBP" else 1)
    assert (header.bits, header.values, header.pages, header.has_alpha) == (8, "uint", 1, False)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"P5\n60 40\n255\n", ("pnm", 60, 40, 1, 8)),
        (b"P6 60 # wide\n40\n65535\n", ("pnm", 60, 40, 3, 16)),
        (b"P4\n# a comment\n60 40\n", ("pnm", 60, 40, 1, 8)),
    ],
)
def test_pgm_and_ppm(data, header):
    found = read_header(data)
    assert (found.format, found.width, found.height, found.channels, found.bits) == header


@pytest.mark.parametrize("data", [b"P5\n60", b"P5 60 x 255\n", b"P6\n"])
def test_cut_off_pgm(data):
    assert read_header(data) is None


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("TIFF", {}), ("WEBP", {}), ("WEBP", {"lossless": True})],
)
def test_alpha(kind, options):
    colour = np.dstack([(GREY % 256).astype(np.uint8)] * 4)
    assert read_header(written(colour, kind, **options)).has_alpha


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_depth(kind):
    assert read_header(written(GREY, kind)).bits == 16


def test_progressive_jpg():
    assert read_header(written((GREY % 256).astype(np.uint8), "JPEG", progressive=True)).width == 60


def test_pages_of_a_tiff():
    page = Image.fromarray((GREY % 256).astype(np.uint8))
    data = written(np.asarray(page), "TIFF", save_all=True, append_images=[page, page])
    assert read_header(data).pages == 3


def test_pages_that_point_to_themselves_end():
    data = bytearray(written((GREY % 256).astype(np.uint8), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    following = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    data[following : following + 4] = data[4:8]
    assert read_header(bytes(data)).pages == 2


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_header_that_is_cut_off_anywhere_gives_none_or_the_size(suffix):
    data = cv2.imencode(suffix, (GREY % 256).astype(np.uint8))[1].tobytes()
    for size in range(200):
        header = read_header(data[:size])
        assert header is None or (header.width, header.height) == (60, 40)


def test_other_files_have_no_header():
    assert read_header(b"") is None
    assert read_header(b"part 1: ok\n" * 9) is None
    assert read_header(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40)) is None
