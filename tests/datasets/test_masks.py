from __future__ import annotations

import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from aicore.datasets.findings import NOTE, WARNING
from aicore.datasets.headers import image_size
from aicore.datasets.masks import MaskFile, Oddity, findings_of_files, findings_of_sameness
from aicore.errors import DataError, ImageError

SQUARE = np.zeros((32, 32), np.uint8)
SQUARE[8:20, 10:24] = 255


def marked(file, threshold=None) -> tuple[int, set[Oddity]]:
    """Returns the number of marked pixels, and what is odd about the file."""
    mask = MaskFile(file)
    return int(mask.marked(threshold).sum()), mask.oddities


@pytest.mark.parametrize("value", [1, 38, 255])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_two_values_are_black_and_white(tmp_path, value, suffix):
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), SQUARE // 255 * value)

    assert marked(tmp_path / f"a.{suffix}") == (168, set())


@pytest.mark.parametrize(
    ("suffix", "settings"),
    [
        ("jpg", {"quality": 60}),
        ("webp", {"quality": 60}),
        ("webp", {"quality": 60, "exif": b"Exif\0\0"}),  # its pixels stand in an inner part
        ("tif", {"compression": "jpeg"}),
    ],
)
def test_lossy_files(tmp_path, suffix, settings):
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(SQUARE).save(file, **settings)

    count, oddities = marked(file)

    assert count == pytest.approx(168, abs=6)
    assert Oddity.LOSSY in oddities


def test_a_webp_without_loss(tmp_path):
    Image.fromarray(SQUARE).save(tmp_path / "a.webp", lossless=True)

    assert marked(tmp_path / "a.webp") == (168, set())


def test_soft_edges(tmp_path):
    soft = cv2.GaussianBlur(SQUARE, (0, 0), 1.5)
    cv2.imwrite(str(tmp_path / "a.png"), soft)
    cv2.imwrite(str(tmp_path / "deep.png"), soft.astype(np.uint16) * 257)

    for name in ("a.png", "deep.png"):
        assert marked(tmp_path / name) == (int((soft > 127).sum()), {Oddity.SOFT})
        assert marked(tmp_path / name, 200) == (int((soft > 200).sum()), set())


def test_kinds_of_defects_are_no_soft_edges(tmp_path):
    kinds = np.repeat(np.uint8([[0, 50, 100, 150, 255]]), 5, axis=0)
    cv2.imwrite(str(tmp_path / "a.png"), kinds)
    numbers = np.arange(100, dtype=np.uint8).reshape(10, 10)  # of the defects, one by one
    cv2.imwrite(str(tmp_path / "b.png"), numbers)

    assert marked(tmp_path / "a.png") == (20, {Oddity.GREYS})
    assert marked(tmp_path / "b.png")[0] == 99


def test_12_bits(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), SQUARE.astype(np.uint16) * 16)

    assert marked(tmp_path / "a.png") == (168, {Oddity.DARK})
    assert marked(tmp_path / "a.png", 127) == (0, {Oddity.DARK})


def test_a_photograph(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.tile(np.uint8(np.arange(60, 188)), (9, 1)))

    assert Oddity.PHOTOGRAPH in marked(tmp_path / "a.png")[1]
    assert Oddity.PHOTOGRAPH in marked(tmp_path / "a.png", 127)[1]


