from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from aicore.errors import ConfigError, DataError
from aicore.segmentation.masks import (
    IGNORE,
    MaskFormat,
    build_mask_format,
)

CLASSES = ("background", "scratch", "spot")
PALETTE = [(0, 0, 0), (200, 0, 10), (0, 0, 255)]
IDS = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mask.png"


def save(file, pixels, mode=None) -> None:
    Image.fromarray(np.asarray(pixels), mode).save(file)


def in_colours(ids: np.ndarray, palette=PALETTE, ignore=(9, 9, 9)) -> np.ndarray:
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[IGNORE] = ignore
    return colours[ids]


# ---- class ids ----


def test_ids_are_read_as_they_are(file):
    save(file, IDS)

    mask = MaskFormat(CLASSES).read(file, "a.png")

    assert mask.dtype == np.uint8
    assert np.array_equal(mask, IDS)


@pytest.mark.parametrize("kind", ["16-bit", "32-bit", "grey as RGB", "grey with alpha", "bmp"])
def test_ids_in_other_kinds_of_files(tmp_path, kind):
    file = tmp_path / ("mask.bmp" if kind == "bmp" else "mask.png")
    if kind == "16-bit":
        cv2.imwrite(str(file), IDS.astype(np.uint16))
    elif kind == "32-bit":
        file = tmp_path / "mask.tif"
        save(file, IDS.astype(np.int32))
    elif kind == "grey as RGB":
        save(file, np.repeat(IDS[..., None], 3, axis=2))
    elif kind == "grey with alpha":
        save(file, np.dstack([IDS, np.full_like(IDS, 255)]), "LA")
    else:
        save(file, IDS)

    assert np.array_equal(MaskFormat(CLASSES).read(file, "a.png"), IDS)


def test_of_a_file_with_a_palette_the_index_counts(file):
    picture = Image.fromarray(IDS, "P")
    picture.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    picture.save(file)

    assert np.array_equal(MaskFormat(CLASSES).read(file, "a.png"), IDS)


def test_a_file_of_one_bit(file):
    Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1").save(file)

    assert MaskFormat(CLASSES).read(file, "a.png").tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_black_and_white_count_by_colour(tmp_path, suffix):
    file = tmp_path / f"mask.{suffix}"
    picture = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(file, **({"bits": 1} if suffix == "png" else {}))

    assert MaskFormat(CLASSES).read(file, "a.png").tolist() == [[1, 0, 0]]
    assert MaskFormat(CLASSES[:2], threshold=127).read(file, "a.png").tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("values", "palette"),
    [
        ([[0, 1, 1]], [255, 255, 255, 0, 0, 0, 200, 0, 0]),  # a third class, of which none is here
        ([[0, 1, 2]], [255, 255, 255, 0, 0, 0, 0, 0, 0]),
        ([[0, 1, 255]], [255, 255, 255] + 255 * [0, 0, 0]),  # and pixels to ignore
        ([[0, 1, 1]], [0, 0, 0, 255, 255, 255]),
    ],
)
def test_any_other_palette_counts_by_index(file, values, palette):
    picture = Image.fromarray(np.array(values, np.uint8), "P")
    picture.putpalette(palette)
    picture.save(file)

    assert MaskFormat(CLASSES).read(file, "a.png").tolist() == values


def test_other_values_to_ignore(file):
    save(file, np.array([[0, 1, 11, 12]], np.uint8))

    mask = MaskFormat(CLASSES, ignore=(11, 12)).read(file, "a.png")

    assert mask.tolist() == [[0, 1, IGNORE, IGNORE]]


@pytest.mark.parametrize("more", [(), (200,)])
def test_a_class_can_be_ignored(file, more):
    save(file, np.uint8([[0, 1, 2, *more]]))

    mask = MaskFormat(CLASSES, ignore=(0, 200)).read(file, "a.png")

    assert mask.tolist() == [[255, 1, 2, *([255] if more else [])]]


