"""Training on parts of large images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from aicore.datasets.transforms.arguments import check_share, check_size
from aicore.detection.transforms import box_areas, clip_boxes, large_enough, set_boxes
from aicore.registry import TRANSFORMS
from aicore.runtime.letterbox import PADDING


@TRANSFORMS.register_module()
class RandomBoxCrop(BaseTransform):
    """Cuts a random part out of a large image, which often shows an object.

    With probability ``object_share`` one of the image's classes is drawn, each as likely as the
    other, then one of its boxes, and the crop holds the box, or of a larger one a part. Else it
    lies anywhere, so that the background is learnt too. Of boxes that are cut off the visible part
    stays. A smaller image is padded with grey (114) at the bottom and the right: objects keep the
    size in pixels that they have in a test.

    Required keys: ``img`` and the boxes. Set keys: both, and ``img_shape``.

    Args:
        size: Height and width of the crop in pixels: those of the tiles of a test.
        object_share: Probability in [0, 1] of a crop with an object.
        min_visible: Share in [0, 1] of a box's area that must be left of it.
        min_side: Height and width in pixels that a box must have.

    Raises:
        ConfigError: An argument is outside its values.
    """

    def __init__(
        self,
        size: tuple[int, int],
        object_share: float = 0.75,
        min_visible: float = 0.3,
        min_side: float = 2.0,
    ) -> None:
        self.size = check_size("RandomBoxCrop", size)
        self.object_share = check_share("RandomBoxCrop", "object_share", object_share)
        self.min_visible = check_share("RandomBoxCrop", "min_visible", min_visible)
        self.min_side = min_side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crops the record in place."""
        image, boxes = results["img"], results["gt_bboxes"]
        left, top = self._corner(image.shape[:2], boxes, results["gt_bboxes_labels"])
        crop = image[top : top + self.size[0], left : left + self.size[1]]
        height, width = crop.shape[:2]
        below, beside = self.size[0] - height, self.size[1] - width
        # A copy: a cache of crops must not keep whole images.
        results["img"] = cv2.copyMakeBorder(
            crop, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=[PADDING] * 3
        )
        results["img_shape"] = self.size
        moved = boxes - np.float32([left, top, left, top])
        visible = clip_boxes(moved, (0, 0, width, height))
        kept = large_enough(visible, self.min_side)
        kept &= box_areas(visible) >= self.min_visible * box_areas(moved)
        set_boxes(results, visible, kept)
        return results

    def _corner(
        self, shape: tuple[int, int], boxes: np.ndarray, labels: np.ndarray
    ) -> tuple[int, int]:
        """Returns the crop's left and top edge."""
        size = np.array(self.size[::-1])
        room = np.maximum(np.array(shape[::-1]) - size, 0)
        first, last = np.zeros(2, int), room
        if len(boxes) and np.random.random() < self.object_share:
            places = np.flatnonzero(labels == np.random.choice(np.unique(labels)))
            box = boxes[np.random.choice(places)]
            # All corners whose crop holds the box; of a larger one, those that lie within it.
            ends = np.stack([np.ceil(box[2:]) - size, np.floor(box[:2])]).astype(int)
            first, last = np.clip(ends.min(0), 0, room), np.clip(ends.max(0), 0, room)
        left, top = (np.random.randint(f, n + 1) for f, n in zip(first, last, strict=True))
        return int(left), int(top)

    def __repr__(self) -> str:
        return (
            f"RandomBoxCrop(size={self.size}, object_share={self.object_share}, "
            f"min_visible={self.min_visible}, min_side={self.min_side})"
        )
