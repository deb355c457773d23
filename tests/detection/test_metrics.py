from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

from aicore.apis.benchmark.evaluation import pycocotools_figures
from aicore.detection.matching import ImageBoxes
from aicore.detection.metrics import DetectionMetric, boxes_of, class_table, evaluate

CLASSES = ("scratch", "spot", "dent", "crack")
COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@pytest.fixture
def random():
    return np.random.default_rng(0)


def image_of(random, objects: int, predictions: int, ignored_share: float = 0.0) -> ImageBoxes:
    """Objects of all sizes but of the last class, and predictions near them or anywhere."""
    corner = random.uniform(0, 300, (objects, 2))
    truth = np.hstack([corner, corner + random.uniform(5, 200, (objects, 2))])
    labels = random.integers(0, 3, objects)
    boxes = random.uniform(0, 300, (predictions, 2))
    boxes = np.hstack([boxes, boxes + random.uniform(5, 200, (predictions, 2))])
    guess = random.integers(0, 4, predictions)
    if objects:
        near = random.integers(0, objects, predictions)
        is_near = random.random((predictions, 1)) < 0.8
        noise = (
            random.normal(0, 0.08, (predictions, 4))
            * (truth[near, 2:] - corner[near])[:, [0, 1] * 2]
        )
        boxes = np.where(is_near, truth[near] + noise, boxes)
        guess = np.where(random.random(predictions) < 0.8, labels[near], guess)
    return ImageBoxes(
        truth.astype(np.float32),
        labels.astype(np.int32),
        random.random(objects) < ignored_share,
        np.hstack([boxes[:, :2], np.maximum(boxes[:, 2:], boxes[:, :2] + 1)]).astype(np.float32),
        random.random(predictions).round(2).astype(np.float32),  # many are equal
        guess.astype(np.int32),
    )


def sample_of(image: ImageBoxes) -> dict:
    """The data sample as a metric gets it."""
    sample = DetDataSample()
    truth, labels = torch.from_numpy(image.truth), torch.from_numpy(image.truth_labels).long()
    ignored = torch.from_numpy(image.ignored)
    sample.gt_instances = InstanceData(bboxes=truth[~ignored], labels=labels[~ignored])
    sample.ignored_instances = InstanceData(bboxes=truth[ignored], labels=labels[ignored])
    sample.pred_instances = InstanceData(
        bboxes=torch.from_numpy(image.boxes),
        labels=torch.from_numpy(image.labels).long(),
        scores=torch.from_numpy(image.scores),
    )
    return sample.to_dict()


def compute(images, classes=CLASSES, **settings) -> dict[str, float]:
    metric = DetectionMetric(**settings)
    metric.dataset_meta = {"classes": classes}
    for image in images:
        metric.process({}, [sample_of(image)])
    return metric.evaluate(len(images))


EMPTY = ImageBoxes(
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.int32),
    np.zeros(0, bool),
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.float32),
    np.zeros(0, np.int32),
)


# ---- figures ----


@pytest.mark.parametrize("ignored_share", [0, 0.3])
def test_the_figures_are_those_of_pycocotools(random, ignored_share):
    images = [image_of(random, objects, 40, ignored_share) for objects in (6, 0, 3, 20, 1) * 4]
    images += [image_of(random, 5, 0), image_of(random, 4, 300), EMPTY]

    found = compute(images)

    expected = 100 * pycocotools_figures(images, len(CLASSES))
    assert [found[name] for name in COCO] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert 5 < found["AP"] < 95


def test_a_size_that_does_not_occur_is_undefined(random):
    image = image_of(random, 0, 3)
    tiny = ImageBoxes(
        np.array([[0, 0, 9, 9]], np.float32),
        np.zeros(1, np.int32),
        np.zeros(1, bool),
        image.boxes,
        image.scores,
        image.labels,
    )

    found = compute([tiny])

    assert math.isnan(found["APl"])
    assert math.isnan(found["ARm"])
    assert found["APs"] == 0


def test_all_right():
    image = ImageBoxes(
        np.array([[0, 0, 50, 50], [60, 60, 100, 100]], np.float32),
        np.array([0, 2], np.int32),
        np.zeros(2, bool),
        np.array([[0, 0, 50, 50], [60, 60, 100, 100]], np.float32),
        np.array([0.75, 0.5], np.float32),
        np.array([0, 2], np.int32),
    )

    found = compute([image, EMPTY])

    for name in ("AP", "AP50", "AP75", "APm", "AR1", "AR100", "VOC_AP50", "F1"):
        assert found[name] == pytest.approx(100)
    assert found["F1_confidence"] == 0.5


def test_predictions_of_a_class_without_truth_change_no_mean_but_the_f1_of_all(random):
    images = [image_of(random, 6, 30) for _ in range(5)]
    without = [
        ImageBoxes(
            i.truth,
            i.truth_labels,
            i.ignored,
            *(p[i.labels < 3] for p in (i.boxes, i.scores, i.labels)),
        )
        for i in images
    ]

    found, expected = compute(images), compute(without)

    assert found["AP"] == expected["AP"]
    assert found["VOC_AP50"] == expected["VOC_AP50"]
    assert found["F1"] < expected["F1"]


