from __future__ import annotations

import pytest
import torch
import torchvision.ops
from mmcv.ops import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2d
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from torch.nn import functional

# Height and width differ everywhere, so that one taken for the other shows.
GEOMETRY = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
KERNEL = (3, 2)
GROUPS, OFFSET_GROUPS = 2, 2


def random_inputs():
    torch.manual_seed(0)
    features = torch.rand(2, 4, 9, 11, dtype=torch.float64, requires_grad=True)
    size = functional.conv2d(features, torch.zeros(6, 4, *KERNEL).double(), **GEOMETRY).shape[2:]
    taps = OFFSET_GROUPS * KERNEL[0] * KERNEL[1]
    offset = torch.randn(2, 2 * taps, *size, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, taps, *size, dtype=torch.float64, requires_grad=True)
    return features, offset, mask


def assert_same_with_gradients(found, expected, inputs):
    torch.testing.assert_close(found, expected)
    above = torch.rand_like(found)
    found_gradients = torch.autograd.grad(found, inputs, above)
    expected_gradients = torch.autograd.grad(expected, inputs, above)
    for one, other in zip(found_gradients, expected_gradients, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other)


def make(layer, **more):
    torch.manual_seed(1)
    groups = {"groups": GROUPS, "deform_groups": OFFSET_GROUPS}
    return layer(4, 6, KERNEL, **GEOMETRY, **groups, **more).double()


def test_deform_conv_without_offsets_is_a_convolution():
    features, offset, _ = random_inputs()
    layer = make(DeformConv2d)
    expected = functional.conv2d(features, layer.weight, groups=GROUPS, **GEOMETRY)
    found = layer(features, torch.zeros_like(offset))
    assert_same_with_gradients(found, expected, (features, layer.weight))


def test_deform_conv_by_whole_pixels_is_a_moved_convolution():
    torch.manual_seed(0)
    features = torch.rand(1, 2, 8, 8)
    layer = DeformConv2d(2, 3, 1)
    offset = torch.zeros(1, 2, 8, 8)
    offset[:, 0], offset[:, 1] = 1, -2  # one down, two to the left
    moved = functional.pad(features, (2, 0, 0, 1))[:, :, 1:, :8]
    torch.testing.assert_close(layer(features, offset), functional.conv2d(moved, layer.weight))


def test_deform_conv_equals_torchvision_with_gradients():
    features, offset, _ = random_inputs()
    layer = make(DeformConv2d)
    expected = torchvision.ops.deform_conv2d(features, offset, layer.weight, **GEOMETRY)
    found = layer(features, offset)
    assert_same_with_gradients(found, expected, (features, offset, layer.weight))


@pytest.mark.parametrize("bias", [True, False])
def test_modulated_deform_conv_equals_torchvision_with_gradients(bias):
    features, offset, mask = random_inputs()
    layer = make(ModulatedDeformConv2d, bias=bias)
    inputs = [features, offset, mask, layer.weight]
    if bias:
        torch.nn.init.uniform_(layer.bias)
        inputs.append(layer.bias)
    expected = torchvision.ops.deform_conv2d(
        features, offset, layer.weight, layer.bias, mask=mask, **GEOMETRY
    )
    assert_same_with_gradients(layer(features, offset, mask), expected, inputs)


def test_modulated_deform_conv_half_open_is_half_a_convolution():
    features, offset, mask = random_inputs()
    layer = make(ModulatedDeformConv2d, bias=False)
    found = layer(features, torch.zeros_like(offset), torch.full_like(mask, 0.5))
    expected = functional.conv2d(features, layer.weight, groups=GROUPS, **GEOMETRY) / 2
    torch.testing.assert_close(found, expected)


def test_deform_conv_trains_in_bfloat16():
    layer = DeformConv2dPack(4, 6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(torch.rand(2, 4, 8, 8))
    assert found.dtype == torch.bfloat16
    found.sum().backward()
    assert layer.conv_offset.weight.grad.abs().max() > 0


def test_deformable_attention_of_the_gpu_equals_the_cpus():
    torch.manual_seed(0)
    shapes = torch.tensor([[6, 5], [3, 2]])
    value = torch.rand(2, 36, 2, 4, dtype=torch.float64, requires_grad=True)
    locations = torch.rand(2, 7, 2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 7, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    start = torch.tensor([0, 30])
    found = MultiScaleDeformableAttnFunction.apply(value, shapes, start, locations, weights, 64)
    expected = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    assert_same_with_gradients(found, expected, (value, locations, weights))
