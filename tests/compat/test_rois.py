from __future__ import annotations

import math

import pytest
import torch
import torchvision.ops
from mmcv.ops import RoIAlign, RoIPool

from aicore.errors import AicoreError

ROIS = torch.tensor(
    [[0, 1.5, 2.0, 30.2, 20.7], [1, 0, 0, 12, 31], [1, 10.3, 5.1, 14.9, 40], [0, 20, 20, 20.5, 21]]
)


def random_features(dtype=torch.float32, size=(2, 3, 16, 20)):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(size, generator=generator, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_equals_torchvision_with_gradient(aligned, sampling_ratio):
    features = random_features()
    found = RoIAlign((3, 5), 0.5, sampling_ratio, "avg", aligned)(features, ROIS)
    expected = torchvision.ops.roi_align(features, ROIS, (3, 5), 0.5, sampling_ratio, aligned)
    torch.testing.assert_close(found, expected)
    above = torch.rand(found.shape)
    (found_gradient,) = torch.autograd.grad(found, features, above)
    (expected_gradient,) = torch.autograd.grad(expected, features, above)
    torch.testing.assert_close(found_gradient, expected_gradient)


@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_of_a_plane_is_its_value_at_the_bins_centres(aligned):
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing="ij")
    roi = torch.tensor([[0, 4.0, 6.0, 28.0, 22.0]])
    found = RoIAlign((2, 3), 0.5, 2, "avg", aligned)((3 * x - 2 * y)[None, None], roi)
    shift = 0.5 if aligned else 0.0
    centre_x = 2 + (torch.arange(3) + 0.5) * 12 / 3 - shift
    centre_y = 3 + (torch.arange(2) + 0.5) * 8 / 2 - shift
    torch.testing.assert_close(found[0, 0], 3 * centre_x[None, :] - 2 * centre_y[:, None])


def test_roi_align_maximum_says_what_to_do():
    with pytest.raises(AicoreError, match=r"RoIAlign with pool_mode='max'.*pip install"):
        RoIAlign(2, pool_mode="max")(random_features(), ROIS)


def plain_roi_pool(features, rois, size, scale):
    """mmcv's definition: the maximum over the cells that a bin touches; corners not rounded."""
    output = features.new_zeros(len(rois), features.shape[1], *size)
    for roi, (image, *box) in enumerate(rois.tolist()):
        left, top, right, bottom = (
            box[0] * scale,
            box[1] * scale,
            *((e + 1) * scale for e in box[2:]),
        )
        for row in range(size[0]):
            for column in range(size[1]):
                y0 = max(math.floor(top + row * (bottom - top) / size[0]), 0)
                y1 = max(math.ceil(top + (row + 1) * (bottom - top) / size[0]), 0)
                x0 = max(math.floor(left + column * (right - left) / size[1]), 0)
                x1 = max(math.ceil(left + (column + 1) * (right - left) / size[1]), 0)
                region = features[int(image), :, y0:y1, x0:x1]
                if right > left and bottom > top and region.numel():
                    output[roi, :, row, column] = region.amax((1, 2))
    return output


def test_roi_pool_equals_plain_loop_with_gradient():
    features = random_features(torch.float64)
    outside = torch.tensor([[0, -9.0, 3, 60, 25], [0, 90, 90, 95, 95], [1, 8, 8, 2, 2]])
    rois = torch.cat([ROIS, outside]).double()
    found = RoIPool((3, 4), 0.5)(features, rois)
    expected = plain_roi_pool(features, rois, (3, 4), 0.5)
    assert (expected[-2:] == 0).all()  # outside of the image; right of left
    torch.testing.assert_close(found, expected)
    above = torch.rand(found.shape, dtype=torch.float64)
    (found_gradient,) = torch.autograd.grad(found, features, above)
    (expected_gradient,) = torch.autograd.grad(expected, features, above)
    torch.testing.assert_close(found_gradient, expected_gradient)


def test_roi_pool_equals_torchvision_on_whole_pixels():
    features = random_features()
    rois = torch.tensor([[0, 1.0, 2, 12, 9], [1, 0, 0, 19, 15]])
    expected = torchvision.ops.roi_pool(features, rois, (3, 4), 1.0)
    torch.testing.assert_close(RoIPool((3, 4), 1.0)(features, rois), expected)


@pytest.mark.parametrize("pool", [RoIAlign(3, 0.5), RoIPool(3, 0.5)])
def test_bfloat16_features_pass_both_ways(pool):
    features = random_features()
    low = features.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = pool(low, ROIS)
    assert found.dtype == torch.bfloat16
    expected = pool(features, ROIS)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    found.sum().backward()
    expected.sum().backward()
    assert low.grad.dtype == torch.bfloat16
    assert low.grad.sum().item() == pytest.approx(features.grad.sum().item(), rel=0.02)


def test_no_rois():
    features = random_features()
    assert RoIAlign(3)(features, ROIS[:0]).shape == (0, 3, 3, 3)
    assert RoIPool(3)(features, ROIS[:0]).shape == (0, 3, 3, 3)
