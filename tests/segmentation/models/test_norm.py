from __future__ import annotations

import pytest
import torch
from mmcv.cnn import build_norm_layer
from torch import nn

from aicore.segmentation.models import BatchNorm


def test_a_single_value_per_channel_is_normalised_by_the_running_statistics():
    norm = BatchNorm(3).train()
    norm.running_mean += 1
    norm.running_var *= 4
    values = torch.tensor([3.0, 5.0, 1.0]).view(1, 3, 1, 1)

    normalised = norm(values)

    assert normalised.flatten().tolist() == pytest.approx([1, 2, 0], abs=1e-4)
    assert norm.running_mean.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(3)(values)


def test_otherwise_it_is_torchs():
    own, torchs = BatchNorm(3), nn.BatchNorm2d(3)
    values = torch.randn(2, 3, 4, 4)

    assert torch.equal(own(values), torchs(values))
    assert torch.equal(own.running_var, torchs.running_var)
    assert torch.equal(own.eval()(values[:1, :, :1, :1]), torchs.eval()(values[:1, :, :1, :1]))


def test_mmcv_builds_it_by_name():
    name, norm = build_norm_layer(dict(type="aicore.BatchNorm"), 3)

    assert name.startswith("bn")
    assert isinstance(norm, BatchNorm)
