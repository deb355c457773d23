from __future__ import annotations

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from aicore.segmentation.models import SegmentationTTA
from tests.segmentation.models.conftest import build


def view(logits: torch.Tensor) -> SegDataSample:
    sample = SegDataSample(metainfo={"img_path": "a.png"})
    sample.seg_logits = PixelData(data=logits)
    sample.pred_sem_seg = PixelData(data=logits.argmax(dim=0, keepdim=True))
    sample.gt_sem_seg = PixelData(data=torch.ones(1, 2, 3))
    return sample


@pytest.fixture
def model():
    preprocessor = dict(type="aicore.SegmentationPreprocessor", size_divisor=1)
    return SegmentationTTA(module=build(model=dict(data_preprocessor=preprocessor)))


def test_scores_are_averaged(model):
    views = [torch.randn(4, 2, 3) for _ in range(3)]

    (merged,) = model.merge_preds([[view(logits) for logits in views]])

    score = sum(logits.softmax(dim=0) for logits in views) / 3
    assert torch.allclose(merged.seg_logits.data.softmax(dim=0), score, atol=1e-6)
    assert torch.equal(merged.pred_sem_seg.data, score.argmax(dim=0, keepdim=True))
    assert merged.img_path == "a.png"
    assert merged.gt_sem_seg.data.sum() == 6


def test_a_view_that_is_flipped_is_turned_back(model):
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    meta = {"ori_shape": (64, 64), "img_shape": (64, 64)}
    flipped = {**meta, "flip": True, "flip_direction": "horizontal"}

    def test(inputs, metainfo):
        sample = SegDataSample(metainfo=metainfo)
        return model.module.test_step({"inputs": [inputs], "data_samples": [sample]})[0]

    plain, turned = test(image, meta), test(image.flip(2), flipped)
    (merged,) = model.test_step(
        {
            "inputs": [[image], [image.flip(2)]],
            "data_samples": [[SegDataSample(metainfo=m)] for m in (meta, flipped)],
        }
    )

    score = (plain.seg_logits.data.softmax(0) + turned.seg_logits.data.softmax(0)) / 2
    assert torch.allclose(merged.seg_logits.data.softmax(0), score, atol=1e-6)
