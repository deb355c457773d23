from __future__ import annotations

import cv2
import numpy as np
import pytest

from aicore.runtime.letterbox import letterbox, resize, stretch


@pytest.mark.parametrize(
    ("shape", "size", "fitting"),
    [
        ((30, 40), (80, 80), (60, 80)),
        ((40, 30), (80, 80), (80, 60)),
        ((100, 50), (20, 60), (20, 10)),
        ((33, 47), (64, 96), (64, 91)),
        ((1, 1000), (32, 32), (1, 32)),  # at least one pixel is left
    ],
)
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_image_lies_at_the_top_left_undistorted(shape, size, fitting, channels, dtype):
    image = np.full((*shape, *channels), 200, dtype)

    result, scale = letterbox(image, size)

    assert result.shape == (*size, *channels)
    assert result.dtype == dtype
    height, width = fitting
    assert result[:height, :width] == pytest.approx(200, abs=1e-3)
    assert (result[height:] == 114).all()
    assert (result[:, width:] == 114).all()
    assert scale == (width / shape[1], height / shape[0])


def test_an_image_of_the_size_comes_back_as_it_is():
    image = np.zeros((20, 30, 3), np.uint8)

    result, scale = letterbox(image, (20, 30))

    assert result is image
    assert scale == (1, 1)


def test_a_pixel_lands_where_the_scale_says():
    image = np.zeros((300, 400), np.uint8)
    image[120:160, 200:280] = 255

    result, (x, y) = letterbox(image, (416, 416))

    rows, columns = np.nonzero(result[:312] > 127)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert found == pytest.approx([200 * x, 120 * y, 280 * x, 160 * y], abs=1)


def test_an_image_that_gets_much_smaller_leaves_no_pixel_out():
    image = np.zeros((90, 90), np.float32)
    image[40, 40] = 100

    small = resize(image, (30, 30))

    assert small[13, 13] == pytest.approx(100 / 9)
    assert small.sum() == pytest.approx(100 / 9)


def test_above_half_its_size_it_is_resized_linearly():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)

    assert np.array_equal(resize(image, (30, 45)), cv2.resize(image, (45, 30)))
    assert np.array_equal(resize(image, (80, 90)), cv2.resize(image, (90, 80)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_side_that_shrinks_leaves_no_pixel_out_though_the_other_grows(dtype):
    image = np.zeros((20, 90), dtype)
    image[:, 40] = 90

    result = stretch(image, (30, 30))

    assert result.dtype == dtype
    assert result.shape == (30, 30)
    assert result[:, 13] == pytest.approx(30, abs=1)
    assert result.sum() == pytest.approx(30 * 30, rel=0.05)


@pytest.mark.parametrize("size", [(30, 20), (120, 40), (60, 120), (60, 80)])
def test_stretched_to_any_shape(size):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)

    result = stretch(image, size)

    assert result.shape == (*size, 3)
    assert result.mean() == pytest.approx(image.mean(), abs=2)
