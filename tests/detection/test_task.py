from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from aicore.detection.inferencer import DetectionInferencer
from aicore.detection.metrics import DetectionMetric
from aicore.detection.official import from_yolox
from aicore.detection.task import GREEN, ORANGE, RED, YELLOW, Detection
from aicore.errors import ConfigError
from aicore.runtime.images import read_image
from aicore.task import inspection_record
from aicore.visualization.drawing import class_color

CLASSES = ("scratch", "spot", "dent")
SIZE = (200, 300)


@pytest.fixture
def task():
    return Detection()


def instances(rows) -> InstanceData:
    """Of (label, x1, y1, x2, y2), or with a score at the end."""
    table = torch.tensor(rows, dtype=torch.float32) if len(rows) else torch.zeros(0, 6)
    found = InstanceData(labels=table[:, 0].long(), bboxes=table[:, 1:5])
    if table.shape[1] == 6:
        found.scores = table[:, 5]
    return found


def sample(truth=None, predictions=None, ignored=()) -> DetDataSample:
    made = DetDataSample(metainfo={"img_path": "part.png"})
    made.gt_instances = InstanceData() if truth is None else instances(truth)
    made.ignored_instances = InstanceData() if truth is None else instances(list(ignored))
    if predictions is not None:
        made.pred_instances = instances(predictions)
    return made


TRUTH = [(0, 20, 20, 60, 50), (1, 100, 20, 140, 60), (2, 200, 100, 280, 180)]
IGNORED = [(0, 20, 150, 60, 190)]
PREDICTIONS = [
    (2, 30, 100, 70, 140, 0.7),  # nothing is there
    (0, 21, 20, 61, 50, 0.9),
    (2, 100, 20, 140, 60, 0.8),  # is a spot
    (0, 20, 150, 60, 190, 0.75),  # ignored
    (2, 200, 100, 280, 180, 0.1),  # of a low score
]


# ---- records ----


def test_what_a_record_says(task):
    record = task.record(sample(TRUTH, PREDICTIONS, IGNORED), CLASSES)

    assert record == json.loads(json.dumps(record))
    assert record["truth"] == [
        {"class": "scratch", "index": 0, "box": [20, 20, 40, 30]},
        {"class": "spot", "index": 1, "box": [100, 20, 40, 40]},
        {"class": "dent", "index": 2, "box": [200, 100, 80, 80]},
        {"class": "scratch", "index": 0, "box": [20, 150, 40, 40], "ignored": True},
    ]
    assert [entry["score"] for entry in record["pred_boxes"]] == [0.9, 0.8, 0.75, 0.7, 0.1]
    assert record["pred_boxes"][1] == {
        "class": "dent",
        "index": 2,
        "box": [100, 20, 40, 40],
        "score": 0.8,
    }


def test_records_of_samples_that_say_less(task):
    assert task.record(DetDataSample(), CLASSES) == {}
    assert list(task.record(sample(None, PREDICTIONS), CLASSES)) == ["pred_boxes"]
    assert task.record(sample([], []), CLASSES) == {"truth": [], "pred_boxes": []}


def test_of_an_image_that_was_not_inspected_the_truth_is_left(task):
    unread = sample(TRUTH, PREDICTIONS)
    unread.set_metainfo({"not_inspected": "it is empty"})

    record = inspection_record(task, unread, CLASSES)

    assert set(record) == {"image", "inspected", "truth", "reason"}


@pytest.mark.parametrize("value", [-0.1, 1.5, "0.3", None])
def test_a_threshold_that_is_none(value):
    with pytest.raises(ConfigError, match=r"score_threshold is .*: expected a number in"):
        Detection(score_threshold=value)


# ---- pictures ----

GRAY = np.full((*SIZE, 3), 90, np.uint8)
SCALE = 480 / 300


def pixel(picture: np.ndarray, x: float, y: float) -> tuple[int, ...]:
    """The colour at a place of the image, which is shown larger."""
    return tuple(picture[round(y * SCALE), round(x * SCALE)].tolist())


def test_only_boxes_of_high_scores_are_drawn(task):
    record = task.record(sample(None, PREDICTIONS), CLASSES)

    picture = task.draw(GRAY, record)

    assert picture.shape[1] == 480
    assert picture.shape[0] > 320  # the legend
    assert pixel(picture, 100, 50) == class_color(2)
    assert pixel(picture, 61, 40) == class_color(0)
    assert pixel(picture, 200, 150) == (90, 90, 90)
    low = Detection(score_threshold=0.05).draw(GRAY, record)
    assert pixel(low, 200, 150) == class_color(2)


