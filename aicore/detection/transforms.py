"""Steps of a pipeline that move boxes with their image, and a change of colour.

The images of a record are HxW, or HxWx3 in BGR order; uint8, or float32 on the scale 0 to 255.
Its boxes are ``gt_bboxes`` (N x 4 float32, x1 y1 x2 y2 in pixels; the image reaches from 0 to its
width and height), with ``gt_bboxes_labels`` and ``gt_ignore_flags`` of length N. No step changes an
array in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import RandomFlip as BaseRandomFlip

from aicore.datasets.transforms.arguments import check_size, is_number, wrong
from aicore.registry import TRANSFORMS
from aicore.runtime.letterbox import letterbox

BOX_KEYS = ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags")

_DIRECTIONS = ["horizontal", "vertical", "diagonal"]
_HUES = 180  # OpenCV's hue of an 8-bit image counts two degrees as one


@TRANSFORMS.register_module()
class Letterbox(BaseTransform):
    """Fits the image into ``size`` without distorting it, and pads it at the bottom or the right.

    The padding is grey (114). Boxes are clipped to the image; one that is left with less than a
    pixel in height or width is dropped: nothing of it could be learnt. An image of that size
    already stays as it is, with its boxes.

    Required keys: ``img``; boxes are optional. Set keys: ``img``, ``img_shape``, ``scale_factor``
    (in x and in y, pixels of the result over pixels of the original image) and the boxes.

    Args:
        size: Height and width in pixels.

    Raises:
        ConfigError: ``size`` is not two whole numbers of at least 1.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = check_size("Letterbox", size)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resizes and pads the record."""
        image = results["img"]
        results["img"], scale = letterbox(image, self.size)
        results["img_shape"] = self.size
        before = results.get("scale_factor", (1.0, 1.0))
        results["scale_factor"] = before[0] * scale[0], before[1] * scale[1]
        if "gt_bboxes" in results and image.shape[:2] != self.size:
            height, width = image.shape[:2]
            boxes = clip_boxes(results["gt_bboxes"], (0, 0, width, height))
            boxes = boxes * np.float32([*scale, *scale])
            set_boxes(results, boxes, large_enough(boxes, 1))
        return results

    def __repr__(self) -> str:
        return f"Letterbox(size={self.size})"


@TRANSFORMS.register_module()
class RandomFlip(BaseRandomFlip):
    """Mirrors image and boxes in a random one of some directions, or not: all are as likely.

    Required keys: ``img``; boxes are optional. Set keys: both, ``flip`` and ``flip_direction``.

    Args:
        directions: Of ``horizontal`` (left to right), ``vertical`` and ``diagonal`` (both); none:
            images stay as they are.

    Raises:
        ConfigError: ``directions`` is no list of these.
    """

    def __init__(self, directions: Sequence[str] = ("horizontal",)) -> None:
        is_list = isinstance(directions, list | tuple)
        if not is_list or not set(directions) <= set(_DIRECTIONS):
            raise wrong("RandomFlip", "directions", directions, f"a list of {_DIRECTIONS}")
        share = 1 / (len(directions) + 1) if directions else 0.0
        directions = list(directions) or ["horizontal"]  # mmdet's takes no empty list
        super().__init__([share] * len(directions), directions)

    def __repr__(self) -> str:
        return f"RandomFlip(directions={self.direction}, prob={self.prob})"


@TRANSFORMS.register_module()
class RandomHSV(BaseTransform):
    """Shifts hue, saturation and value, each in every other image, by up to the given amounts.

    As in YOLOX (Ge et al. 2021). Of a grey image only the brightness changes.

    Required and set key: ``img``.

    Args:
        hue: Largest shift of the hue, 0 to 90: half degrees of the colour circle.
        saturation: Largest shift of the saturation, 0 to 255, of 255.
        value: Largest shift of the value (the brightest channel), 0 to 255.

    Raises:
        ConfigError: An amount is outside its values.
    """

    def __init__(self, hue: float = 5, saturation: float = 30, value: float = 30) -> None:
        amounts = {"hue": (hue, 90), "saturation": (saturation, 255), "value": (value, 255)}
        for name, (amount, limit) in amounts.items():
            if not is_number(amount) or not 0 <= amount <= limit:
                raise wrong("RandomHSV", name, amount, f"a number in [0, {limit}]")
        self.amounts = (hue, saturation, value)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes the image's colours."""
        shifts = np.random.uniform(-1, 1, 3) * self.amounts * np.random.randint(0, 2, 3)
        image = results["img"]
        if image.dtype == np.uint8:
            shifts = np.rint(shifts)
        if shifts[2:].any() if image.ndim == 2 else shifts.any():
            results["img"] = shift_colours(image, *shifts.tolist())
        return results

    def __repr__(self) -> str:
        hue, saturation, value = self.amounts
        return f"RandomHSV(hue={hue}, saturation={saturation}, value={value})"


