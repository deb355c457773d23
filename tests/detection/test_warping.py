from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from aicore.detection.warping import draw_warped, visible_boxes, warp_boxes


def turned(degrees: float, scale: float, x: float, y: float) -> np.ndarray:
    cosine, sine = (scale * f(math.radians(degrees)) for f in (math.cos, math.sin))
    return np.array([[cosine, sine, x], [-sine, cosine, y]])


def positions(height: int, width: int) -> np.ndarray:
    """An image whose pixels hold the place of their own middle: x, y, and 1."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.dstack([x, y, np.ones_like(x)]).astype(np.float32)


def test_boxes_become_the_bounding_boxes_of_the_turned_ones():
    boxes = np.float32([[10, 20, 30, 50], [0, 0, 1, 1]])
    matrix = turned(30, 1.5, 7, -3)

    expected = []
    for x1, y1, x2, y2 in boxes:
        corners = [matrix @ (x, y, 1) for x in (x1, x2) for y in (y1, y2)]
        xs, ys = zip(*corners, strict=True)
        expected.append([min(xs), min(ys), max(xs), max(ys)])

    np.testing.assert_allclose(warp_boxes(boxes, matrix), expected, rtol=1e-5)
    assert warp_boxes(boxes, matrix).dtype == np.float32
    assert warp_boxes(np.zeros((0, 4), np.float32), matrix).shape == (0, 4)


@pytest.mark.parametrize("degrees", [0, -10, 30, 45, 90])
def test_visible_boxes_are_those_of_the_pixels_seen(degrees):
    generator = np.random.default_rng(0)
    compared = outside = 0
    for _ in range(40):
        x1, y1 = generator.uniform(-40, 60, 2)
        box = np.array([[x1, y1, x1 + generator.uniform(5, 90), y1 + generator.uniform(5, 90)]])
        matrix = turned(degrees, 1.3, *generator.uniform(-20, 60, 2))
        y, x = (np.mgrid[:200, :300] + 0.5) / 5  # five to a pixel
        source = np.dstack([x, y]) @ cv2.invertAffineTransform(matrix)[:, :2].T
        source += cv2.invertAffineTransform(matrix)[:, 2]
        seen = ((source > box[0, :2]) & (source < box[0, 2:])).all(axis=2)

        visible = visible_boxes(box, matrix, (40, 60))

        if not seen.any():
            outside += 1
            assert (visible[0, 2:] - visible[0, :2]).min() < 0.2
            continue
        rows, columns = np.nonzero(seen)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(visible[0], np.array(found) / 5, atol=1.2)
        compared += 1
    assert compared > 5
    assert outside > 2


def test_visible_boxes_of_none():
    assert visible_boxes(np.zeros((0, 4)), turned(10, 1, 0, 0), (9, 9)).shape == (0, 4)


@pytest.mark.parametrize("degrees", [0, -10, 8, 45])
@pytest.mark.parametrize("scale", [0.11, 0.3, 0.5, 0.8, 1, 2.3])
def test_every_pixel_comes_from_its_place(degrees, scale):
    image = positions(90, 120)
    result = np.zeros((70, 100, 3), np.float32)
    matrix = turned(degrees, scale, 50, 35) @ np.array([[1, 0, -60], [0, 1, -45], [0, 0, 1]])

    draw_warped(result, image, matrix, (0, 0, 120, 90))

    y, x = np.mgrid[:70, :100] + 0.5
    inverse = cv2.invertAffineTransform(matrix)
    expected = np.dstack([x, y]) @ inverse[:, :2].T + inverse[:, 2]
    room = 1 / scale + 0.5  # at the edge pixels are repeated outwards
    inside = ((expected > room) & (expected < (120 - room, 90 - room))).all(axis=2)
    assert inside.sum() > 50
    # OpenCV counts in 32nds of a pixel, here of the shrunk image.
    tolerance = max(1, 1 / scale) / 32
    np.testing.assert_allclose(result[inside][:, :2], expected[inside], atol=tolerance)
    np.testing.assert_allclose(result[inside][:, 2], 1, atol=1e-5)
    outside = ((expected < -room) | (expected > (120 + room, 90 + room))).any(axis=2)
    assert not result[outside].any()
    filled = result[..., 2] > 0
    np.testing.assert_allclose(result[filled][:, 2], 1, atol=1e-5)  # no dark rim


@pytest.mark.parametrize("scale", [0.2, 0.45, 1, 3])
@pytest.mark.parametrize("degrees", [0, 7])
def test_parts_side_by_side_leave_no_seam(scale, degrees):
    image = np.full((80, 100), 200, np.uint8)
    matrix = turned(degrees, scale, -3.3, 4.7)
    whole, halves = (np.full((60, 60), 114, np.uint8) for _ in range(2))

    draw_warped(whole, image, matrix, (0, 0, 100, 80))
    draw_warped(halves, image, matrix, (0, 0, 31.3, 80))
    draw_warped(halves, image, matrix, (31.3, 0, 100, 80))

    assert set(np.unique(whole)) <= {114, 200}
    inner = cv2.erode(whole, np.ones((3, 3))) == 200
    assert inner.any()
    assert (halves[inner] == 200).all()


def test_an_image_that_gets_much_smaller_leaves_no_pixel_out():
    image = np.zeros((400, 400), np.float32)
    image[201, 201] = 6400

    result = np.zeros((60, 60), np.float32)
    draw_warped(result, image, turned(5, 0.125, 0, 0), (0, 0, 400, 400))

    assert result.sum() == pytest.approx(6400 * 0.125**2, rel=0.05)


def test_an_image_outside_changes_nothing():
    result = np.zeros((20, 20), np.uint8)

    for x, y in [(-31, 0), (20, 0), (0, -31), (0, 21)]:
        draw_warped(result, np.full((30, 30), 9, np.uint8), turned(0, 1, x, y), (0, 0, 30, 30))

    assert not result.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 2)])
@pytest.mark.parametrize("scale", [0.05, 0.7, 20])
def test_images_of_few_pixels(shape, scale):
    image = np.full((*shape, 3), 255, np.uint8)
    result = np.zeros((64, 64, 3), np.uint8)

    draw_warped(result, image, turned(10, scale, 20, 20), (0, 0, *shape[::-1]))

    assert set(np.unique(result)) <= {0, 255}


def test_it_takes_the_type_of_the_result():
    result = np.zeros((20, 20), np.float32)

    draw_warped(result, np.full((20, 20), 9, np.uint8), turned(0, 1, 0, 0), (0, 0, 20, 20))

    assert (result == 9).all()