def test_the_truth_stands_beside(task):
    record = task.record(sample(TRUTH, PREDICTIONS, IGNORED), CLASSES)

    picture = task.draw(GRAY, record)

    assert picture.shape[1] == 2 * 480 + 4
    right = picture[:, 484:]
    assert pixel(right, 100, 50) == class_color(1)
    assert pixel(right, 200, 150) == class_color(2)


def test_the_truth_alone(task):
    assert task.draw(GRAY, task.record(sample(TRUTH), CLASSES)).shape[1] == 480


def test_a_large_image_keeps_its_size(task):
    picture = task.draw(np.zeros((600, 900, 3), np.uint8), {"pred_boxes": []})

    assert picture.shape[1] == 900
    assert picture.shape[0] > 600


def test_an_image_that_was_not_inspected_shows_why(task):
    assert task.draw(GRAY, {"reason": "it is empty"}).shape[0] > 320
    assert task.draw(GRAY, {}).shape == (320, 480, 3)


def test_a_judged_image_shows_what_is_wrong(task, sure, tmp_path):
    task.report(sure, CLASSES, tmp_path)

    picture = task.draw(GRAY, sure[1])

    assert pixel(picture, 61, 40) == GREEN
    assert pixel(picture, 100, 50) == ORANGE
    assert pixel(picture, 30, 120) == RED
    colors = {pixel(picture, 200, y / 4) for y in range(4 * 115, 4 * 170)}
    assert {YELLOW, (90, 90, 90)} <= colors  # dashed


def test_there_are_no_maps(task):
    assert task.maps(task.record(sample(None, PREDICTIONS), CLASSES)) == {}


# ---- reports ----


@pytest.fixture
def records(task, tmp_path):
    """A good image, one with all kinds of faults, and one that cannot be read."""
    right = [(*row, 0.95) for row in TRUTH]
    found = []
    for index, predictions in enumerate([right, PREDICTIONS]):
        file = tmp_path / f"{index}.png"
        cv2.imwrite(str(file), GRAY)
        record = task.record(sample(TRUTH, predictions, IGNORED), CLASSES)
        found.append({"image": str(file), "inspected": True, **record})
    return [*found, {"image": "lost.png", "inspected": False, "reason": "it is empty"}]