# ---- images ----


def shift_colours(image: np.ndarray, hue: float, saturation: float, value: float) -> np.ndarray:
    """Returns an image with shifted colours; saturation and value stay within 0 to 255.

    Args:
        image: HxW, of which only the value is shifted, or HxWx3 in BGR order; uint8 or float32.
        hue: In half degrees, a whole number for uint8, as the other shifts.
        saturation: Of 255.
        value: Of 255.
    """
    if image.ndim == 2:
        if image.dtype == np.uint8:
            return cv2.add(image, value)  # clips
        return np.clip(image + np.float32(value), 0, 255)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if image.dtype == np.uint8:
        levels = np.arange(256)
        tables = (
            (levels + hue) % _HUES,
            np.clip(levels + saturation, 0, 255),
            np.clip(levels + value, 0, 255),
        )
        for channel, (shift, table) in enumerate(
            zip((hue, saturation, value), tables, strict=True)
        ):
            if shift:
                shifted = cv2.LUT(cv2.extractChannel(hsv, channel), table.astype(np.uint8))
                cv2.insertChannel(shifted, hsv, channel)
    else:  # in degrees, from 0 to 1, and on the image's own scale
        hsv[..., 0] = (hsv[..., 0] + np.float32(2 * hue)) % np.float32(360)
        hsv[..., 1] = np.clip(hsv[..., 1] + np.float32(saturation / 255), 0, 1)
        hsv[..., 2] = np.clip(hsv[..., 2] + np.float32(value), 0, 255)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


# ---- boxes ----


def clip_boxes(boxes: np.ndarray, area: tuple[float, float, float, float]) -> np.ndarray:
    """Returns N x 4 boxes cut off at an area (x1, y1, x2, y2); one outside it has no side left."""
    left, top, right, bottom = area
    low, high = np.float32([left, top] * 2), np.float32([right, bottom] * 2)
    return np.clip(boxes, low, high)


def flip_boxes(boxes: np.ndarray, width: float) -> np.ndarray:
    """Returns N x 4 boxes mirrored left to right in an image of ``width`` pixels."""
    flipped = boxes.copy()
    flipped[:, [2, 0]] = width - boxes[:, [0, 2]]
    return flipped


def large_enough(boxes: np.ndarray, min_side: float) -> np.ndarray:
    """Tells for N x 4 boxes whether height and width are both above 0 and at least ``min_side``."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return ((sides >= min_side) & (sides > 0)).all(axis=1)


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Returns the areas of N x 4 boxes in pixels."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def set_boxes(results: dict[str, Any], boxes: np.ndarray, kept: np.ndarray) -> None:
    """Puts those of the moved boxes that are kept into a record, with their labels and flags."""
    results["gt_bboxes"] = boxes.astype(np.float32, copy=False)
    for key in BOX_KEYS:
        results[key] = results[key][kept]
