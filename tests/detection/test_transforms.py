from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose

from aicore.detection.transforms import Letterbox, RandomFlip, RandomHSV, shift_colours
from aicore.errors import ConfigError


def record(shape: tuple[int, ...], boxes: list, dtype: type = np.uint8) -> dict:
    """A grey image with a white rectangle at the first box; labels 0, 1, 2 ..."""
    image = np.full(shape, 60, dtype)
    for x1, y1, x2, y2 in np.array(boxes[:1], int).tolist():
        image[y1:y2, x1:x2] = 255
    return {
        "img": image,
        "img_shape": shape[:2],
        "gt_bboxes": np.array(boxes, np.float32).reshape(-1, 4),
        "gt_bboxes_labels": np.arange(len(boxes)),
        "gt_ignore_flags": np.arange(len(boxes)) % 2 == 1,
    }


def found(image: np.ndarray) -> list[int]:
    """The place of the white rectangle."""
    bright = image if image.ndim == 2 else image.min(axis=2)
    rows, columns = np.nonzero(bright > 180)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


# ---- letterbox ----


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(96, 96), (64, 128), (300, 200), (37, 51)])
def test_boxes_follow_their_pixels(channels, dtype, size):
    results = Letterbox(size)(record((100, 150, *channels), [[30, 20, 90, 70]], dtype))

    assert results["img"].shape == (*size, *channels)
    assert results["img"].dtype == dtype
    assert results["img_shape"] == size
    np.testing.assert_allclose(results["gt_bboxes"][0], found(results["img"]), atol=1)
    scale = results["scale_factor"]
    back = results["gt_bboxes"][0] / [*scale, *scale]
    np.testing.assert_allclose(back, [30, 20, 90, 70], atol=1e-4)


def test_boxes_are_clipped_and_those_below_a_pixel_dropped():
    boxes = [
        [10, 10, 50, 50],
        [-20, 30, 30, 60],
        [90, 40, 120, 80],
        [120, 0, 130, 9],
        [8, 8, 9, 90],
    ]

    results = Letterbox((50, 50))(record((100, 100), boxes))

    assert results["gt_bboxes"].tolist() == [[5, 5, 25, 25], [0, 15, 15, 30], [45, 20, 50, 40]]
    assert results["gt_bboxes"].dtype == np.float32
    assert results["gt_bboxes_labels"].tolist() == [0, 1, 2]
    assert results["gt_ignore_flags"].tolist() == [False, True, False]


def test_an_image_of_the_size_stays():
    given = record((64, 64, 3), [[10, 10, 30, 40]])

    results = Letterbox((64, 64))(dict(given))

    assert results["img"] is given["img"]
    assert results["gt_bboxes"] is given["gt_bboxes"]
    assert results["scale_factor"] == (1, 1)


def test_images_without_boxes_and_without_truth():
    results = Letterbox((20, 20))(record((40, 40), []))
    assert results["gt_bboxes"].shape == (0, 4)
    assert len(results["gt_bboxes_labels"]) == len(results["gt_ignore_flags"]) == 0

    assert "gt_bboxes" not in Letterbox((20, 20))({"img": np.zeros((40, 40), np.uint8)})


def test_an_earlier_resizing_counts_in_the_scale():
    results = Letterbox((20, 40))(
        {"img": np.zeros((40, 80), np.uint8), "scale_factor": (0.5, 0.25)}
    )

    assert results["scale_factor"] == (0.25, 0.125)


def test_mmdets_flip_takes_the_same_records():
    flip = Compose(
        [dict(type="mmdet.RandomFlip", prob=1.0), dict(type="aicore.Letterbox", size=(50, 75))]
    )

    for channels in ((), (3,)):
        results = flip(record((100, 150, *channels), [[30, 20, 90, 70]]))

        assert results["gt_bboxes"].tolist() == [[30, 10, 60, 35]]
        assert type(results["gt_bboxes"]) is np.ndarray
        np.testing.assert_allclose(results["gt_bboxes"][0], found(results["img"]), atol=1)


