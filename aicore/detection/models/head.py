"""YOLOX's head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models import YOLOXHead as BaseYOLOXHead
from mmdet.models.task_modules import MlvlPointGenerator
from torch import Tensor

from aicore.registry import MODELS


@MODELS.register_module()
class YOLOXHead(BaseYOLOXHead):
    """mmdet's ``YOLOXHead`` with losses and boxes in float32, under autocast too.

    Positions beyond 256 pixels have no exact value in bfloat16, nor have sums of thousands of
    losses.

    See :class:`mmdet.models.YOLOXHead` for the arguments.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prior_generator = _Points(self.strides, offset=0)

    def loss_by_feat(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        objectnesses: Sequence[Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Returns the losses of the head's outputs; see mmdet's for the arguments."""
        outputs = [
            [level.float() for level in levels] for levels in (cls_scores, bbox_preds, objectnesses)
        ]
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            return super().loss_by_feat(*outputs, *args, **kwargs)

    def decode(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        objectnesses: Sequence[Tensor],
    ) -> Tensor:
        """Returns boxes and scores of the head's outputs.

        Args:
            cls_scores: One N x C x h x w a level.
            bbox_preds: One N x 4 x h x w a level.
            objectnesses: One N x 1 x h x w a level.

        Returns:
            N x P x (4 + C): x1, y1, x2, y2 in pixels of the input, and for each class the product
            of its score and the objectness, in [0, 1]; level by level, row by row.
        """
        classes, boxes, objects = (
            torch.cat([level.float().flatten(2) for level in levels], dim=2).transpose(1, 2)
            for levels in (cls_scores, bbox_preds, objectnesses)
        )
        sizes = [level.shape[2:] for level in cls_scores]
        priors = self.prior_generator.grid_priors(sizes, device=boxes.device, with_stride=True)
        boxes = self._bbox_decode(torch.cat(priors), boxes)
        return torch.cat([boxes, classes.sigmoid() * objects.sigmoid()], dim=2)


class _Points(MlvlPointGenerator):
    """mmdet's, which leaves the order of torch's ``meshgrid`` open; torch warns of that."""

    def _meshgrid(self, x: Tensor, y: Tensor, row_major: bool = True) -> tuple[Tensor, Tensor]:
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        points = columns.reshape(-1), rows.reshape(-1)
        return points if row_major else points[::-1]
