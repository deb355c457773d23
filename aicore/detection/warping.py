"""Affine maps of images and boxes, in pixels: an image reaches from 0 to its width and height."""

from __future__ import annotations

import math

import cv2
import numpy as np

_MARGIN = 3  # pixels around a source, so that interpolation finds neighbours beyond its edge
_SUBPIXEL_BITS = 4


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns the bounding boxes of the warped boxes.

    Args:
        boxes: N x 4, x1 y1 x2 y2.
        matrix: 2 x 3.

    Returns:
        N x 4 float32.
    """
    corners = _warped_corners(boxes, matrix)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1, dtype=np.float32)


def visible_boxes(boxes: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the bounding boxes of what is seen of the warped boxes.

    They are often smaller than the bounding boxes of the whole, cut off at the edge: of a turned
    box that is cut off, less is seen than that.

    Args:
        boxes: N x 4, x1 y1 x2 y2.
        matrix: 2 x 3.
        size: Height and width of the result.

    Returns:
        N x 4 float32, within the result; all 0 for a box of which nothing is seen.
    """
    corners = _warped_corners(boxes, matrix)
    # The shape between two lines is convex, so its extent along them is cut off independently.
    x1, x2 = np.clip(_extent(corners, size[0]), 0, size[1])
    y1, y2 = np.clip(_extent(corners[..., ::-1], size[1]), 0, size[0])
    found = np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)
    found[(found[:, :2] >= found[:, 2:]).any(axis=1)] = 0
    return found


def draw_warped(
    result: np.ndarray,
    image: np.ndarray,
    matrix: np.ndarray,
    part: tuple[float, float, float, float],
) -> None:
    """Warps a part of an image into its place in ``result``; all else there stays as it is.

    Only what is seen of it is worked on. An image that gets smaller than half its size is shrunk
    first, by a whole number, to the mean of the pixels that fall together.

    Args:
        result: H x W (x 3), drawn into.
        image: h x w (x 3).
        matrix: 2 x 3, from the image to the result.
        part: x1 y1 x2 y2 in the image; its edge is met to half a pixel of the result.
    """
    outline = warp_points(_corners(*part), matrix)
    left, top = np.maximum(np.floor(outline.min(axis=0)), 0).astype(int).tolist()
    right, bottom = (
        np.minimum(np.ceil(outline.max(axis=0)), result.shape[1::-1]).astype(int).tolist()
    )
    if left >= right or top >= bottom:
        return
    window = result[top:bottom, left:right]
    source, matrix = _needed(image, matrix, (left, top, right, bottom))
    source = cv2.copyMakeBorder(source, *[_MARGIN] * 4, cv2.BORDER_REPLICATE)
    # OpenCV counts from the middle of the first pixel.
    matrix = matrix @ _moved(0.5 - _MARGIN, 0.5 - _MARGIN)
    matrix[:2, 2] -= (left + 0.5, top + 0.5)
    warped = cv2.warpAffine(
        source.astype(result.dtype, copy=False),
        matrix[:2],
        (right - left, bottom - top),
        dst=window.copy(),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_TRANSPARENT,  # outside the outline, where nothing is copied
    )
    mask = np.zeros(window.shape[:2], np.uint8)
    outline = np.rint((outline - (left + 0.5, top + 0.5)) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillConvexPoly(mask, outline, 255, shift=_SUBPIXEL_BITS)
    cv2.copyTo(warped, mask, window)


def warp_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns N x 2 points warped by a 2 x 3 matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def _needed(
    image: np.ndarray, matrix: np.ndarray, window: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels that a window of the result shows, shrunk where they get much smaller.

    Args:
        image: h x w (x 3).
        matrix: 2 x 3, from the image to the result.
        window: x1 y1 x2 y2 in the result.

    Returns:
        The pixels, and the map (3 x 3) from them to the result.
    """
    factor = max(1, int(1 / math.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    seen = warp_points(_corners(*window), cv2.invertAffineTransform(matrix))
    area = []
    for low, high, length in zip(
        seen.min(axis=0), seen.max(axis=0), image.shape[1::-1], strict=True
    ):
        first = min(max(0, math.floor(low) - 2 * factor), length - 1)
        last = max(min(length, math.ceil(high) + 2 * factor), first + 1)
        area.append((first, last))
    (left, right), (top, bottom) = area
    source = image[top:bottom, left:right]
    factor = min(factor, *source.shape[:2])
    height, width = (side // factor for side in source.shape[:2])
    if factor > 1:  # of a multiple, which OpenCV does several times as fast
        source = source[: height * factor, : width * factor]
        source = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA)
    to_image = _moved(left, top) @ np.diag([factor, factor, 1])
    return source, np.vstack([matrix, [0, 0, 1]]) @ to_image


def _warped_corners(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns the corners of N x 4 boxes after a 2 x 3 matrix, N x 4 x 2, one beside the other."""
    return warp_points(boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]], matrix)


def _extent(corners: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the least and greatest first coordinate where the second is within 0 and a limit.

    Args:
        corners: N x 4 x 2, of convex shapes.
        limit: Of the second coordinate.

    Returns:
        N values each; infinity and minus infinity for a shape without such a point.
    """
    begin, end = corners, np.roll(corners, -1, axis=1)  # of the sides, N x 4 x 2
    level, rise = begin[..., 1], end[..., 1] - begin[..., 1]
    # Where each side begins and ends between the lines, as shares of its length.
    rising = np.where(rise == 0, 1, rise)
    first = (np.clip(level, 0, limit) - level) / rising
    last = np.where(rise == 0, 1, (np.clip(end[..., 1], 0, limit) - level) / rising)
    shares = np.stack([first, last])
    found = begin[..., 0] + shares * (end[..., 0] - begin[..., 0])  # 2 x N x 4
    between = (np.maximum(level, end[..., 1]) >= 0) & (np.minimum(level, end[..., 1]) <= limit)
    least = np.where(between, found, np.inf).min(axis=(0, 2))
    return least, np.where(between, found, -np.inf).max(axis=(0, 2))


def _corners(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def _moved(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)
