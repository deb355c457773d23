"""Test-time augmentation: the objects of several views of an image."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip, bbox_overlaps
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData

from aicore.detection.models.boxes import suppress
from aicore.registry import MODELS


@MODELS.register_module()
class DetectionTTA(BaseTTAModel):
    """Joins the objects of several views, flipped or scaled.

    What is left by non-maximum suppression over all views gets the mean of the views' boxes,
    weighted by their scores, and the mean of their scores; a view that does not see it counts 0.
    Source: Solovyev et al., Weighted boxes fusion, 2021, after suppression instead of in its place.

    The original image is what has to be flipped, before it is scaled and padded: the views' boxes
    are in its pixels.

    Args:
        iou_threshold: Overlap from which boxes of one class are the same object; see
            :func:`aicore.detection.models.boxes.suppress` too.
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
        seen = [_turned_back(view) for view in views]
        kept = suppress(InstanceData.cat(seen), self.iou_threshold, self.max_per_img)
        merged.pred_instances = _mean_of(kept, seen, self.iou_threshold)
        return merged


def _mean_of(
    objects: InstanceData, views: list[InstanceData], iou_threshold: float
) -> InstanceData:
    """Returns objects, best first, with the mean box and score of the views' best matches."""
    boxes, scores = torch.zeros_like(objects.bboxes), torch.zeros_like(objects.scores)
    for view in views:
        if not len(view):
            continue
        same = objects.labels[:, None] == view.labels
        same &= bbox_overlaps(objects.bboxes, view.bboxes) >= iou_threshold
        best, match = torch.where(same, view.scores, 0.0).max(dim=1)
        boxes += best[:, None] * view.bboxes[match]
        scores += best
    mean = {"bboxes": boxes / scores[:, None], "scores": scores / len(views)}
    return InstanceData(**{**objects, **mean})[scores.argsort(descending=True, stable=True)]


def _turned_back(view: DetDataSample) -> InstanceData:
    found = view.pred_instances
    if not view.get("flip", False):
        return found
    boxes = bbox_flip(found.bboxes, view.ori_shape, view.flip_direction)
    return InstanceData(**{**found, "bboxes": boxes})