@pytest.mark.parametrize("images", [[EMPTY], [EMPTY, EMPTY]])
def test_nothing_at_all(images):
    found = compute(images)

    assert set(found) == {*COCO, "VOC_AP50", "F1", "F1_confidence"}
    assert all(math.isnan(value) for value in found.values())


def test_no_prediction(random):
    found = compute([image_of(random, 5, 0)])

    assert found["AP"] == found["VOC_AP50"] == found["F1"] == 0
    assert math.isnan(found["F1_confidence"])


def test_no_truth(random):
    assert math.isnan(compute([image_of(random, 0, 5)])["AP"])


def test_the_order_of_the_images_makes_no_difference(random):
    images = [image_of(random, 5, 20) for _ in range(6)]
    for image in images:  # equal scores come in the order of the images
        image.scores[:] = random.random(len(image.scores))

    assert compute(images) == pytest.approx(compute(images[::-1]))


def test_the_figures_of_the_classes(random):
    images = [image_of(random, 8, 30) for _ in range(10)]

    *rows, together = evaluate(images, len(CLASSES)).per_class()

    for index, row in enumerate(rows[:3]):
        alone = [
            ImageBoxes(
                *(part[i.truth_labels == index] for part in (i.truth, i.truth_labels, i.ignored)),
                *(part[i.labels == index] for part in (i.boxes, i.scores, i.labels)),
            )
            for i in images
        ]
        expected = compute(alone)
        for name in ("AP", "AP50", "AR100", "F1"):
            assert row[name] == pytest.approx(expected[name])
        assert row["confidence"] == pytest.approx(expected["F1_confidence"])
        assert row["boxes"] == sum((i.truth_labels == index).sum() for i in images)
        assert row["F1"] == pytest.approx(
            2 * row["precision"] * row["recall"] / (row["precision"] + row["recall"])
        )
    assert math.isnan(rows[3]["AP"])
    assert rows[3]["boxes"] == 0
    assert together["boxes"] == 80
    assert together["AP"] == pytest.approx(np.mean([row["AP"] for row in rows[:3]]))


# ---- what is kept ----


def test_boxes_of_a_sample_come_back(random):
    image = image_of(random, 6, 4, ignored_share=0.5)
    order = np.argsort(image.ignored, kind="stable")  # the ignored ones stand apart

    found = boxes_of(sample_of(image))

    assert np.array_equal(found.truth, image.truth[order])
    assert np.array_equal(found.truth_labels, image.truth_labels[order])
    assert np.array_equal(found.ignored, image.ignored[order])
    assert np.array_equal(found.boxes, image.boxes)
    assert [part.dtype for part in vars(found).values()] == [
        np.float32,
        np.int32,
        bool,
        np.float32,
        np.float32,
        np.int32,
    ]


def test_a_sample_without_ignored_objects(random):
    image = image_of(random, 3, 4)
    sample = sample_of(image)
    for ignored in ({}, None):
        sample["ignored_instances"] = ignored
        assert np.array_equal(boxes_of(sample).truth, image.truth)
    del sample["ignored_instances"]
    assert not boxes_of(sample).ignored.any()


def test_an_evaluation_begins_anew(random):
    metric = DetectionMetric()
    metric.dataset_meta = {"classes": CLASSES}
    first, second = image_of(random, 5, 20), image_of(random, 5, 20)
    for image in (first, second):
        metric.process({}, [sample_of(image)])
        found = metric.evaluate(1)

    assert found == pytest.approx(compute([second]), nan_ok=True)


def test_a_prefix(random):
    assert "test/AP" in compute([image_of(random, 2, 4)], prefix="test")


# ---- the table ----


def test_the_table_is_logged(random, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)

    compute([image_of(random, 6, 20)])

    logger.removeHandler(caplog.handler)
    lines = [line for line in caplog.text.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[1:]] == [*CLASSES, "(all)"]
    assert [cell.strip() for cell in lines[4].split("|")[2:-1]] == ["0", *["-"] * 7]


def test_of_many_classes_the_weakest_are_shown(random):
    names = [f"class {index}" for index in range(40)]
    boxes = np.array([[0, 0, 20, 20 + index] for index in range(40)], np.float32)
    labels = np.arange(40, dtype=np.int32)
    image = ImageBoxes(
        boxes, labels, np.zeros(40, bool), boxes[5:], np.ones(35, np.float32), labels[5:]
    )

    table = class_table(names, evaluate([image], 40))

    rows = [line.split("|")[1].strip() for line in table.splitlines() if "| class " in line]
    assert len(rows) == 31  # with the heading
    assert rows[1:6] == names[:5]
    assert "10 more classes" in table
