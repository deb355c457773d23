from __future__ import annotations

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from aicore.detection.models import DetectionTTA
from tests.detection.models.conftest import build


def view(*items, direction: str | None = None) -> DetDataSample:
    """A view of an image of 40 x 100 pixels with objects of (x1, y1, x2, y2, score, label)."""
    table = torch.tensor(items, dtype=torch.float32).reshape(-1, 6)
    meta = {"ori_shape": (40, 100), "img_path": "a.png", "flip": direction is not None}
    sample = DetDataSample(metainfo={**meta, "flip_direction": direction})
    sample.pred_instances = InstanceData(
        bboxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].long()
    )
    sample.gt_instances = InstanceData(bboxes=torch.ones(2, 4))
    return sample


@pytest.fixture
def model(tmp_path):
    return DetectionTTA(module=build(tmp_path))


def test_views_are_joined(model):
    (merged,) = model.merge_preds(
        [
            [
                view((10, 10, 30, 20, 0.6, 0), (50, 0, 60, 9, 0.3, 1)),
                view((70, 10, 90, 20, 0.8, 0), direction="horizontal"),
                view((0, 30, 20, 40, 0.5, 2), direction="vertical"),
            ]
        ]
    )

    found = merged.pred_instances
    expected = torch.tensor([[10.0, 10, 30, 20], [0, 0, 20, 10], [50, 0, 60, 9]])
    torch.testing.assert_close(found.bboxes, expected)
    assert found.scores.tolist() == pytest.approx([1.4 / 3, 0.5 / 3, 0.1])
    assert found.labels.tolist() == [0, 2, 1]
    assert merged.img_path == "a.png"
    assert len(merged.gt_instances) == 2


def test_an_object_has_the_mean_box_and_score_of_the_views_that_see_it(model):
    (merged,) = model.merge_preds(
        [
            [
                view((10, 10, 30, 20, 0.6, 0), (11, 10, 31, 20, 0.1, 0), (10, 10, 30, 20, 0.9, 1)),
                view((12, 10, 32, 20, 0.2, 0)),
                view((50, 10, 60, 20, 0.9, 0)),
                view(),
            ]
        ]
    )

    found = merged.pred_instances
    assert found.labels.tolist() == [1, 0, 0]
    # Of the first view its best box alone; the second's overlaps by 18 / 22.
    expected = [[10, 10, 30, 20], [50, 10, 60, 20], [10.5, 10, 30.5, 20]]
    torch.testing.assert_close(found.bboxes, torch.tensor(expected))
    assert found.scores.tolist() == pytest.approx([0.9 / 4, 0.9 / 4, 0.8 / 4])


def test_nothing_found(model):
    (merged,) = model.merge_preds([[view(), view(direction="horizontal")]])

    assert len(merged.pred_instances) == 0


def test_a_flipped_image_gives_the_same_objects(model):
    """Of a square, as a convolution with a kernel of even stride is no mirror of itself."""
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    meta = {"ori_shape": (64, 64), "img_shape": (64, 64), "scale_factor": (1.0, 1.0)}
    flipped = {**meta, "flip": True, "flip_direction": "horizontal"}

    def test(inputs, metainfo):
        sample = DetDataSample(metainfo=metainfo)
        return model.module.test_step({"inputs": [inputs], "data_samples": [sample]})[0]

    with torch.no_grad():
        turned = test(image.flip(2), flipped).pred_instances
        (merged,) = model.test_step(
            {
                "inputs": [[image.flip(2)]],
                "data_samples": [[DetDataSample(metainfo=flipped)]],
            }
        )

    boxes = turned.bboxes
    mirrored = torch.stack([64 - boxes[:, 2], boxes[:, 1], 64 - boxes[:, 0], boxes[:, 3]], dim=1)
    assert torch.allclose(merged.pred_instances.bboxes, mirrored)
