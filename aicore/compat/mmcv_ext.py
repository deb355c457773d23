"""What ``mmcv._ext`` offers, on torchvision and plain torch.

This file is loaded under the name ``mmcv._ext`` where mmcv has no compiled ops. Names, argument
orders and keywords are those with which ``mmcv.ops`` calls its extension: results go into tensors
that the caller made, and buffers that only the compiled ops need stay untouched.

Any other op is found too, since mmcv asks for every name when it is imported, and says when it is
called how to get it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from aicore.compat.boxes import bbox_overlaps, nms, nms_match, softnms
from aicore.compat.deformable import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
    ms_deform_attn_backward,
    ms_deform_attn_forward,
)
from aicore.compat.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from aicore.compat.missing import not_compiled
from aicore.compat.rois import (
    roi_align_backward,
    roi_align_forward,
    roi_pool_backward,
    roi_pool_forward,
)

__all__ = [
    "bbox_overlaps",
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "get_compiler_version",
    "get_compiling_cuda_version",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
    "ms_deform_attn_backward",
    "ms_deform_attn_forward",
    "nms",
    "nms_match",
    "roi_align_backward",
    "roi_align_forward",
    "roi_pool_backward",
    "roi_pool_forward",
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softmax_focal_loss_backward",
    "softmax_focal_loss_forward",
    "softnms",
]


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """Answers an op that is not here with a function that raises when it is called."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def missing(*args: Any, **kwargs: Any) -> NoReturn:
        raise not_compiled(f"the op '{name}'")

    return missing


def get_compiler_version() -> str:
    """Returns what mmcv shows as its compiler in a report on the environment."""
    return "none (ops by aicore.compat)"


def get_compiling_cuda_version() -> str:
    """Returns what mmcv shows as its CUDA compiler in a report on the environment."""
    return "none (ops by aicore.compat)"
