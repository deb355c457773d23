"""mmcv's ops on boxes: overlap, NMS, soft-NMS.

Boxes are ``(x1, y1, x2, y2)`` in pixels; with ``offset`` 1 a box is ``x2 - x1 + 1`` wide.
"""

from __future__ import annotations

import torch
import torchvision.ops
from torch import Tensor

from aicore.compat.numerics import at_least_float32

# mmcv's numbers for its modes; 0 is the other one: soft-NMS 'naive', overlap 'iou'.
_LINEAR, _GAUSSIAN = 1, 2
_OVER_FOREGROUND = 1


def _overlaps(boxes1: Tensor, boxes2: Tensor, offset: int, mode: int = 0) -> Tensor:
    """Returns the IoU of boxes (..., 4) whose leading dimensions broadcast; 0 without area.

    With mode 1 the intersection over the area of ``boxes1``.
    """
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    intersection = (bottom_right - top_left + offset).clamp(min=0).prod(-1)
    area1 = (boxes1[..., 2:] - boxes1[..., :2] + offset).prod(-1)
    area2 = (boxes2[..., 2:] - boxes2[..., :2] + offset).prod(-1)
    base = area1 if mode == _OVER_FOREGROUND else area1 + area2 - intersection
    return (intersection / base).nan_to_num(0.0)


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Fills ``ious`` for boxes (M, 4) and (N, 4): (M, N), or (M,) of pairs when aligned.

    ``mode`` 0 is the intersection over the union, 1 over the area of ``bboxes1``.
    """
    first = bboxes1 if aligned else bboxes1[:, None]
    ious.copy_(_overlaps(first, bboxes2, offset, mode))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Returns the indices (K,) of the boxes (N, 4) that stay, by falling score (N,).

    A box goes when its IoU with a better one is above the threshold.
    """
    boxes, scores = at_least_float32(boxes, scores)
    # A box moved by offset at its far corner has just mmcv's area and intersections.
    boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al. 2017, https://arxiv.org/abs/1704.04503), on the CPU.

    Fills the first K rows of ``dets`` (N, 5) with boxes and lowered scores, and returns the
    boxes' indices (K,). ``method`` is 0 naive, 1 linear, 2 gaussian.
    """
    indices = torch.arange(len(boxes))
    kept: list[int] = []
    while len(indices):
        best = int(scores.argmax())
        dets[len(kept)] = torch.cat([boxes[best], scores[best, None]])
        kept.append(int(indices[best]))
        rest = torch.arange(len(indices)) != best
        overlap = _overlaps(boxes[best], boxes[rest], offset)
        lowered = scores[rest] * _soft_nms_weight(overlap, iou_threshold, sigma, method)
        good = lowered >= min_score
        boxes, scores, indices = boxes[rest][good], lowered[good], indices[rest][good]
    return torch.tensor(kept, dtype=torch.long)


def _soft_nms_weight(overlap: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    if method == _GAUSSIAN:
        return torch.exp(-(overlap**2) / sigma)
    lowered = 1 - overlap if method == _LINEAR else 0.0
    return torch.where(overlap >= iou_threshold, lowered, 1.0)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Returns groups of indices into ``dets`` (N, 5): a box that stays, then those it ends.

    Here an IoU equal to the threshold ends a box, and groups go by falling score.
    """
    order = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        ended = _overlaps(dets[order[0], :4], dets[order, :4], offset=0) >= iou_threshold
        ended[0] = True  # a box without area does not overlap itself
        groups.append(order[ended].tolist())
        order = order[~ended]
    return groups
