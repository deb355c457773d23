from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from aicore.classification import Classification, ClassificationInferencer
from aicore.classification.task import GREEN, RED, WHITE

CLASSES = ("good", "scratch", "spot")


@pytest.fixture
def task():
    return Classification()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), np.full((32, 32, 3), 90, np.uint8))
    return str(path)


def record_of(file: str, truth: str, prediction: str) -> dict:
    return {
        "image": file,
        "inspected": True,
        "truth": truth,
        "prediction": prediction,
        "pred_score": 0.75,
    }


# ---- records ----


def test_a_record_in_names_and_rounded_scores(task):
    sample = DataSample().set_gt_label(2).set_pred_score(torch.tensor([0.1234567, 0.7, 0.1765433]))

    assert task.record(sample, CLASSES) == {
        "truth": "spot",
        "prediction": "scratch",
        "pred_score": 0.7,
        "pred_scores": {"good": 0.123457, "scratch": 0.7, "spot": 0.176543},
    }


def test_a_record_of_a_sample_that_says_nothing(task):
    assert task.record(DataSample(), CLASSES) == {}


def test_of_many_classes_the_best_scores_are_kept(task):
    classes = tuple(f"c{index}" for index in range(30))
    scores = torch.arange(30.0).roll(7) / 435

    record = task.record(DataSample().set_pred_score(scores), classes)

    assert list(record["pred_scores"]) == [f"c{(29 - rank + 7) % 30}" for rank in range(20)]
    values = list(record["pred_scores"].values())
    assert values == sorted(values, reverse=True)
    assert record["prediction"] == "c6"


# ---- drawing ----


def colour_below(picture: np.ndarray) -> tuple[int, ...]:
    """Returns the brightest colour of the caption below a picture of 200 pixels."""
    return tuple(picture[200:].reshape(-1, 3).max(axis=0).tolist())


@pytest.mark.parametrize(
    ("record", "colour"),
    [
        ({"truth": "good", "prediction": "good", "pred_score": 0.9}, GREEN),
        ({"truth": "good", "prediction": "spot", "pred_score": 0.9}, RED),
        ({"prediction": "spot", "pred_score": 0.9}, WHITE),
        ({"truth": "good"}, WHITE),
        ({"reason": "it is empty"}, WHITE),
    ],
)
def test_the_colour_says_whether_it_is_right(task, record, colour):
    image = np.full((200, 300, 3), 90, np.uint8)

    picture = task.draw(image, record)

    assert np.array_equal(picture[:200], image)
    assert colour_below(picture) == colour


def test_a_wrong_prediction_shows_the_truth_too(task):
    image = np.zeros((200, 300), np.uint8)
    wrong = {"truth": "good", "prediction": "spot", "pred_score": 0.9}

    with_truth = task.draw(image, wrong)[200:] > 30
    without = task.draw(image, {**wrong, "truth": "spot"})[200:] > 30

    assert np.nonzero(with_truth)[1].max() > np.nonzero(without)[1].max()


# ---- reports ----


def test_a_report_by_a_plain_count(task, file, tmp_path):
    pairs = [("good", "good")] * 5 + [("good", "spot")] * 2 + [("scratch", "scratch")] * 3
    pairs += [("scratch", "good"), ("spot", "good")]
    records = [record_of(file, *pair) for pair in pairs]

    text, figures = task.report(records, CLASSES, tmp_path)

    matrix = [[pairs.count((row, column)) for column in CLASSES] for row in CLASSES]
    assert figures["confusion_matrix"] == matrix == [[5, 0, 2], [1, 3, 0], [1, 0, 0]]
    for index, name in enumerate(CLASSES):
        row, right = figures["classes"][name], matrix[index][index]
        predicted, true = sum(line[index] for line in matrix), sum(matrix[index])
        precision = 100 * right / predicted if predicted else 0
        recall = 100 * right / true
        assert row["precision"] == pytest.approx(precision)
        assert row["recall"] == pytest.approx(recall)
        assert row["f1"] == pytest.approx(200 * right / (predicted + true))
        assert row["support"] == true
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["good", "71.43", "71.43", "71.43", "7"] in lines
    assert ["good", "5", "0", "2"] in lines
    for name in ("confusion_matrix.png", "examples.png"):
        assert cv2.imread(str(tmp_path / name)) is not None


def test_images_that_were_not_inspected_are_named(task, file, tmp_path):
    missed = {"image": "b.png", "inspected": False, "truth": "spot", "reason": "it is empty"}

    text, figures = task.report([record_of(file, "good", "good"), missed], CLASSES, tmp_path)

    assert "1 of 2 images were not inspected:\n  b.png: it is empty" in text
    assert sum(map(sum, figures["confusion_matrix"])) == 1


def test_everything_right(task, file, tmp_path):
    records = [record_of(file, name, name) for name in CLASSES for _ in range(20)]

    text, figures = task.report(records, CLASSES, tmp_path)

    assert figures["confusion_matrix"] == [[20, 0, 0], [0, 20, 0], [0, 0, 20]]
    assert "not inspected" not in text


def test_of_many_classes_the_weakest_are_shown(task, file, tmp_path):
    classes = tuple(f"c{index:02}" for index in range(25))
    records = [record_of(file, name, name) for name in classes[:22] for _ in range(2)]
    records.append(record_of(file, "c07", "c08"))

    text, figures = task.report(records, classes, tmp_path)

    rows = [line for line in text.splitlines() if line.startswith("| c")]
    assert len(rows) == 21  # with the heading
    assert [row.split()[1] for row in rows[1:3]] == ["c07", "c08"]
    assert not {"c22", "c23", "c24"} & {row.split()[1] for row in rows}  # without an image
    assert "5 more classes in metrics.json" in text
    assert "predicted" not in text  # no matrix of that size on the console
    assert len(figures["classes"]) == 25


def test_its_inferencer():
    assert Classification.inferencer is ClassificationInferencer