def test_a_mask_of_any_size(file, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    save(file, np.zeros((8, 8), np.uint8))

    assert MaskFormat(CLASSES).read(file, "a.png").shape == (8, 8)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_value_outside_the_classes(file):
    ids = IDS.copy()
    ids[0, :2] = 7
    save(file, ids)

    with pytest.raises(DataError) as caught:
        MaskFormat(CLASSES).read(file, "a.png")

    assert str(caught.value) == (
        f"mask {str(file)!r} has value 7 in 2 pixels: expected 0 to 2 (background, scratch, spot) "
        "or 255 for 'ignore'."
    )


def test_255_is_a_value_like_any_other_where_it_is_not_ignored(file):
    save(file, IDS)

    with pytest.raises(DataError, match="has value 255 in 1 pixels"):
        MaskFormat(CLASSES, ignore=()).read(file, "a.png")


def test_the_values_of_most_pixels_are_named(file):
    save(file, np.repeat([9, 8, 7, 6], [1, 4, 3, 2]).astype(np.uint8)[None])

    with pytest.raises(DataError, match=r"8 in 4 pixels, value 7 in 3 .*6 in 2 pixels and 1 more"):
        MaskFormat(CLASSES).read(file, "a.png")


def test_soft_edges_without_a_threshold_are_told(file):
    save(file, np.arange(256, dtype=np.uint8)[None])

    with pytest.raises(DataError, match=r"look like soft edges \(mask_format.threshold = 127\)"):
        MaskFormat(CLASSES).read(file, "a.png")


def test_colours_without_a_palette_in_the_config(file):
    save(file, in_colours(IDS))

    with pytest.raises(DataError, match=r"has colours: set mask_format\.palette"):
        MaskFormat(CLASSES).read(file, "a.png")


# ---- colours ----


def test_colours_are_classes(file):
    save(file, in_colours(IDS))

    mask = MaskFormat(CLASSES, PALETTE, ignore=[(9, 9, 9)]).read(file, "a.png")

    assert np.array_equal(mask, IDS)


def test_a_palette_of_the_config_holds_for_a_file_with_another_order(file):
    picture = Image.fromarray(np.array([[5, 6, 7]], np.uint8), "P")
    picture.putpalette([0] * 15 + [0, 0, 255] + [0, 0, 0] + [200, 0, 10])
    picture.save(file)

    assert MaskFormat(CLASSES, PALETTE).read(file, "a.png").tolist() == [[2, 0, 1]]


def test_a_colour_outside_the_palette(file):
    save(file, in_colours(IDS))

    with pytest.raises(DataError) as caught:
        MaskFormat(CLASSES, PALETTE).read(file, "a.png")

    assert str(caught.value) == (
        f"mask {str(file)!r} has colour (9, 9, 9) in 1 pixels: expected a colour of "
        "mask_format.palette."
    )


@pytest.mark.parametrize(
    ("palette", "reason"),
    [
        (PALETTE[:2], "palette has 2 colours for 3 classes"),
        ([*PALETTE[:2], PALETTE[0]], "hold a colour twice"),
        ([*PALETTE[:2], (0, 0, 256)], r"= \(0, 0, 256\): expected colours"),
        ([*PALETTE[:2], (0, 0)], r"= \(0, 0\): expected colours"),
        ([*PALETTE[:2], "red"], "= 'red': expected colours"),
    ],
)
def test_a_wrong_palette(palette, reason):
    with pytest.raises(ConfigError, match=reason):
        MaskFormat(CLASSES, palette)


# ---- soft edges ----


def test_a_threshold_makes_two_classes(file):
    save(file, np.array([[0, 127, 128, 255]], np.uint8))

    mask = MaskFormat(("good", "bad"), threshold=127).read(file, "a.png")

    assert mask.tolist() == [[0, 0, 1, 1]]


def test_soft_edges_in_a_file_of_16_bits(file):
    mask_format = MaskFormat(("good", "bad"), threshold=127)

    save(file, np.array([[0, 127, 128, 255]], np.uint16))
    assert mask_format.read(file, "a.png").tolist() == [[0, 0, 1, 1]]

    save(file, np.array([[0, 300, 32000, 33000, 65535]], np.uint16))  # of 16 bits
    assert mask_format.read(file, "a.png").tolist() == [[0, 0, 0, 1, 1]]


def test_soft_edges_as_shares(tmp_path):
    file = tmp_path / "mask.tif"
    save(file, np.array([[0, 0.5, 1]], np.float32))

    with pytest.raises(DataError, match=r"values from 0 to 1 .* Scale it to them"):
        MaskFormat(("good", "bad"), threshold=127).read(file, "a.png")


def test_the_class_of_soft_edges_stands_in_the_path(file):
    save(file, np.array([[0, 200]], np.uint8))
    mask_format = MaskFormat(CLASSES, threshold=127, class_from=r"^MT_([^/]+)/")

    assert mask_format.read(file, "MT_spot/1.jpg").tolist() == [[0, 2]]
    assert mask_format.read(file, "MT_scratch/1.jpg").tolist() == [[0, 1]]


def test_an_empty_mask_may_belong_to_no_class(file):
    save(file, np.zeros((2, 2), np.uint8))

    mask = MaskFormat(CLASSES, threshold=9, class_from=r"(\w+)/").read(file, "free/1.jpg")

    assert not mask.any()


def test_a_mask_of_no_class_that_is_not_empty(file):
    save(file, np.full((2, 2), 200, np.uint8))

    with pytest.raises(DataError, match=r"marks 4 pixels of a class that is none of .*'free'"):
        MaskFormat(CLASSES, threshold=9, class_from=r"(\w+)/").read(file, "free/1.jpg")


def test_a_path_without_a_class(file):
    save(file, np.zeros((2, 2), np.uint8))

    with pytest.raises(DataError, match=r"finds no class in '1.jpg'"):
        MaskFormat(CLASSES, threshold=9, class_from=r"(\w+)/").read(file, "1.jpg")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (dict(threshold=127), "tells two classes apart, but there are 3"),
        (dict(threshold=255, class_from="(a)"), "threshold = 255: expected a grey value"),
        (dict(threshold="a", class_from="(a)"), "threshold = 'a': expected a grey value"),
        (dict(threshold=3, class_from="a"), "class_from = 'a': expected a group"),
        (dict(threshold=3, class_from="(a"), "class_from = '.a': expected a regular expression"),
        (dict(threshold=3, palette=PALETTE), "expected None, since mask_format.threshold is set"),
        (dict(missing="ignore"), "missing = 'ignore': expected 'error' or 'background'"),
        (dict(treshold=127), r"no setting 'treshold'. Did you mean 'threshold'\?"),
    ],
)
def test_wrong_settings(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        build_mask_format(CLASSES, settings)


def test_more_classes_than_a_mask_holds():
    with pytest.raises(ConfigError, match=r"classes holds 256 name.s., 0, 1, 2: expected 2 to 255"):
        MaskFormat([str(index) for index in range(256)])


def test_a_defect_without_the_background():
    with pytest.raises(ConfigError, match=r"1 name.s., dent: expected 2 .* the background first"):
        MaskFormat(["dent"])


# ---- files ----


def test_a_missing_file(file):
    with pytest.raises(DataError, match="does not exist"):
        MaskFormat(CLASSES).read(file, "a.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_file(file, content):
    file.write_bytes(content)

    with pytest.raises(DataError, match=r"cannot be read: .*(empty|not an image|damaged)"):
        MaskFormat(CLASSES).read(file, "a.png")


def test_a_file_that_is_cut_off(file):
    save(file, np.random.default_rng(0).integers(0, 3, (64, 64), np.uint8))
    file.write_bytes(file.read_bytes()[:200])

    with pytest.raises(DataError, match="cannot be read"):
        MaskFormat(CLASSES).read(file, "a.png")


def test_fractions_are_no_classes(tmp_path):
    file = tmp_path / "mask.tif"
    save(file, np.zeros((2, 2), np.float32))

    with pytest.raises(DataError, match="pixels of type F: expected whole numbers"):
        MaskFormat(CLASSES).read(file, "a.png")
