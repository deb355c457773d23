from __future__ import annotations

import pytest
import torch
from mmdet.models.task_modules.assigners import SimOTAAssigner as BaseAssigner
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from aicore.detection import SimOTAAssigner


class PlainAssigner(BaseAssigner):
    """mmdet's, for float64 too."""

    def dynamic_k_matching(self, *args):
        overlaps, indices = super().dynamic_k_matching(*args)
        return overlaps.float(), indices


def draw(seed: int, boxes: int, classes: int = 80, side: int = 128, dtype=torch.float64):
    """Returns priors of strides 8, 16, 32 with predictions like a network's, and boxes."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*size):
        return torch.rand(*size, generator=generator, dtype=dtype)

    sizes = [(side // stride, side // stride) for stride in (8, 16, 32)]
    points = MlvlPointGenerator([8, 16, 32], offset=0).grid_priors(
        sizes, dtype=dtype, device="cpu", with_stride=True
    )
    priors = torch.cat(points)
    middles = priors[:, :2] + (rand(len(priors), 2) * 2 - 1) * priors[:, 2:]
    extent = priors[:, 2:] * (1 + 4 * rand(len(priors), 2))
    centred = torch.cat([priors[:, :2] + priors[:, 2:] / 2, priors[:, 2:]], dim=1)
    predictions = InstanceData(
        bboxes=torch.cat([middles - extent / 2, middles + extent / 2], dim=1),
        scores=rand(len(priors), classes).sqrt(),
        priors=centred,
    )
    corner, size = rand(boxes, 2) * side * 1.2 - side * 0.1, rand(boxes, 2) ** 2 * side * 0.7
    labels = torch.randint(0, classes, (boxes,), generator=generator)
    return predictions, InstanceData(bboxes=torch.cat([corner, corner + size], 1), labels=labels)


def same(found, expected) -> bool:
    return (
        torch.equal(found.gt_inds, expected.gt_inds)
        and torch.equal(found.labels, expected.labels)
        and torch.equal(found.max_overlaps, expected.max_overlaps.float())
        and found.num_gts == expected.num_gts
    )


@pytest.mark.parametrize("boxes", [1, 2, 5, 20, 60])
def test_the_assignment_is_mmdets(boxes):
    """In float64: in float32 costs beyond 100000 are rounded, and equal ones are many."""
    for seed in range(25):
        case = draw(seed, boxes)

        found, expected = SimOTAAssigner().assign(*case), PlainAssigner().assign(*case)

        assert same(found, expected), seed
        assert (found.gt_inds > 0).any()


@pytest.mark.parametrize("settings", [dict(center_radius=1.0), dict(candidate_topk=3)])
@pytest.mark.parametrize("weights", [dict(iou_weight=1.0), dict(cls_weight=0.2)])
def test_with_other_settings(settings, weights):
    for seed in range(10):
        case = draw(seed, 12)

        found = SimOTAAssigner(**settings, **weights).assign(*case)

        assert same(found, PlainAssigner(**settings, **weights).assign(*case))


def test_in_float32_all_but_equal_costs_agree():
    different = total = 0
    for seed in range(20):
        case = draw(seed, 10, dtype=torch.float32)
        found, expected = SimOTAAssigner().assign(*case), PlainAssigner().assign(*case)
        different += (found.gt_inds != expected.gt_inds).sum().item()
        total += (expected.gt_inds > 0).sum().item()

    assert different < 0.01 * total


def test_scores_of_zero_and_one_stay_finite():
    predictions, truth = draw(0, 6)
    predictions.scores[::2], predictions.scores[1::3] = 0, 1

    found = SimOTAAssigner().assign(predictions, truth)

    assert same(found, PlainAssigner().assign(predictions, truth))


def test_without_boxes():
    predictions, truth = draw(0, 0)

    found = SimOTAAssigner().assign(predictions, truth)

    assert same(found, PlainAssigner().assign(predictions, truth))
    assert not found.gt_inds.any()


def test_boxes_that_no_prior_is_near():
    predictions, truth = draw(0, 4)
    truth.bboxes += 10_000

    found = SimOTAAssigner().assign(predictions, truth)

    assert same(found, PlainAssigner().assign(predictions, truth))
    assert not found.gt_inds.any()


def test_without_priors():
    predictions, truth = draw(0, 4)

    found = SimOTAAssigner().assign(predictions[torch.zeros(0, dtype=torch.long)], truth)

    assert len(found.gt_inds) == len(found.max_overlaps) == len(found.labels) == 0


def test_boxes_without_area():
    predictions, truth = draw(0, 4)
    truth.bboxes[:2, 2:] = truth.bboxes[:2, :2]

    found = SimOTAAssigner().assign(predictions, truth)

    assert same(found, PlainAssigner().assign(predictions, truth))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    predictions, truth = draw(0, 10)
    halved = InstanceData(**{name: value.to(dtype) for name, value in predictions.items()})
    exact = InstanceData(**{name: value.float() for name, value in halved.items()})

    with torch.autocast("cpu", torch.bfloat16):
        found = SimOTAAssigner().assign(halved, truth)

    truth.bboxes = truth.bboxes.double()
    assert same(found, SimOTAAssigner().assign(exact, truth))
    assert found.max_overlaps.dtype == torch.float32


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that is computed."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


def test_no_tensor_grows_with_both_boxes_and_classes():
    case = draw(0, 200, classes=40, side=256, dtype=torch.float32)
    priors, boxes = len(case[0]), len(case[1])
    with LargestTensor() as ours:
        SimOTAAssigner().assign(*case)
    with LargestTensor() as theirs:
        PlainAssigner().assign(*case)

    assert ours.bytes <= priors * boxes * 2 * 4  # corners in float32
    assert theirs.bytes > 15 * ours.bytes
