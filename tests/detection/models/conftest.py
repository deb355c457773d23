from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from aicore.config import load_config
from aicore.registry import MODELS

BASE = Path(__file__).parents[3] / "configs/_base_/models/yolox.py"
CLASSES = ("scratch", "spot", "dent", "crack")


@pytest.fixture(autouse=True)
def in_mmdet():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def model_config(folder: Path, in_channels: int = 3, classes=CLASSES, **options) -> Config:
    """Returns the config of a model alone, with what a data set's config says beside it."""
    leaf = folder / "leaf.py"
    leaf.write_text(
        f"_base_ = {BASE.as_posix()!r}\n"
        f"in_channels = {in_channels}\n"
        f"classes = {tuple(classes)!r}\n"
        "tile_size = None\n"
        "tile_overlap = 0.25\n"
        "default_scope = 'mmdet'\n",
        encoding="utf-8",
    )
    return load_config(leaf, options)


def build(folder: Path, in_channels: int = 3, **options) -> nn.Module:
    """Builds a model with seeded weights; its statistics are not those of a new one."""
    torch.manual_seed(0)
    model = MODELS.build(model_config(folder, in_channels, **options).model)
    unlike_new(model)
    return model.eval()


def unlike_new(model: nn.Module) -> None:
    """Draws the statistics and factors of normalisations, which begin with 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.25)
            nn.init.uniform_(module.weight, 0.8, 1.25)
            nn.init.normal_(module.bias, 0, 0.1)


def with_boxes(count: int, size: tuple[int, int], boxes: int = 3) -> list[DetDataSample]:
    """Data samples with random boxes of four classes."""
    generator = torch.Generator().manual_seed(1)
    samples = []
    for _ in range(count):
        corners = torch.rand(boxes, 2, 2, generator=generator).sort(dim=1).values
        scale = torch.tensor([size[1], size[0]])
        meta = {"ori_shape": size, "img_shape": size, "scale_factor": (1.0, 1.0)}
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=(corners * scale).reshape(boxes, 4),
            labels=torch.randint(0, len(CLASSES), (boxes,), generator=generator),
        )
        samples.append(sample)
    return samples
