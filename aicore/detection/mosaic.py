"""Training images made of several: mosaic and mixup.

A pipeline has them behind the loading of its own image::

    load = [dict(type="aicore.LoadImage"), dict(type="aicore.LoadBoxes")]
    pipeline = [
        *load,
        dict(type="aicore.LoadOthers", load=load, cache_size=0),
        dict(type="aicore.Mosaic", size=(640, 640)),
        dict(type="aicore.MixUp", size=(640, 640)),
        ...
    ]

They act on records that the data set gives a ``draw_another``, and leave all else as it is: that is
how mosaic is switched off for the last epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from aicore.datasets.transforms.arguments import (
    check_scale,
    check_share,
    check_size,
    is_number,
    wrong,
)
from aicore.detection.transforms import (
    BOX_KEYS,
    Letterbox,
    box_areas,
    clip_boxes,
    flip_boxes,
    large_enough,
)
from aicore.detection.warping import draw_warped, visible_boxes, warp_boxes
from aicore.registry import TRANSFORMS
from aicore.runtime.letterbox import PADDING, resize


class _Mixing(BaseTransform):
    """What mosaic and mixup share: when they act, and which boxes they keep."""

    def __init__(
        self,
        size: tuple[int, int],
        probability: float,
        scale: tuple[float, float],
        min_visible: float,
        min_side: float,
    ) -> None:
        step = type(self).__name__
        self.size = check_size(step, size)
        self.probability = check_share(step, "probability", probability)
        self.scale = check_scale(step, scale)
        self.min_visible = check_share(step, "min_visible", min_visible)
        if not is_number(min_side) or min_side < 0:
            raise wrong(step, "min_side", min_side, "pixels, at least 0")
        self.min_side = min_side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mixes others into the record, or leaves it."""
        others = results.get("others")
        if others is None or np.random.random() >= self.probability:
            return results
        results.update(self._mix(results, others))
        results["img_shape"] = self.size
        return results

    def _mix(
        self, record: dict[str, Any], others: Iterator[dict[str, Any]]
    ) -> dict[str, np.ndarray]:
        """Returns image and boxes of the result."""
        raise NotImplementedError

    def _keep(
        self, record: dict[str, Any], whole: np.ndarray, visible: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns the boxes of a record that stay, with their labels and flags.

        Args:
            record: It holds labels and flags.
            whole: N x 4 boxes in the result, those outside it too.
            visible: What of them is visible, N x 4.
        """
        kept = large_enough(visible, self.min_side)
        kept &= box_areas(visible) >= self.min_visible * box_areas(whole)
        return {**{key: record[key][kept] for key in BOX_KEYS}, "gt_bboxes": visible[kept]}

    def _blank(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns a grey image of the result's size, in a type that holds those of all images."""
        channels = images[0].shape[2:]
        return np.full((*self.size, *channels), PADDING, np.result_type(*images))


@TRANSFORMS.register_module()
class Mosaic(_Mixing):
    """Puts four images around a point, then turns, scales, shears and moves them all.

    The recipe of YOLOX (Ge et al. 2021; mosaic: Bochkovskiy et al., YOLOv4, 2020): each image is
    fitted into ``size`` and laid with a corner at a random point of a canvas of twice that size,
    which is then seen through a random affine map around its middle. Neither canvas nor fitted
    images are made: every image is warped once, from its own pixels into its part of the result.
    What no image covers is grey (114).

    Boxes become the bounding boxes of what is seen of the turned ones. A box of which too little is
    seen is dropped. An image that is left without boxes stays.

    Required keys: ``img``, boxes, ``others``; without ``others`` the record stays as it is. Set
    keys: ``img``, ``img_shape`` and the boxes.

    Args:
        size: Height and width of the result, in pixels.
        probability: Share of the images that become a mosaic, in [0, 1].
        scale: Smallest and largest scale of the canvas; at 0.5 the whole of it is seen.
        rotate: Largest angle to either side, in degrees, 0 to 180.
        translate: Largest shift to every side, as a share of ``size``, in [0, 1].
        shear: Largest shear in x and in y, in degrees, 0 to 30.
        min_visible: Share in [0, 1] of a box's area that must be left of it.
        min_side: Height and width in pixels of the result that a box must have.

    Raises:
        ConfigError: An argument is outside its values.
    """

    def __init__(
        self,
        size: tuple[int, int],
        probability: float = 1.0,
        scale: tuple[float, float] = (0.1, 2.0),
        rotate: float = 10.0,
        translate: float = 0.1,
        shear: float = 2.0,
        min_visible: float = 0.1,
        min_side: float = 2.0,
    ) -> None:
        super().__init__(size, probability, scale, min_visible, min_side)
        for name, degrees, limit in (("rotate", rotate, 180), ("shear", shear, 30)):
            if not is_number(degrees) or not 0 <= degrees <= limit:
                raise wrong("Mosaic", name, degrees, f"degrees in [0, {limit}]")
        self.rotate, self.shear = rotate, shear
        self.translate = check_share("Mosaic", "translate", translate)

    def _mix(
        self, record: dict[str, Any], others: Iterator[dict[str, Any]]
    ) -> dict[str, np.ndarray]:
        height, width = self.size
        records = [record, *(next(others) for _ in range(3))]
        centre = np.random.uniform(0.5, 1.5, 2) * (width, height)
        view = self._draw_view()
        result = self._blank([record["img"] for record in records])
        kept = []
        for number, record in enumerate(records):
            placement, part = self._place(record["img"], centre, number % 2, number // 2)
            matrix = (view @ placement)[:2]
            draw_warped(result, record["img"], matrix, part)
            whole = warp_boxes(record["gt_bboxes"], matrix)
            visible = visible_boxes(clip_boxes(record["gt_bboxes"], part), matrix, self.size)
            kept.append(self._keep(record, whole, visible))
        return {"img": result, **_joined(kept)}

    def _draw_view(self) -> np.ndarray:
        """Returns a random affine map (3 x 3) from the canvas to the result, in pixels."""
        angle = math.radians(np.random.uniform(-self.rotate, self.rotate))
        across, down = np.tan(np.radians(np.random.uniform(-self.shear, self.shear, 2)))
        scale = np.random.uniform(*self.scale)
        shift = np.random.uniform(-self.translate, self.translate, 2)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        linear = np.array([[1, across], [down, 1]]) @ (scale * turn)
        size = np.array(self.size[::-1])  # in x and y; also the middle of the canvas
        view = np.eye(3)
        view[:2, :2] = linear
        view[:2, 2] = size * (0.5 + shift) - linear @ size
        return view

    def _place(
        self, image: np.ndarray, centre: np.ndarray, right: int, below: int
    ) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        """Returns the map (3 x 3) from an image to the canvas, and its part (x1 y1 x2 y2) there."""
        height, width = image.shape[:2]
        scale = min(self.size[0] / height, self.size[1] / width)
        x = centre[0] - (1 - right) * width * scale
        y = centre[1] - (1 - below) * height * scale
        part = (
            max(0.0, -x / scale),
            max(0.0, -y / scale),
            min(float(width), (2 * self.size[1] - x) / scale),
            min(float(height), (2 * self.size[0] - y) / scale),
        )
        return np.array([[scale, 0, x], [0, scale, y], [0, 0, 1]]), part

    def __repr__(self) -> str:
        return (
            f"Mosaic(size={self.size}, probability={self.probability}, scale={self.scale}, "
            f"rotate={self.rotate}, translate={self.translate}, shear={self.shear}, "
            f"min_visible={self.min_visible}, min_side={self.min_side})"
        )


@TRANSFORMS.register_module()
class MixUp(_Mixing):
    """Blends the image with another one, half and half, and takes the boxes of both.

    The recipe of YOLOX (Ge et al. 2021): the other image, itself no mosaic, is fitted into
    ``size`` and padded with grey (114), resized by a random factor, mirrored or not, and cropped
    or padded to ``size`` at a random place. A record of another size is fitted into ``size`` first.

    Boxes of the other image are cut off at the edge; one of which too little is left is dropped.

    Required keys: ``img``, boxes, ``others``; without ``others`` the record stays as it is. Set
    keys: ``img``, ``img_shape`` and the boxes.

    Args:
        size: Height and width of the result, in pixels.
        probability: Share of the images that are blended, in [0, 1].
        scale: Smallest and largest factor.
        flip: Probability in [0, 1] that the other image is mirrored.
        min_visible: Share in [0, 1] of a box's area that must be left of it.
        min_side: Height and width in pixels of the result that a box must have.

    Raises:
        ConfigError: An argument is outside its values.
    """

    def __init__(
        self,
        size: tuple[int, int],
        probability: float = 1.0,
        scale: tuple[float, float] = (0.8, 1.6),
        flip: float = 0.5,
        min_visible: float = 0.1,
        min_side: float = 2.0,
    ) -> None:
        super().__init__(size, probability, scale, min_visible, min_side)
        self.flip = check_share("MixUp", "flip", flip)
        self._fit = Letterbox(size)

    def _mix(
        self, record: dict[str, Any], others: Iterator[dict[str, Any]]
    ) -> dict[str, np.ndarray]:
        record = self._fit(record)
        other = next(others)
        image = self._blank([record["img"], other["img"]])
        boxes = self._draw_other(image, other)
        own = record["img"].astype(image.dtype, copy=False)
        blended = cv2.addWeighted(own, 0.5, image, 0.5, 0)
        return {"img": blended, **_joined([{key: record[key] for key in BOX_KEYS}, boxes])}

    def _draw_other(self, result: np.ndarray, other: dict[str, Any]) -> dict[str, np.ndarray]:
        """Draws the other image into ``result``, and returns those of its boxes that stay."""
        height, width = self.size
        image, boxes = other["img"], other["gt_bboxes"]
        factor = np.random.uniform(*self.scale)
        fitted = factor * min(height / image.shape[0], width / image.shape[1])
        before = image.shape[:2]
        image = resize(image, [max(1, round(side * fitted)) for side in before])
        boxes = boxes * np.float32([image.shape[1] / before[1], image.shape[0] / before[0]] * 2)
        # The canvas around it, in which it lies at the top left, or mirrored at the top right.
        used = image.shape[:2]
        canvas = [max(round(side * factor), u) for side, u in zip(self.size, used, strict=True)]
        left = top = 0
        if np.random.random() < self.flip:
            image, boxes = cv2.flip(image, 1), flip_boxes(boxes, image.shape[1])
            left = canvas[1] - image.shape[1]
        top -= np.random.randint(max(0, canvas[0] - height) + 1)
        left -= np.random.randint(max(0, canvas[1] - width) + 1)
        seen = image[max(0, -top) : height - top, max(0, -left) : width - left]
        y, x = max(0, top), max(0, left)
        result[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
        boxes = boxes + np.float32([left, top, left, top])
        return self._keep(other, boxes, clip_boxes(boxes, (0, 0, width, height)))

    def __repr__(self) -> str:
        return (
            f"MixUp(size={self.size}, probability={self.probability}, scale={self.scale}, "
            f"flip={self.flip}, min_visible={self.min_visible}, min_side={self.min_side})"
        )


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the boxes of several records with their labels and flags, one after the other."""
    return {key: np.concatenate([part[key] for part in parts]) for key in BOX_KEYS}
