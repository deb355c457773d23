"""Damage inside a file, which OpenCV's decoders pass over."""

from __future__ import annotations

import importlib.util
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from aicore.errors import ImageError
from aicore.runtime.damage import find_damage
from aicore.runtime.headers import read_header
from aicore.runtime.images import read_image

needs_simplejpeg = pytest.mark.skipif(
    importlib.util.find_spec("simplejpeg") is None,
    reason="simplejpeg, which heeds libjpeg's warnings, is not installed",
)
NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
PART = cv2.GaussianBlur(NOISE, (0, 0), 3)


def pillow(image: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def opencv(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def lzw(image: np.ndarray, **options) -> bytes:
    return pillow(image, "TIFF", compression="tiff_lzw", **options)


STRIP_ROWS, PREDICTOR = 278, 317  # tags of TIFF
FILES = {
    "jpg": opencv(".jpg", PART),
    "jpg grey": opencv(".jpg", PART[..., 0]),
    "jpg progressive": opencv(".jpg", PART, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpg restarts": opencv(".jpg", PART, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "jpg optimised": pillow(PART, "JPEG", optimize=True),
    "png": opencv(".png", PART),
    "png 16": opencv(".png", PART.astype(np.uint16) * 257),
    "tif lzw": lzw(PART),
    "tif lzw predictor": opencv(".tif", PART),
    "tif lzw strips": lzw(PART, tiffinfo={STRIP_ROWS: 7}),
    "tif lzw 16": opencv(".tif", PART.astype(np.uint16) * 257),
    "tif deflate": pillow(PART, "TIFF", compression="tiff_adobe_deflate"),
    "tif deflate strips": pillow(
        PART, "TIFF", compression="tiff_adobe_deflate", tiffinfo={STRIP_ROWS: 7}
    ),
}
SOUND = {
    "flat": np.full((700, 900, 3), 200, np.uint8),  # LZW: strings as long as they become
    "noise": NOISE,
    "small": PART[:1, :1],
    "bits": PART[..., 0] > 128,
}


def with_mark(name: str):
    return pytest.param(name, marks=needs_simplejpeg) if name.startswith("jpg") else name


def middle(data: bytes) -> tuple[int, int]:
    return len(data) // 2, len(data) // 2 + max(64, len(data) // 20)


def zeros(data: bytes) -> bytes:
    start, stop = middle(data)
    return data[:start] + bytes(stop - start) + data[stop:]


def noise(data: bytes) -> bytes:
    start, stop = middle(data)
    return data[:start] + np.random.default_rng(1).bytes(stop - start) + data[stop:]


def missing(data: bytes) -> bytes:
    start, stop = middle(data)
    return data[:start] + data[stop:]


@pytest.mark.parametrize("damage", [zeros, noise, missing])
@pytest.mark.parametrize("name", [with_mark(name) for name in FILES])
def test_damage_in_the_middle_is_told(tmp_path, capfd, name, damage):
    path = tmp_path / "part"
    path.write_bytes(FILES[name])
    assert read_image(path).shape == PART.shape
    path.write_bytes(damage(FILES[name]))
    with pytest.raises(ImageError, match=r"cut off or damaged .*; copy it again or remove it"):
        read_image(path)
    assert capfd.readouterr().err == ""  # no library writes there, past the path


@needs_simplejpeg
def test_jpg_that_is_cut_off_and_closed_again_is_told(tmp_path):
    data = FILES["jpg"]
    (tmp_path / "part.jpg").write_bytes(data[: len(data) * 2 // 3] + b"\xff\xd9")
    with pytest.raises(ImageError, match=r"libjpeg says: .*premature end of data"):
        read_image(tmp_path / "part.jpg")


@pytest.mark.parametrize("name", ["png", "tif deflate"])
def test_checksums_tell_a_single_flipped_bit(name):
    data = bytearray(FILES[name])
    for position in range(len(data) // 4, len(data) * 3 // 4, len(data) // 50):
        data[position] ^= 1
        assert find_damage(bytes(data), read_header(bytes(data)))
        data[position] ^= 1


@pytest.mark.parametrize("kind", ["lzw", "adobe_deflate"])
@pytest.mark.parametrize("name", SOUND)
def test_sound_tiffs_are_not_called_damaged(name, kind):
    for options in ({}, {"tiffinfo": {STRIP_ROWS: 1}}, {"tiffinfo": {STRIP_ROWS: 7}}):
        data = pillow(SOUND[name], "TIFF", compression=f"tiff_{kind}", **options)
        assert find_damage(data, read_header(data)) == ""


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("name", ["flat", "noise", "small"])
def test_sound_files_are_not_called_damaged(name, suffix):
    data = opencv(suffix, SOUND[name])
    assert find_damage(data, read_header(data)) == ""


def test_webp_that_is_shorter_than_it_states(tmp_path):
    data = opencv(".webp", PART)
    (tmp_path / "part.webp").write_bytes(data[:-20])
    with pytest.raises(ImageError, match="shorter than it states"):
        read_image(tmp_path / "part.webp")


def test_warnings_that_no_pixel_depends_on_are_no_damage():
    data = bytearray(FILES["jpg"])
    scan = data.rindex(b"\xff\xda")
    end = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    assert data[end - 2] == 63
    data[end - 2] = 0  # the end of the spectral selection, which a sequential file does not use

    assert find_damage(bytes(data), read_header(bytes(data))) == ""
