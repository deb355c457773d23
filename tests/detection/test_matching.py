from __future__ import annotations

import math

import numpy as np
import pytest
from mmdet.evaluation import eval_map

from aicore.detection.matching import (
    Curve,
    ImageBoxes,
    assign,
    confusion_matrix,
    draw_up_curves,
    judge,
    match,
    match_voc,
    overlaps,
)

CLASSES = 3


@pytest.fixture
def random():
    return np.random.default_rng(0)


def image_of(truth=(), predictions=(), ignored=()) -> ImageBoxes:
    """An image of (label, x1, y1, x2, y2) and (label, score, x1, y1, x2, y2)."""
    truth, predictions = list(truth), list(predictions)
    return ImageBoxes(
        truth=np.array([t[1:] for t in truth], np.float32).reshape(-1, 4),
        truth_labels=np.array([t[0] for t in truth], np.int32),
        ignored=np.isin(np.arange(len(truth)), ignored),
        boxes=np.array([p[2:] for p in predictions], np.float32).reshape(-1, 4),
        scores=np.array([p[1] for p in predictions], np.float32),
        labels=np.array([p[0] for p in predictions], np.int32),
    )


def random_image(random, ignored_share: float = 0.0, objects: int = 8) -> ImageBoxes:
    """Objects that often touch, and predictions near them, some of another class."""
    corner = random.uniform(0, 60, (objects, 2))
    truth = np.hstack([corner, corner + random.uniform(10, 40, (objects, 2))])
    labels = random.integers(0, CLASSES, objects)
    near = random.integers(0, objects, 30) if objects else np.zeros(0, int)
    boxes = truth[near] + random.normal(0, 4, (len(near), 4))
    guess = random.integers(0, CLASSES, len(near))
    return ImageBoxes(
        truth.astype(np.float32),
        labels.astype(np.int32),
        random.random(objects) < ignored_share,
        boxes.astype(np.float32),
        random.random(len(near)).astype(np.float32),
        np.where(random.random(len(near)) < 0.7, labels[near], guess).astype(np.int32),
    )


