from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric

from aicore.errors import ConfigError
from aicore.segmentation import SegmentationMetric
from aicore.segmentation.metrics import class_figures, class_table, confusion_matrix, summary

CLASSES = ("background", "scratch", "spot", "dent")


@pytest.fixture
def random():
    return np.random.default_rng(0)


def samples(random, count: int, absent: int | None = None) -> list[dict]:
    """Data samples of several sizes; of the truth a tenth is ignored."""
    found = []
    for index in range(count):
        size = (20 + index, 31)
        truth, prediction = random.integers(0, 4, (2, *size))
        if absent is not None:
            truth[truth == absent] = 0
            prediction[prediction == absent] = 0
        prediction = np.where(random.random(size) < 0.5, truth, prediction)
        truth[random.random(size) < 0.1] = 255
        found.append(
            {
                "gt_sem_seg": {"data": torch.from_numpy(truth)[None]},
                "pred_sem_seg": {"data": torch.from_numpy(prediction)[None]},
            }
        )
    return found


def evaluate(metric, batches: list[list[dict]]) -> dict[str, float]:
    metric.dataset_meta = {"classes": CLASSES}
    for batch in batches:
        metric.process({}, batch)
    return metric.evaluate(sum(map(len, batches)))


# ---- the confusion matrix ----


def test_the_matrix_by_a_plain_loop(random):
    truth, prediction = random.integers(0, 3, (2, 6, 7))
    truth[0] = 255

    matrix = confusion_matrix(torch.from_numpy(truth), torch.from_numpy(prediction), 3)

    expected = np.zeros((3, 3), int)
    for t, p in zip(truth.ravel(), prediction.ravel(), strict=True):
        if t != 255:
            expected[t, p] += 1
    assert matrix.tolist() == expected.tolist()


def test_labels_of_one_byte(random):
    truth, prediction = random.integers(0, 3, (2, 6, 7), dtype=np.uint8)

    matrix = confusion_matrix(torch.from_numpy(truth), torch.from_numpy(prediction), 3)

    assert matrix.sum() == 42
    assert matrix.diagonal().sum() == (truth == prediction).sum()


def test_what_is_counted_is_not_changed(random):
    truth = torch.from_numpy(random.integers(0, 3, (6, 7)))
    before = truth.clone()

    confusion_matrix(truth, truth, 3)

    assert torch.equal(truth, before)


# ---- figures ----


@pytest.mark.parametrize("absent", [None, 2])
def test_the_figures_are_those_of_mmseg(random, absent):
    batches = [samples(random, 3, absent), samples(random, 2, absent)]
    theirs = IoUMetric(iou_metrics=["mIoU", "mDice", "mFscore"])
    theirs.dataset_meta = {"classes": CLASSES}
    for batch in batches:
        theirs.process({}, batch)
    results = [sum(parts) for parts in zip(*theirs.results, strict=True)]
    expected = theirs.total_area_to_metrics(*results, ["mIoU", "mDice", "mFscore"])

    matrix = sum(
        confusion_matrix(s["gt_sem_seg"]["data"], s["pred_sem_seg"]["data"], 4)
        for batch in batches
        for s in batch
    )
    figures = class_figures(matrix.numpy())

    for ours, name in (
        ("IoU", "IoU"),
        ("Dice", "Dice"),
        ("Precision", "Precision"),
        ("Recall", "Acc"),
    ):
        assert figures[ours] == pytest.approx(100 * expected[name], nan_ok=True)
    means = evaluate(SegmentationMetric(), batches)
    summary_of_mmseg = theirs.compute_metrics(theirs.results)
    for name in ("aAcc", "mIoU", "mDice", "mPrecision"):
        assert round(means[name], 2) == pytest.approx(summary_of_mmseg[name], abs=0.006)
    assert round(means["mRecall"], 2) == pytest.approx(summary_of_mmseg["mAcc"], abs=0.006)


def test_a_mask_of_another_size_than_the_prediction(random):
    sample = samples(random, 1)[0]
    sample["gt_sem_seg"]["data"] = sample["gt_sem_seg"]["data"][..., :5]

    with pytest.raises(ConfigError, match=r"the mask has \d+ x 5 pixels .* put aicore.LoadMask"):
        evaluate(SegmentationMetric(), [[sample]])


def test_the_batches_make_no_difference(random):
    found = samples(random, 6)

    together = evaluate(SegmentationMetric(), [found])
    apart = evaluate(SegmentationMetric(), [[sample] for sample in found])

    assert together == apart


def test_an_evaluation_begins_anew(random):
    metric = SegmentationMetric()
    first = evaluate(metric, [samples(random, 2)])

    batch = samples(random, 3)
    second = evaluate(metric, [batch])

    assert second == evaluate(SegmentationMetric(), [batch])
    assert second != first


def test_a_class_that_is_nowhere_has_no_figures():
    figures = class_figures(np.array([[4, 0, 0], [1, 0, 0], [0, 0, 0]]))

    assert figures["IoU"][:2].tolist() == [80, 0]
    assert math.isnan(figures["IoU"][2])
    assert math.isnan(figures["Precision"][1])
    assert figures["Recall"][1] == 0
    assert summary(np.array([[4, 0, 0], [1, 0, 0], [0, 0, 0]]), np.zeros((3, 3), int))["mIoU"] == 40


def test_nothing_at_all():
    means = summary(np.zeros((2, 2), int), np.zeros((2, 3), int))

    assert math.isnan(means["mIoU"])
    assert math.isnan(means["aAcc"])
    assert math.isnan(means["region_recall"])
    assert means["false_regions"] == 0


def test_regions_in_the_metrics():
    truth = torch.zeros(1, 40, 40, dtype=torch.int64)
    truth[0, :5, :5] = 1
    truth[0, 20:25, :5] = 2
    prediction = torch.zeros_like(truth)
    prediction[0, :5, :5] = 1
    prediction[0, 20:25, 20:25] = 3
    batch = [{"gt_sem_seg": {"data": truth}, "pred_sem_seg": {"data": prediction}}]

    means = evaluate(SegmentationMetric(), [batch])

    assert means["region_recall"] == 50
    assert means["false_regions"] == 1
    small = evaluate(SegmentationMetric(min_region_area=26), [batch])
    assert math.isnan(small["region_recall"])
    assert small["false_regions"] == 0


def test_a_prefix(random):
    assert "test/mIoU" in evaluate(SegmentationMetric(prefix="test"), [samples(random, 1)])


# ---- the table ----


def test_the_table_is_logged(random, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)

    evaluate(SegmentationMetric(), [samples(random, 2, absent=3)])

    logger.removeHandler(caplog.handler)
    lines = [line for line in caplog.text.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[1:]] == [*CLASSES, "(any but the first)"]
    assert [cell.strip() for cell in lines[4].split("|")[2:6]] == ["-"] * 4


def test_of_many_classes_the_weakest_are_shown():
    names = [f"class {index}" for index in range(40)]
    matrix = np.diag(np.arange(40)) + np.eye(40, k=1, dtype=int)
    figures = class_figures(matrix)

    table = class_table(names, figures, np.zeros((40, 3), int))

    rows = [
        line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| class ")
    ]
    assert len(rows) == 31  # with the heading
    assert rows[1] == "class 0"
    assert "10 more classes in metrics.json" in table
