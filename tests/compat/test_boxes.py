from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms


def random_boxes(count=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    size = torch.rand(count, 2, generator=generator) * 30 + 1
    boxes = torch.cat([corner, corner + size], dim=1)
    scores = torch.randint(1, 12, (count,), generator=generator) / 12  # with many ties
    return boxes, scores


def iou(a, b, offset=0):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    return width * height / (area_a + area_b - width * height)


def plain_nms(boxes, scores, threshold, offset):
    boxes, scores = boxes.tolist(), scores.tolist()
    order = sorted(range(len(boxes)), key=lambda index: -scores[index])  # stable, as ties want it
    kept = []
    for index in order:
        if all(iou(boxes[other], boxes[index], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def plain_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    boxes, scores = boxes.tolist(), dict(enumerate(scores.tolist()))
    found = []
    while scores:
        best = max(scores, key=scores.__getitem__)
        found.append((best, scores.pop(best)))
        for index in list(scores):
            overlap = iou(boxes[best], boxes[index], offset)
            if method == "gaussian":
                scores[index] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                scores[index] *= 1 - overlap if method == "linear" else 0
            if scores[index] < min_score:
                del scores[index]
    return found


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_nms_equals_plain_loop(offset, threshold):
    boxes, scores = random_boxes()
    dets, kept = nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == plain_nms(boxes, scores, threshold, offset)
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[kept])


@pytest.mark.parametrize(("offset", "far"), [(0, 10.0), (1, 9.0)])
def test_nms_keeps_a_box_at_the_threshold(offset, far):
    # Ten wide and high, and half of it: the IoU is exactly 0.5 in pixels counted by the offset.
    boxes = torch.tensor([[0, 0, far, far], [0, 0, far, far - 5]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.5, offset=offset)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.499, offset=offset)[1].tolist() == [0]


def test_nms_offset_counts():
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 2]])  # IoU 1/2, or 4/6 with offset 1
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.6, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.6, offset=1)[1].tolist() == [0]


def test_nms_score_threshold_max_num_and_empty():
    boxes, scores = random_boxes()
    expected = [index for index in plain_nms(boxes, scores, 0.5, 0) if scores[index] > 0.3][:4]
    assert nms(boxes, scores, 0.5, score_threshold=0.3, max_num=4)[1].tolist() == expected
    dets, kept = nms(boxes[:0], scores[:0], 0.5)
    assert dets.shape == (0, 5)
    assert kept.dtype == torch.long


def test_nms_takes_numpy_and_mixed_precision():
    boxes, scores = random_boxes()
    expected = plain_nms(boxes, scores, 0.5, 0)
    _, kept = nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(kept, np.ndarray)
    assert kept.tolist() == expected
    # Rounded to bfloat16 these scores keep their order and their ties.
    assert nms(boxes, scores.bfloat16(), 0.5)[1].tolist() == expected


def test_batched_nms_keeps_classes_apart():
    boxes, scores = random_boxes()
    classes = torch.arange(len(boxes)) % 3
    dets, kept = batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.4})
    expected = set()
    for label in range(3):
        members = (classes == label).nonzero()[:, 0]
        chosen = plain_nms(boxes[members], scores[members], 0.4, 0)
        expected |= {int(members[index]) for index in chosen}
    assert set(kept.tolist()) == expected
    assert torch.equal(dets[:, 4], scores[kept])
    assert (dets[:-1, 4] >= dets[1:, 4]).all()


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_equals_plain_loop(method, offset):
    boxes, _ = random_boxes(40)
    scores = torch.rand(40, generator=torch.Generator().manual_seed(1))
    dets, kept = soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    expected = plain_soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    assert 1 < len(expected) < 40
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(dets[:, 4], [score for _, score in expected], rtol=1e-5)
    assert torch.equal(dets[:, :4], boxes[kept])


def test_soft_nms_on_boxes_without_area_and_on_none():
    # The example of mmcv's own documentation: a zero score goes, boxes without area stay.
    boxes = np.array([[4, 3, 5, 3], [4, 3, 5, 4]] + [[3, 1, 3, 1]] * 4, dtype=np.float32)
    scores = np.array([0.9, 0.9, 0.5, 0.5, 0.4, 0.0], dtype=np.float32)
    dets, kept = soft_nms(boxes, scores, 0.6, sigma=0.5)
    assert len(kept) == len(dets) == 5
    assert np.isfinite(dets).all()
    assert soft_nms(boxes[:0], scores[:0])[1].shape == (0,)


def test_nms_match_groups_what_it_suppresses():
    boxes, scores = random_boxes(30)
    groups = nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.3)
    assert [int(group[0]) for group in groups] == plain_nms(boxes, scores, 0.3, 0)
    assert sorted(torch.cat(groups).tolist()) == list(range(30))
    for group in groups:
        head, *rest = group.tolist()
        assert all(iou(boxes[head].tolist(), boxes[index].tolist()) >= 0.3 for index in rest)
        assert (scores[group][:-1] >= scores[group][1:]).all()


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_bbox_overlaps(mode, offset):
    (first, _), (second, _) = random_boxes(5), random_boxes(7, seed=1)

    def expected(a, b):
        if mode == "iou":
            return iou(a, b, offset)
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
        return width * height / ((a[2] - a[0] + offset) * (a[3] - a[1] + offset))

    table = [[expected(a, b) for b in second.tolist()] for a in first.tolist()]
    found = bbox_overlaps(first, second, mode=mode, offset=offset)
    np.testing.assert_allclose(found, table, rtol=1e-5)
    pairs = bbox_overlaps(first, second[:5], mode=mode, aligned=True, offset=offset)
    np.testing.assert_allclose(pairs, np.diag(np.array(table)[:, :5]), rtol=1e-5)