def test_a_report(task, records, tmp_path):
    text, figures = task.report(records, CLASSES, tmp_path)

    # 4 of 4 right from 0.9 on, of 6: F1 0.8.
    assert figures["operating_point"] == pytest.approx(
        {"confidence": 0.9, "F1": 80, "precision": 100, "recall": 100 * 4 / 6}
    )
    scratch = figures["classes"]["scratch"]
    assert {key: scratch[key] for key in ("boxes", "right", "missed", "confused", "false")} == {
        "boxes": 2,
        "right": 2,
        "missed": 0,
        "confused": 0,
        "false": 0,
    }
    assert scratch["AP50"] == scratch["F1"] == scratch["precision"] == scratch["recall"] == 100
    assert scratch["confidence"] == pytest.approx(0.9)
    assert figures["confusion_matrix"] == [[2, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    json.dumps(figures, allow_nan=False)
    bad = records[1]["image"]
    assert "At the confidence of best F1 for all, 0.900: F1 80.00 %" in text
    assert f"1 of 3 images have missed objects:\n  {bad}: 2" in text
    assert "false objects" not in text
    assert "1 of 3 images were not inspected:\n  lost.png: it is empty" in text


@pytest.fixture
def sure(records):
    """The records with right predictions below the wrong ones, so that those count too."""
    for entry in records[0]["pred_boxes"]:
        entry["score"] = 0.6
    del records[1]["pred_boxes"][-1]
    return records


def test_the_faults_of_each_image_stand_in_its_record(task, sure, tmp_path):
    text, figures = task.report(sure, CLASSES, tmp_path)

    assert figures["operating_point"]["confidence"] == 0.6
    assert json.loads(json.dumps(sure)) == sure
    verdict = sure[1]["pred_verdict"]
    assert verdict["confidence"] == 0.6
    assert [entry["score"] for entry in verdict["right"]] == [0.9]
    assert verdict["confused"] == [
        {"class": "dent", "index": 2, "box": [100, 20, 40, 40], "score": 0.8, "truth": "spot"}
    ]
    assert verdict["false"] == [
        {"class": "dent", "index": 2, "box": [30, 100, 40, 40], "score": 0.7}
    ]
    assert verdict["missed"] == [{"class": "dent", "index": 2, "box": [200, 100, 80, 80]}]
    assert len(sure[0]["pred_verdict"]["right"]) == 3
    assert "pred_verdict" not in sure[2]
    assert figures["confusion_matrix"] == [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 1, 0]]
    bad = sure[1]["image"]
    for text_of in ("missed objects", "false objects", "confused classes"):
        assert f"1 of 3 images have {text_of}:\n  {bad}: 1" in text


def test_a_reports_pictures(task, records, tmp_path):
    task.report(records, CLASSES, tmp_path)

    for name in ("precision_recall.png", "confusion_matrix.png"):
        assert read_image(tmp_path / name).std() > 0
    examples = read_image(tmp_path / "examples.png")
    assert examples.shape[1] > 1000
    # The worst comes first: something is missed there.
    cells = np.array_split(examples, 3, axis=1)
    yellow = [(cell == YELLOW).all(axis=2).any() for cell in cells]
    assert yellow == [True, False, False]


def test_the_figures_of_the_report_are_those_of_the_metric(task, tmp_path):
    random = np.random.default_rng(0)
    metric = DetectionMetric()
    metric.dataset_meta = {"classes": CLASSES}
    records = []
    for index in range(20):
        corner = random.uniform(0, 100, (6, 2))
        boxes = np.hstack([corner, corner + random.uniform(9, 90, (6, 2))])
        labels = random.integers(0, 3, (6, 1))
        near = boxes + random.normal(0, 6, boxes.shape)
        scores = random.random((6, 1))
        made = sample(np.hstack([labels, boxes]), np.hstack([labels, near, scores]))
        metric.process({}, [made.to_dict()])
        file = tmp_path / f"{index}.png"
        cv2.imwrite(str(file), GRAY)
        records.append({"image": str(file), "inspected": True, **task.record(made, CLASSES)})

    _, figures = task.report(records, CLASSES, tmp_path)
    metrics = metric.evaluate(20)

    ap = np.mean([row["AP"] for row in figures["classes"].values()])
    assert ap == pytest.approx(metrics["AP"], abs=0.01)  # the records are rounded
    assert figures["operating_point"]["F1"] == pytest.approx(metrics["F1"])
    point = figures["operating_point"]["confidence"]
    assert point == pytest.approx(metrics["F1_confidence"], abs=1e-6)
    matrix = np.array(figures["confusion_matrix"])
    recall = 100 * np.trace(matrix) / matrix[:-1].sum()
    assert figures["operating_point"]["recall"] == pytest.approx(recall)


def test_without_a_right_prediction_the_tasks_threshold_holds(task, tmp_path):
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), GRAY)
    record = task.record(sample([], [(0, 9, 9, 20, 20, 0.5), (0, 50, 9, 70, 20, 0.2)]), CLASSES)
    record = {"image": str(file), "inspected": True, **record}

    text, figures = task.report([record], CLASSES, tmp_path)

    assert figures["operating_point"] == {
        "confidence": 0.3,
        "F1": None,
        "precision": None,
        "recall": None,
    }
    assert [entry["score"] for entry in record["pred_verdict"]["false"]] == [0.5]
    assert figures["classes"]["spot"]["AP"] is None
    assert "No confidence gives a right prediction" in text
    assert (tmp_path / "precision_recall.png").exists()


def test_nothing_was_inspected(task, tmp_path):
    text, figures = task.report(
        [{"image": "a.png", "inspected": False, "reason": "it is empty"}], CLASSES, tmp_path
    )

    assert "1 of 1 images were not inspected" in text
    assert figures["classes"]["scratch"]["AP"] is None
    assert not (tmp_path / "examples.png").exists()


def test_many_classes(tmp_path):
    names = tuple(f"class {index}" for index in range(60))
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), GRAY)
    truth = [(index, 5 * index, 0, 5 * index + 4, 40) for index in range(50)]
    record = Detection().record(sample(truth, [(*row, 0.5) for row in truth[10:]]), names)

    text, figures = Detection().report(
        [{"image": str(file), "inspected": True, **record}], names, tmp_path
    )

    assert "40 more classes in metrics.json" in text
    assert "class 9 " in text
    assert len(figures["classes"]) == 60


def test_what_the_task_names():
    assert Detection.inferencer is DetectionInferencer
    assert Detection.weight_sources == {"yolox": from_yolox}
