"""mmcv's deformable ops: convolution, modulated convolution, multi-scale attention.

Offsets (N, 2 * groups * kh * kw, h, w) are in pixels, ``y`` before ``x``. The sizes that mmcv
passes beside stride, padding and dilation follow from the tensors.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import deform_conv2d

from aicore.compat.numerics import at_least_float32, gradients


def _deform_conv(features: Tensor, offset: Tensor, weight: Tensor, sizes: dict[str, int]) -> Tensor:
    return deform_conv2d(
        *at_least_float32(features, offset, weight),
        stride=(sizes["dH"], sizes["dW"]),
        padding=(sizes["padH"], sizes["padW"]),
        dilation=(sizes["dilationH"], sizes["dilationW"]),
    )


def deform_conv_forward(
    features: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **sizes: int,
) -> None:
    """Fills ``output`` (N, C', h, w) (Dai et al. 2017, https://arxiv.org/abs/1703.06211)."""
    output.copy_(_deform_conv(features, offset, weight, sizes))


def deform_conv_backward_input(
    features: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Fills ``grad_input`` (N, C, H, W) and ``grad_offset``."""
    by_features, by_offset = gradients(
        lambda x, shift: _deform_conv(x, shift, weight, sizes), [features, offset], grad_output
    )
    grad_input.copy_(by_features)
    grad_offset.copy_(by_offset)


def deform_conv_backward_parameters(
    features: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **sizes: int,
) -> None:
    """Adds ``scale`` times the weight's gradient to ``grad_weight`` (C', C / groups, kh, kw)."""
    # The op is linear in its weight: grad_weight stands in for a weight of its shape.
    (by_weight,) = gradients(
        lambda kernel: _deform_conv(features, offset, kernel, sizes), [grad_weight], grad_output
    )
    grad_weight.add_(by_weight, alpha=scale)


def _modulated_deform_conv(
    features: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    sizes: dict[str, int],
) -> Tensor:
    features, offset, mask, weight, bias = at_least_float32(features, offset, mask, weight, bias)
    return deform_conv2d(
        features,
        offset,
        weight,
        bias if sizes["with_bias"] else None,
        stride=(sizes["stride_h"], sizes["stride_w"]),
        padding=(sizes["pad_h"], sizes["pad_w"]),
        dilation=(sizes["dilation_h"], sizes["dilation_w"]),
        mask=mask,
    )


def modulated_deform_conv_forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Fills ``output`` (N, C', h, w) (Zhu et al. 2018, https://arxiv.org/abs/1811.11168)."""
    output.copy_(_modulated_deform_conv(features, offset, mask, weight, bias, sizes))


def modulated_deform_conv_backward(*tensors: Tensor, **sizes: int) -> None:
    """Fills the gradients of features, weight, bias, offset and mask, in mmcv's order."""
    features, weight, bias, _, offset, mask, _ = tensors[:7]
    grad_input, grad_weight, grad_bias, grad_offset, grad_mask, grad_output = tensors[7:]
    found = gradients(
        lambda x, kernel, shift, modulation: _modulated_deform_conv(
            x, shift, modulation, kernel, bias, sizes
        ),
        [features, weight, offset, mask],
        grad_output,
    )
    targets = [grad_input, grad_weight, grad_offset, grad_mask]
    for target, gradient in zip(targets, found, strict=True):
        target.copy_(gradient)
    if sizes["with_bias"]:
        grad_bias.copy_(grad_output.sum((0, 2, 3)))


def _attention(
    value: Tensor, spatial_shapes: Tensor, locations: Tensor, attention_weights: Tensor
) -> Tensor:
    # mmcv's own op in plain torch, which it takes itself on a CPU. mmcv.ops is not there yet
    # when this file is loaded.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, spatial_shapes, locations, attention_weights)


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Deformable attention (Zhu et al. 2020, https://arxiv.org/abs/2010.04159), on a GPU.

    Args:
        value: The features of all levels, (N, keys, heads, channels).
        spatial_shapes: Each level's height and width, (levels, 2).
        level_start_index: Each level's first key, (levels,); follows from the shapes.
        locations: Where to look, (N, queries, heads, levels, points, 2), in [0, 1], ``x`` first.
        attention_weights: (N, queries, heads, levels, points).
        im2col_step: Batches per call of the compiled op.

    Returns:
        (N, queries, heads * channels).
    """
    return _attention(value, spatial_shapes, locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    *targets: Tensor,
    im2col_step: int,
) -> None:
    """Fills ``targets``: the gradients of the value, the locations and the weights."""
    inputs = [value, locations, attention_weights]
    found = gradients(
        lambda x, where, weights: _attention(x, spatial_shapes, where, weights), inputs, grad_output
    )
    for target, gradient in zip(targets, found, strict=True):
        target.copy_(gradient)
