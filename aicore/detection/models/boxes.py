"""From a network's boxes and scores to objects: of an image, of its tiles, of its views."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from aicore.runtime.tiling import Window

_AT_BORDER = 8  # pixels from a tile's border within which a box ends there: the finest stride
_INSIDE = 0.5  # share of a part of an object that lies in the box of the whole
_FAINTER = 0.5  # times the part's score that the whole has to reach to be believed


def best_classes(output: Tensor, score_threshold: float) -> InstanceData:
    """Returns the boxes whose best class scores enough; each box has that class alone.

    Args:
        output: (P, 4 + C): x1, y1, x2, y2 and a score for each class.
        score_threshold: The least score.

    Returns:
        ``bboxes`` (n, 4), ``scores`` (n,), ``labels`` (n,).
    """
    scores, labels = output[:, 4:].max(dim=1)
    found = InstanceData(bboxes=output[:, :4], scores=scores, labels=labels)
    return found[(scores >= score_threshold).nonzero().squeeze(1)]


def suppress(found: InstanceData, iou_threshold: float, max_per_img: int) -> InstanceData:
    """Returns the objects left by non-maximum suppression within each class, best first.

    Args:
        found: ``bboxes``, ``scores`` and ``labels``.
        iou_threshold: Overlap from which of two boxes the one with the lower score is left out.
        max_per_img: The most objects that are returned.
    """
    kept = batched_nms(found.bboxes, found.scores, found.labels, iou_threshold)
    return found[kept[:max_per_img]]


def to_original(
    found: InstanceData, scale_factor: Sequence[float], size: tuple[int, int]
) -> InstanceData:
    """Returns objects in the original image's pixels, cut off at its edges.

    Args:
        found: ``bboxes`` in pixels of the model's input, and other fields.
        scale_factor: By which the image was scaled before, in x and in y.
        size: Height and width of the original image, in pixels. What lies outside is left out.
    """
    boxes = found.bboxes / found.bboxes.new_tensor(scale_factor).repeat(2)
    found = InstanceData(**{**found, "bboxes": clip_boxes_to_image(boxes, size)})
    within = (found.bboxes[:, 2:] > found.bboxes[:, :2]).all(dim=1)
    return found[within.nonzero().squeeze(1)]


def join_tiles(
    found: Sequence[InstanceData], tiles: Sequence[Window], size: tuple[int, int]
) -> InstanceData:
    """Returns the objects of overlapping tiles without parts of those that another tile has whole.

    A box that ends at a border of its tile within the image may be a part of an object. It is left
    out where it lies mostly in a larger box of its class that another tile has seen and that does
    not end there. An object is seen whole by some tile if it is no larger than the overlap of
    tiles. Boxes of what two tiles see whole are left to :func:`suppress`.

    Args:
        found: Of each tile, with ``bboxes`` in pixels of the image.
        tiles: Where they lie.
        size: Height and width of the image, in pixels.
    """
    clipped = [
        InstanceData(**{**objects, "bboxes": _clip(objects.bboxes, tile)})
        for objects, tile in zip(found, tiles, strict=True)
    ]
    every = InstanceData.cat(clipped)
    cut = torch.cat(
        [_ends_at_border(o.bboxes, t, size) for o, t in zip(clipped, tiles, strict=True)]
    )
    kept = torch.ones_like(every.labels, dtype=torch.bool)
    first = 0
    for objects in clipped:  # one tile's against all: not all against all, which may be too many
        own = slice(first, first + len(objects))
        first = own.stop
        parts = cut[own].any(dim=1).nonzero().squeeze(1) + own.start
        if len(parts):
            inside = _is_part(every, cut, parts)
            inside[:, own] = False
            kept[parts] = ~inside.any(dim=1)
    return every[kept.nonzero().squeeze(1)]


def _clip(boxes: Tensor, tile: Window) -> Tensor:
    """Returns boxes cut off at the tile's borders: beyond them nothing was seen."""
    corner = boxes.new_tensor([tile.left, tile.top, tile.left, tile.top])
    size = (tile.bottom - tile.top, tile.right - tile.left)
    return clip_boxes_to_image(boxes - corner, size) + corner


def _ends_at_border(boxes: Tensor, tile: Window, size: tuple[int, int]) -> Tensor:
    """Returns (n, 4), left, top, right, bottom: where boxes end at a border within the image."""
    borders = boxes.new_tensor([tile.left, tile.top, tile.right, tile.bottom])
    image_edges = boxes.new_tensor([0, 0, size[1], size[0]])
    return ((boxes - borders).abs() < _AT_BORDER) & (borders != image_edges)


def _is_part(every: InstanceData, cut: Tensor, parts: Tensor) -> Tensor:
    """Returns (parts, n): which boxes are the wholes of which of ``parts``, indices of boxes."""
    boxes, scores, labels = every.bboxes, every.scores, every.labels
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    area = width * height
    return (
        (bbox_overlaps(boxes[parts], boxes, mode="iof") > _INSIDE)
        & (labels[parts, None] == labels)
        & (cut[parts, None] & ~cut).any(dim=2)
        & (area[parts, None] < area)
        & (scores[parts, None] * _FAINTER <= scores)
    )
