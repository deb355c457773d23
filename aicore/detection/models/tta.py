"""Test-time augmentation: the objects of several views of an image."""

from __future__ import annotations

from typing import Any

from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData

from aicore.detection.models.boxes import suppress
from aicore.registry import MODELS


@MODELS.register_module()
class DetectionTTA(BaseTTAModel):
    """Joins the objects of several views, flipped or scaled, by non-maximum suppression.

    The original image is what has to be flipped, before it is scaled and padded: the views' boxes
    are in its pixels.

    Args:
        iou_threshold: See :func:`aicore.detection.models.boxes.suppress`.
        max_per_img: The most objects in an image.
        **kwargs: Further arguments of :class:`mmengine.model.BaseTTAModel`.
    """

    def __init__(self, iou_threshold: float = 0.65, max_per_img: int = 300, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.iou_threshold = iou_threshold
        self.max_per_img = max_per_img

    def merge_preds(self, data_samples_list: list[list[DetDataSample]]) -> list[DetDataSample]:
        """Returns one data sample for the views of each image.

        Args:
            data_samples_list: The views of each image, with ``pred_instances``.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: list[DetDataSample]) -> DetDataSample:
        merged = views[0].clone()
        found = InstanceData.cat([_turned_back(view) for view in views])
        merged.pred_instances = suppress(found, self.iou_threshold, self.max_per_img)
        return merged


def _turned_back(view: DetDataSample) -> InstanceData:
    found = view.pred_instances
    if not view.get("flip", False):
        return found
    boxes = bbox_flip(found.bboxes, view.ori_shape, view.flip_direction)
    return InstanceData(**{**found, "bboxes": boxes})