# ---- colours ----


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shifts", [(5, 0, 0), (-5, 0, 0), (0, 30, 0), (0, -30, 30), (3, 20, -25)])
def test_colours_are_shifted_as_plain_arithmetic_does(shifts):
    image = noise(30, 40, 3)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(int) + shifts
    hsv[..., 0] %= 180
    expected = cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2BGR)

    assert np.array_equal(shift_colours(image, *shifts), expected)


@pytest.mark.parametrize("shifts", [(5, 0, 0), (-4, 0, 0), (0, 30, 0), (0, -30, 30), (3, 20, -25)])
def test_float_images_are_shifted_alike(shifts):
    image = noise(60, 80, 3) // 2 + 60

    difference = shift_colours(image.astype(np.float32), *shifts) - shift_colours(image, *shifts)

    assert abs(difference).mean() < 1.5  # 180 hues and 256 saturations are rounded in 8 bits
    assert abs(difference).max() < 8


def test_float_images_keep_grey_levels_between_whole_numbers():
    image = np.linspace(10, 20, 3000, dtype=np.float32).reshape(25, 40, 3)

    assert len(np.unique(shift_colours(image, 0, 0, 12.5).round(3))) > 2000


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_of_a_grey_image_the_brightness_changes(dtype):
    image = noise(30, 40).astype(dtype)

    brighter = shift_colours(image, 5, 30, 20)

    assert brighter.dtype == dtype
    assert np.array_equal(brighter, np.clip(image.astype(float) + 20, 0, 255))


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_random_colours(shape, dtype):
    image = noise(*shape).astype(dtype)
    before = image.copy()
    np.random.seed(0)

    results = [RandomHSV()({"img": image})["img"] for _ in range(40)]

    assert np.array_equal(image, before)  # it may be another record's too
    assert all(result.dtype == dtype and result.shape == shape for result in results)
    assert all(result.min() >= 0 and result.max() <= 255.001 for result in results)
    changed = sum(not np.array_equal(result, image) for result in results)
    expected = 20 if len(shape) == 2 else 35  # a half, and 7 of 8
    assert abs(changed - expected) < 8
    np.random.seed(0)
    assert np.array_equal(RandomHSV()({"img": image})["img"], results[0])


def test_no_amount_is_no_change():
    image = noise(20, 30, 3)

    assert RandomHSV(0, 0, 0)({"img": image})["img"] is image


# ---- arguments ----


@pytest.mark.parametrize(
    ("step", "settings", "reason"),
    [
        (Letterbox, dict(size=640), r"size is 640; expected \(height, width\) in pixels"),
        (Letterbox, dict(size=(0, 4)), r"size is \(0, 4\)"),
        (Letterbox, dict(size=(4, 4.5)), r"size is \(4, 4.5\)"),
        (Letterbox, dict(size="ab"), r"size is 'ab'"),
        (RandomHSV, dict(hue=-1), r"hue is -1; expected a number in \[0, 90\]"),
        (RandomHSV, dict(saturation=300), "saturation is 300"),
        (RandomHSV, dict(value="30"), "value is '30'"),
        (RandomHSV, dict(value=True), "value is True"),
    ],
)
def test_wrong_arguments(step, settings, reason):
    with pytest.raises(ConfigError, match=f"^aicore.{step.__name__}: {reason}"):
        step(**settings)


@pytest.mark.parametrize("directions", [[], ["horizontal"], ["horizontal", "vertical", "diagonal"]])
def test_each_direction_of_a_flip_is_as_likely(directions):
    np.random.seed(0)
    flip = RandomFlip(directions)
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    counts = Counter()
    for _ in range(400):
        boxes = np.array([[0, 0, 1, 1]], np.float32)
        results = flip({"img": image, "gt_bboxes": boxes, "img_shape": image.shape})
        x, y = results["gt_bboxes"][0, :2].astype(int)
        assert results["img"][y, x] == image[0, 0]
        counts[x, y] += 1
    assert len(counts) == len(directions) + 1
    assert max(counts.values()) - min(counts.values()) < 60


@pytest.mark.parametrize("directions", ["horizontal", ["horizontaly"], None])
def test_directions_that_there_are_not(directions):
    with pytest.raises(ConfigError, match=r"RandomFlip: directions is .*expected a list of"):
        RandomFlip(directions)