def iou_of(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    area, other = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return common / (area + other - common)


# ---- overlaps ----


def test_overlaps_by_a_plain_loop(random):
    image = random_image(random)

    iou, share = overlaps(image.boxes, image.truth)

    boxes, truth = image.boxes.astype(float).tolist(), image.truth.astype(float).tolist()
    assert iou == pytest.approx(np.array([[iou_of(a, b) for b in truth] for a in boxes]))
    area = np.prod(image.boxes[:, 2:].astype(float) - image.boxes[:, :2], axis=1)
    other = np.prod(image.truth[:, 2:].astype(float) - image.truth[:, :2], axis=1)
    common = share * area[:, None]
    assert iou == pytest.approx(common / (area[:, None] + other - common))


def test_boxes_without_area_overlap_nothing():
    iou, share = overlaps(np.array([[5, 5, 5, 9]]), np.array([[5, 5, 5, 9], [0, 0, 9, 9]]))

    assert iou.tolist() == share.tolist() == [[0, 0]]


# ---- matching ----


def matched_by_a_loop(image: ImageBoxes, threshold: float) -> list[int]:
    """COCO's rule, one prediction after the other."""
    found, taken = [-1] * len(image.scores), set()
    for row in sorted(range(len(image.scores)), key=lambda row: -image.scores[row]):
        best = threshold
        for column, box in enumerate(image.truth.astype(float)):
            free = column not in taken and not image.ignored[column]
            if free and image.labels[row] == image.truth_labels[column]:
                iou = iou_of(image.boxes[row].astype(float), box)
                if iou >= best:
                    best, found[row] = iou, column
        taken.add(found[row])
    return found


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_matching_by_a_plain_loop(random, threshold):
    for _ in range(30):
        image = random_image(random, ignored_share=0.2)

        found = match(image, threshold)

        assert found.truth_of.tolist() == matched_by_a_loop(image, threshold)
        assert not (found.ignored & (found.truth_of >= 0)).any()


def test_the_second_best_box_is_taken_where_the_best_is_not_free():
    iou = np.array([[0.9, 0.6], [0.8, 0.7], [0.9, 0.9]])

    assert assign(iou, np.array([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 1, -1]
    assert assign(iou, np.array([0.7, 0.8, 0.9]), 0.5).tolist() == [-1, 0, 1]


def test_predictions_on_an_ignored_box():
    image = image_of(
        truth=[(0, 0, 0, 100, 100), (0, 0, 0, 20, 20)],
        predictions=[
            (0, 0.9, 0, 0, 20, 20),  # finds the object, though it lies on the ignored box too
            (0, 0.8, 0, 0, 20, 20),  # a second one: ignored
            (0, 0.7, 50, 50, 60, 60),
            (0, 0.6, 94, 50, 104, 60),  # more than half of it
            (0, 0.5, 96, 50, 106, 60),  # less
            (1, 0.4, 50, 50, 60, 60),  # another class
        ],
        ignored=[0],
    )

    found = match(image)

    assert found.truth_of.tolist() == [1, -1, -1, -1, -1, -1]
    assert found.ignored.tolist() == [False, True, True, True, False, False]


@pytest.mark.parametrize("image", [image_of(), image_of(truth=[(0, 0, 0, 5, 5)])])
def test_no_predictions(image):
    for matching in (match, match_voc):
        assert matching(image).truth_of.tolist() == []


def test_no_truth():
    image = image_of(predictions=[(0, 0.9, 0, 0, 5, 5)])

    for matching in (match, match_voc):
        assert matching(image).truth_of.tolist() == [-1]
        assert matching(image).ignored.tolist() == [False]


# ---- curves ----


@pytest.mark.parametrize("ignored_share", [0, 0.25])
def test_vocs_average_precision_is_that_of_mmdet(random, ignored_share):
    images = [random_image(random, ignored_share, objects) for objects in (8, 0, 5, 12)]

    curves = draw_up_curves(images, [match_voc(image) for image in images], CLASSES)

    detections, annotations = [], []
    for i in images:
        scored = np.hstack([i.boxes, i.scores[:, None]])
        detections.append([scored[i.labels == index] for index in range(CLASSES)])
        annotations.append(
            {
                "bboxes": i.truth[~i.ignored],
                "labels": i.truth_labels[~i.ignored],
                "bboxes_ignore": i.truth[i.ignored],
                "labels_ignore": i.truth_labels[i.ignored],
            }
        )
    mean, expected = eval_map(detections, annotations, iou_thr=0.5, logger="silent", nproc=1)
    found = [curve.average_precision() for curve in curves[:-1]]
    assert found == pytest.approx([figures["ap"] for figures in expected], abs=1e-6)
    assert np.mean(found) == pytest.approx(mean, abs=1e-6)


def test_a_curve_by_hand():
    image = image_of(
        truth=[(0, 0, 0, 10, 10), (0, 20, 0, 30, 10), (1, 40, 0, 50, 10)],
        predictions=[
            (0, 0.9, 0, 0, 10, 10),  # right
            (0, 0.8, 60, 0, 70, 10),  # false
            (0, 0.5, 20, 0, 30, 10),  # right, of the score of a false one
            (0, 0.5, 80, 0, 90, 10),
            (1, 0.7, 40, 0, 50, 10),  # right
        ],
    )

    first, second, third, together = draw_up_curves([image], [match(image)], 3)

    assert first.confidence == pytest.approx([0.9, 0.8, 0.5])
    assert first.right.tolist() == [1, 1, 2]
    assert first.false.tolist() == [0, 1, 2]
    assert first.precision.tolist() == [1, 1 / 2, 2 / 4]
    assert first.recall.tolist() == [1 / 2, 1 / 2, 1]
    assert first.f1 == pytest.approx([2 / 3, 1 / 2, 2 / 3])
    assert first.best() == pytest.approx((0.9, 2 / 3, 1, 1 / 2))  # of equals the highest
    assert first.average_precision() == pytest.approx(1 / 2 + 1 / 2 * 2 / 4)
    assert second.best() == pytest.approx((0.7, 1, 1, 1))
    assert third.truths == 0
    assert together.truths == 3
    assert together.right.tolist() == [1, 1, 2, 3]
    assert together.best() == pytest.approx((0.5, 6 / 8, 3 / 5, 1))


def test_without_truth_nothing_is_defined():
    curve = Curve(np.array([0.9]), np.array([0]), np.array([1]), truths=0)

    assert all(math.isnan(value) for value in curve.best())
    assert math.isnan(curve.average_precision())


def test_without_a_right_prediction_there_is_no_best_confidence():
    for curve in (
        Curve(np.array([0.9]), np.array([0]), np.array([1]), truths=2),
        Curve(np.zeros(0), np.zeros(0, int), np.zeros(0, int), truths=2),
    ):
        confidence, f1, precision, recall = curve.best()
        assert math.isnan(confidence) and math.isnan(precision)
        assert f1 == recall == curve.average_precision() == 0


def test_no_image():
    curves = draw_up_curves([], [], 2)

    assert [curve.truths for curve in curves] == [0, 0, 0]


# ---- one confidence ----

JUDGED = image_of(
    truth=[
        (0, 0, 0, 10, 10),
        (1, 20, 0, 30, 10),
        (2, 40, 0, 50, 10),
        (0, 60, 0, 70, 10),
        (0, 80, 0, 90, 10),
    ],
    predictions=[
        (0, 0.9, 0, 0, 10, 10),  # right
        (0, 0.8, 20, 0, 30, 10),  # a 1 called 0
        (0, 0.7, 0, 1, 10, 11),  # the first object once more
        (2, 0.6, 80, 0, 90, 10),  # on the ignored object of another class
        (0, 0.5, 80, 0, 90, 10),  # on the ignored object
        (2, 0.3, 40, 0, 50, 10),  # right, of a low score
    ],
    ignored=[4],
)


def test_a_verdict():
    verdict = judge(JUDGED, 0.5)

    assert verdict.right == [(0, 0)]
    assert verdict.confused == [(1, 1)]
    assert verdict.false == [2, 3]
    assert verdict.missed == [2, 3]


def test_a_verdict_at_a_lower_confidence():
    verdict = judge(JUDGED, 0.3)

    assert verdict.right == [(0, 0), (5, 2)]
    assert verdict.missed == [3]


def test_an_object_of_the_right_class_is_not_confused():
    image = image_of(
        truth=[(0, 0, 0, 10, 10)],
        predictions=[(1, 0.9, 0, 0, 10, 10), (0, 0.4, 0, 0, 10, 10)],
    )

    assert judge(image, 0.5).confused == [(0, 0)]
    verdict = judge(image, 0.4)
    assert (verdict.right, verdict.confused, verdict.false) == ([(1, 0)], [], [0])


def test_the_confusion_matrix(random):
    assert confusion_matrix([JUDGED], [judge(JUDGED, 0.5)], 3).tolist() == [
        [1, 0, 0, 1],
        [1, 0, 0, 0],
        [0, 0, 0, 1],
        [1, 0, 1, 0],
    ]
    images = [random_image(random, 0.2) for _ in range(20)]
    matrix = confusion_matrix(images, [judge(image, 0.4) for image in images], CLASSES)
    truths = sum(np.bincount(i.truth_labels[~i.ignored], minlength=CLASSES) for i in images)
    assert matrix[:-1].sum(axis=1).tolist() == truths.tolist()
    # At the confidence, what is right is what the curve says.
    *curves, _ = draw_up_curves(images, [match(image) for image in images], CLASSES)
    counts = [curve.right[(curve.confidence >= 0.4).sum() - 1] for curve in curves]
    assert np.diag(matrix)[:-1].tolist() == counts