def test_several_pages(tmp_path):
    pages = [Image.fromarray(SQUARE), Image.fromarray(255 - SQUARE)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    assert marked(tmp_path / "a.tif") == (168, {Oddity.PAGES})


def test_a_second_page_that_is_damaged(tmp_path):
    pages = [Image.fromarray(SQUARE), Image.fromarray(255 - SQUARE)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    first, width, second = (tmp_path / "a.tif").read_bytes().rpartition(struct.pack("<HH", 256, 4))
    assert width
    (tmp_path / "a.tif").write_bytes(first + struct.pack("<HH", 40_000, 4) + second)

    with pytest.raises(DataError, match=r"a\.tif' cannot be read: it is damaged"):
        MaskFile(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize(
    ("grey", "alpha", "oddities"),
    [
        (SQUARE, np.full_like(SQUARE, 255), set()),
        (SQUARE, SQUARE, set()),  # the background is transparent
        (SQUARE, SQUARE // 2, {Oddity.HALF_TRANSPARENT}),
        (np.full_like(SQUARE, 255), SQUARE, {Oddity.ALPHA_ONLY}),
    ],
)
def test_alpha(tmp_path, mode, grey, alpha, oddities):
    colours = [grey] * (len(mode) - 1)
    Image.fromarray(np.dstack([*colours, alpha]), mode).save(tmp_path / "a.png")

    assert MaskFile(tmp_path / "a.png").oddities == oddities


def test_the_orientation_of_exif_is_applied_as_to_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to see it
    Image.fromarray(SQUARE[:, :16]).save(tmp_path / "a.png", exif=exif)

    assert MaskFile(tmp_path / "a.png").marked().shape == (16, 32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"no picture", "it is not an image"),
        (
            cv2.imencode(".png", SQUARE)[1].tobytes()[:60],
            "damaged: its end is missing",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(DataError, match=rf"roi '.*a\.png' cannot be read: .*({reason})"):
        MaskFile(tmp_path / "a.png", "roi")


def test_damage_in_the_middle_is_told(tmp_path):
    for suffix in ("png", "jpg"):
        data = bytearray(cv2.imencode(f".{suffix}", np.tile(SQUARE, (4, 4)))[1].tobytes())
        middle = len(data) * 2 // 3
        data[middle : middle + 8] = b"\xff\xfe\xfd\xfc" * 2
        (tmp_path / f"a.{suffix}").write_bytes(data)

        with pytest.raises(DataError, match=rf"mask '.*a\.{suffix}' cannot be read"):
            MaskFile(tmp_path / f"a.{suffix}")


def test_the_limit_of_pixels_is_that_of_images(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), SQUARE)
    monkeypatch.setenv("AICORE_MAX_IMAGE_PIXELS", "1023")
    with pytest.raises(DataError, match=r"32 x 32 = 1024 pixels, .* AICORE_MAX_IMAGE_") as caught:
        MaskFile(tmp_path / "a.png")
    assert not isinstance(caught.value, ImageError)  # the image would be left out silently
    monkeypatch.setenv("AICORE_MAX_IMAGE_PIXELS", "1024")
    assert MaskFile(tmp_path / "a.png").marked().shape == (32, 32)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")

    with pytest.raises(DataError, match=r"cannot be read: .*pipe"):
        MaskFile(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") is None


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"mask '.*b\.png' does not exist"):
        MaskFile(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"cannot be read: .*folder"):
        MaskFile(tmp_path)


def test_findings_name_the_files():
    odd = {"a.jpg": {Oddity.LOSSY, Oddity.GREYS}, "b.png": {Oddity.GREYS}, "c.png": set()}

    first, second = findings_of_files(odd, "roi")

    assert (first.level, first.cases) == (WARNING, ["a.jpg"])
    assert first.text.startswith("1 of 3 rois are stored lossily")
    assert (second.level, second.cases) == (NOTE, ["a.jpg", "b.png"])


@pytest.mark.parametrize(
    ("digests", "count"), [([b"a"] * 3, 1), ([b"a"] * 2, 0), ([b"a", b"a", b"b"], 0), ([], 0)]
)
def test_masks_that_are_all_the_same(digests, count):
    assert len(findings_of_sameness(digests)) == count


def test_a_palette_that_is_missing(tmp_path):
    picture = Image.fromarray(np.eye(8, dtype=np.uint8)).convert("P")
    picture.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"PLTE") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    (tmp_path / "a.png").write_bytes(data[:start] + data[start + 12 + size :])

    assert not MaskFile(tmp_path / "a.png", "mask").is_white_first
