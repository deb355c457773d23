"""mmcv's pooling of regions: RoIAlign and RoIPool.

RoIs have shape (R, 5): the index in the batch, then ``(x1, y1, x2, y2)`` in pixels of the image,
which ``spatial_scale`` takes to cells of the features (N, C, H, W).
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torchvision.ops
from torch import Tensor

from aicore.compat.missing import not_compiled
from aicore.compat.numerics import at_least_float32, gradients

_MAX_POOLING = 0


def _roi_align(
    features: Tensor,
    rois: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> Tensor:
    if pool_mode == _MAX_POOLING:
        raise not_compiled("RoIAlign with pool_mode='max' (it has 'avg')")
    output_size = (aligned_height, aligned_width)
    features, rois = at_least_float32(features, rois)
    return torchvision.ops.roi_align(
        features, rois, output_size, spatial_scale, sampling_ratio, aligned
    )


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    **sampling: Any,
) -> None:
    """Fills ``output`` (R, C, h, w) with the average of each bin (https://arxiv.org/abs/1703.06870).

    Raises:
        AicoreError: ``pool_mode`` asks for the maximum.
    """
    output.copy_(_roi_align(features, rois, **sampling))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    **sampling: Any,
) -> None:
    """Fills ``grad_input`` (N, C, H, W)."""
    # The op is linear: its gradient is the same at any features, so at zero.
    anywhere = torch.zeros_like(grad_input)
    (gradient,) = gradients(lambda x: _roi_align(x, rois, **sampling), [anywhere], grad_output)
    grad_input.copy_(gradient)


def _bins(
    low: Tensor, high: Tensor, count: int, spatial_scale: float, size: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Returns where each RoI's ``count`` bins start and end, in cells along an axis of ``size``."""
    start = low * spatial_scale
    length = (high + 1) * spatial_scale - start
    steps = torch.arange(count + 1, device=low.device)
    edges = start[:, None] + steps * (length / count)[:, None]
    starts = edges[:, :-1].floor().clamp(0, size)
    ends = torch.where(length[:, None] > 0, edges[:, 1:].ceil().clamp(0, size), starts)
    return starts.int().tolist(), ends.int().tolist()


def roi_pool_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fills ``output`` (R, C, h, w) with each bin's maximum (https://arxiv.org/abs/1504.08083).

    ``argmax``, of the same shape, receives the maximum's flat index in H x W; a bin without
    cells gives 0 and -1. torchvision's op is not used: it rounds a RoI's corners, mmcv does not.
    """
    height, width = features.shape[-2:]
    tops, bottoms = _bins(rois[:, 2], rois[:, 4], pooled_height, spatial_scale, height)
    lefts, rights = _bins(rois[:, 1], rois[:, 3], pooled_width, spatial_scale, width)
    images = rois[:, 0].int().tolist()
    output.zero_()
    argmax.fill_(-1)
    for roi, row, column in product(range(len(rois)), range(pooled_height), range(pooled_width)):
        top, bottom = tops[roi][row], bottoms[roi][row]
        left, right = lefts[roi][column], rights[roi][column]
        if top < bottom and left < right:
            region = features[images[roi], :, top:bottom, left:right].flatten(1)
            output[roi, :, row, column], place = region.max(dim=1)
            y, x = top + place // (right - left), left + place % (right - left)
            argmax[roi, :, row, column] = (y * width + x).int()


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Adds each bin's gradient to ``grad_input`` (N, C, H, W) where its maximum was."""
    cells = grad_input.view(*grad_input.shape[:2], -1)
    image = rois[:, 0].long()[:, None, None]
    channel = torch.arange(cells.shape[1], device=cells.device)[None, :, None]
    place = argmax.flatten(2).long()
    gradient = grad_output.flatten(2) * (place >= 0)
    cells.index_put_((image, channel, place.clamp(min=0)), gradient, accumulate=True)
