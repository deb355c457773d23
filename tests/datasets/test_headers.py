from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image

from aicore.datasets.headers import image_size, image_sizes
from aicore.runtime.images import read_image


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_height_and_width(tmp_path, suffix):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / f"a{suffix}")

    assert image_size(tmp_path / f"a{suffix}") == (4, 6)


@pytest.mark.parametrize(("orientation", "size"), [(1, (4, 6)), (3, (4, 6)), (6, (6, 4))])
def test_an_image_that_is_shown_turned(tmp_path, orientation, size):
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif)

    assert image_size(tmp_path / "a.jpg") == size


def test_many_files_and_those_that_are_none(tmp_path):
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    (tmp_path / "c.png").touch()

    sizes = image_sizes([tmp_path / f"{name}.png" for name in "abcd"])

    assert sizes == [(4, 6), None, None, None]


def test_a_line_scan_is_no_bomb(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a.png")  # more pixels than Pillow's limit

    assert image_size(tmp_path / "a.png") == (20_000, 20_000)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_is_that_of_the_pixels_that_are_read(tmp_path, suffix, orientation):
    file = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(file, exif=exif)

    assert image_size(file) == read_image(file).shape[:2]
