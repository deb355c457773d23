from __future__ import annotations

import torch
import torchvision.ops
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData


def tiny_yolox() -> ConfigDict:
    channels = [32, 64, 128]
    return ConfigDict(
        type="mmdet.YOLOX",
        data_preprocessor={"type": "mmdet.DetDataPreprocessor"},
        backbone={"type": "mmdet.CSPDarknet", "deepen_factor": 0.33, "widen_factor": 0.125},
        neck={
            "type": "mmdet.YOLOXPAFPN",
            "in_channels": channels,
            "out_channels": 32,
            "num_csp_blocks": 1,
        },
        bbox_head={
            "type": "mmdet.YOLOXHead",
            "num_classes": 2,
            "in_channels": 32,
            "feat_channels": 32,
        },
        train_cfg={"assigner": {"type": "mmdet.SimOTAAssigner"}},
        test_cfg={"score_thr": 0.0, "nms": {"type": "nms", "iou_threshold": 0.3}},
    )


def test_yolox_trains_and_predicts():
    torch.manual_seed(0)
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope("mmdet"):  # a run before may have left another
        model = MODELS.build(tiny_yolox())
    sample = DetDataSample(metainfo={"img_shape": (96, 96), "scale_factor": (1.0, 1.0)})
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[10.0, 12.0, 50.0, 60.0]]), labels=torch.tensor([1])
    )
    batch = {"inputs": [torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8)]}
    batch["data_samples"] = [sample]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
    totals = []
    for _ in range(8):
        losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]

    with torch.no_grad():  # not in eval mode: the running statistics have seen 8 steps only
        (result,) = model.test_step(batch)
    found = result.pred_instances
    assert 1 < len(found.bboxes) < 144 + 36 + 9  # NMS took some of the priors' boxes
    same_class = found.labels[:, None] == found.labels
    overlaps = torchvision.ops.box_iou(found.bboxes, found.bboxes).fill_diagonal_(0)
    assert (overlaps * same_class).max() <= 0.3


def test_roi_head_of_mmdet_pools_through_the_fallback():
    extractor = MODELS.build(
        ConfigDict(
            type="mmdet.SingleRoIExtractor",
            roi_layer={"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
            out_channels=4,
            featmap_strides=[4, 8],
        )
    )
    features = [torch.ones(1, 4, 32, 32), torch.ones(1, 4, 16, 16)]
    rois = torch.tensor([[0, 8.0, 8, 40, 40], [0, 0, 0, 120, 120]])
    assert torch.allclose(extractor(features, rois), torch.ones(2, 4, 7, 7))
