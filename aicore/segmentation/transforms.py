"""Reading masks, and crops of large images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from aicore.datasets.headers import fault_of_size
from aicore.errors import ConfigError, DataError
from aicore.registry import TRANSFORMS
from aicore.segmentation.masks import IGNORE


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Reads the mask of a record of :class:`aicore.SegmentationDataset`.

    A record without a mask, such as an image in a demo, stays as it is. In a test pipeline it
    stands behind the transforms of the image: predictions are compared in the original size.

    Required keys: ``ori_shape``; ``mask_format``, ``seg_map_path`` and ``relative_path``, or none
    of them. Set keys: ``gt_seg_map`` (H x W uint8, class indices and 255 for ignored pixels).

    Raises:
        DataError: The mask cannot be read, or is not of its image's size.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sets ``gt_seg_map`` in the record."""
        mask_format = results.pop("mask_format", None)
        if mask_format is None:
            return results
        size, path = results["ori_shape"], results["seg_map_path"]
        if path is None:
            mask = np.zeros(size, np.uint8)
        else:
            mask = mask_format.read(path, results["relative_path"])
            fault = fault_of_size("mask", path, mask.shape, results["img_path"], size)
            if fault and not results.get("not_inspected"):
                raise DataError(f"{fault}.")
        results["gt_seg_map"] = mask
        return results


@TRANSFORMS.register_module()
class RandomClassCrop(BaseTransform):
    """Cuts a random part out of image and mask, which often shows a rare class.

    With probability ``class_share`` one of the classes in the mask is drawn, each as likely as the
    other however small its area, then one of its pixels, and the crop holds that pixel. Else the
    crop lies anywhere, so that the background is learnt too. A smaller image is padded at the
    bottom and the right: with 0 in the image, with 255 (ignored) in the mask.

    Required keys: ``img``, ``gt_seg_map``. Set keys: both, and ``img_shape``.

    Args:
        size: Height and width of the crop in pixels.
        class_share: Probability in [0, 1] of a crop around a drawn class.

    Raises:
        ConfigError: An argument is outside its values.
    """

    def __init__(self, size: tuple[int, int], class_share: float = 0.75) -> None:
        if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
            raise ConfigError(
                f"aicore.RandomClassCrop: size is {size!r}; expected (height, width) in pixels."
            )
        if not 0 <= class_share <= 1:
            raise ConfigError(
                f"aicore.RandomClassCrop: class_share is {class_share!r}; expected a number in "
                "[0, 1]."
            )
        self.size = tuple(size)
        self.class_share = class_share

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crops the record in place."""
        mask = results["gt_seg_map"]
        top, left = self._corner(mask)
        area = slice(top, top + self.size[0]), slice(left, left + self.size[1])
        results["img"] = self._padded(results["img"][area], 0)
        results["gt_seg_map"] = self._padded(mask[area], IGNORE)
        results["img_shape"] = self.size
        return results

    def _corner(self, mask: np.ndarray) -> tuple[int, int]:
        room = [max(0, side - crop) for side, crop in zip(mask.shape, self.size, strict=True)]
        first, last = [0, 0], room
        if np.random.random() < self.class_share:
            present = np.flatnonzero(np.bincount(mask.ravel(), minlength=IGNORE + 1)[:IGNORE])
            if len(present):
                places = np.flatnonzero(mask == np.random.choice(present))
                pixel = np.unravel_index(np.random.choice(places), mask.shape)
                # All corners whose crop holds the pixel.
                first = [max(0, p - crop + 1) for p, crop in zip(pixel, self.size, strict=True)]
                first = [min(f, r) for f, r in zip(first, room, strict=True)]
                last = [min(int(p), r) for p, r in zip(pixel, room, strict=True)]
        top, left = (np.random.randint(f, r + 1) for f, r in zip(first, last, strict=True))
        return int(top), int(left)

    def _padded(self, pixels: np.ndarray, value: int) -> np.ndarray:
        below, beside = (s - p for s, p in zip(self.size, pixels.shape[:2], strict=True))
        if not below and not beside:
            return np.ascontiguousarray(pixels)
        return cv2.copyMakeBorder(
            pixels, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=[value] * 3
        )

    def __repr__(self) -> str:
        return f"RandomClassCrop(size={self.size}, class_share={self.class_share})"
