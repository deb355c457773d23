"""A network's output that is no number becomes no result, in any task."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample

from aicore.config import load_config
from aicore.engine.outputs import mark_not_finite
from aicore.registry import MODELS
from aicore.structures import AnomalyDataSample
from aicore.task import build_task, inspection_record

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {"image_size": 32, "model_name": "test_resnet.r160_in1k", "pretrained": False}


def detection_sample(**metainfo):
    from mmdet.structures import DetDataSample

    return DetDataSample(metainfo=metainfo)


def segmentation_sample(**metainfo):
    from mmseg.structures import SegDataSample

    return SegDataSample(metainfo=metainfo)


KINDS = {
    "classification": ("classification/resnet18", SMALL, lambda **m: DataSample(metainfo=m)),
    "segmentation": ("segmentation/unet_resnet18", SMALL, segmentation_sample),
    "segmentation tiles": (
        "segmentation/unet_resnet18",
        {**SMALL, "tile_size": 32},
        segmentation_sample,
    ),
    "detection": ("detection/yolox_nano", {"image_size": 32}, detection_sample),
    "detection tiles": ("detection/yolox_nano", {"tile_size": 32}, detection_sample),
    "anomaly": (
        "anomaly/padim_resnet18",
        {**SMALL, "num_features": 4, "out_indices": (1, 2)},
        lambda **m: AnomalyDataSample(metainfo=m),
    ),
    "anomaly tiles": (
        "anomaly/padim_resnet18",
        {**SMALL, "num_features": 4, "out_indices": (1, 2), "tile_size": 32},
        lambda **m: AnomalyDataSample(metainfo=m),
    ),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """Task, model and a function that makes a data sample."""
    name, options, make = KINDS[request.param]
    config = load_config(CONFIGS / f"{name}.py", options, ("good", "scratch"))
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    if hasattr(model, "method"):
        model.method.count.fill_(1)  # as if fitted
        model.method.factor.fill_(1)
    return build_task(config.task), model, make


@torch.no_grad()
def test_it_is_not_inspected_and_the_others_are(kind):
    task, model, make = kind
    images = [torch.full((3, 32, 32), 90.0), torch.full((3, 32, 32), 90.0)]
    images[1][:, 3, 3] = math.nan
    meta = {"ori_shape": (32, 32), "img_shape": (32, 32), "scale_factor": (1.0, 1.0)}
    samples = [make(img_path=f"{index}.png", **meta) for index in range(2)]

    found = model.test_step({"inputs": images, "data_samples": samples})
    good, bad = (inspection_record(task, sample, ("good", "scratch")) for sample in found)

    assert good["inspected"]
    assert any(key.startswith("pred") for key in good)
    assert bad["image"] == "1.png"
    assert not bad["inspected"]
    assert bad["reason"].startswith("the network's output for it holds NaN or infinity")
    assert not [key for key in bad if key.startswith("pred")]


def test_a_reason_that_stands_there_stays():
    sample = BaseDataElement(metainfo={"not_inspected": "the file is empty"})

    mark_not_finite([sample], [torch.tensor([math.inf])])

    assert sample.not_inspected == "the file is empty"
