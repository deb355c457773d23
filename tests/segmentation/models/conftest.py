from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from aicore.registry import MODELS

SMALL = "test_resnet.r160_in1k"  # five levels, strides 2 to 32


@pytest.fixture(autouse=True)
def in_mmseg():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def build(head: str = "aicore.UNetHead", encoder: str = SMALL, image_channels: int = 3, **settings):
    """Builds a segmentation model of four classes with seeded weights."""
    backbone, model = settings.pop("backbone", {}), settings.pop("model", {})
    torch.manual_seed(0)
    built = MODELS.build(
        dict(
            type="aicore.EncoderDecoder",
            backbone=dict(
                type="aicore.TimmBackbone",
                model_name=encoder,
                in_channels=image_channels,
                out_indices=None,
                **backbone,
            ),
            decode_head=dict(type=head, num_classes=4, **settings),
            **model,
        )
    )
    unlike_new(built)
    return built.eval()


def unlike_new(model: nn.Module) -> None:
    """Draws the statistics and factors of normalisations, which begin with 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.25)
            nn.init.uniform_(module.weight, 0.8, 1.25)
            nn.init.normal_(module.bias, 0, 0.1)


def with_labels(count: int, size: tuple[int, int], classes: int = 4) -> list[SegDataSample]:
    """Data samples with random labels, some of them to ignore."""
    generator = torch.Generator().manual_seed(1)
    samples = []
    for _ in range(count):
        label = torch.randint(0, classes, (1, *size), generator=generator)
        label[:, 0] = 255
        meta = {"ori_shape": size, "img_shape": size}
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=label)))
    return samples
