from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from aicore.runtime.images import read_image
from aicore.segmentation import Segmentation, SegmentationInferencer, to_class_map
from aicore.segmentation.masks import IGNORE
from aicore.segmentation.smp import from_smp
from aicore.task import inspection_record
from aicore.visualization.drawing import class_color

CLASSES = ("background", "scratch", "spot")
SIZE = (40, 60)


@pytest.fixture
def task():
    return Segmentation()


def class_map(*areas: tuple[int, int, int, int, int]) -> np.ndarray:
    """A map of the background with boxes: class, top, left, height, width."""
    pixels = np.zeros(SIZE, np.int64)
    for index, top, left, height, width in areas:
        pixels[top : top + height, left : left + width] = index
    return pixels


def sample(truth: np.ndarray | None = None, prediction: np.ndarray | None = None) -> SegDataSample:
    """A data sample whose scores are 0.9 for the predicted class."""
    made = SegDataSample(metainfo={"img_path": "part.png"})
    if truth is not None:
        made.gt_sem_seg = PixelData(data=torch.from_numpy(truth)[None])
    if prediction is not None:
        labels = torch.from_numpy(prediction)
        score = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1) * 0.85 + 0.05
        made.pred_sem_seg = PixelData(data=labels[None])
        made.seg_logits = PixelData(data=score.log())
    return made


TRUTH = class_map((1, 0, 0, 6, 10), (2, 20, 20, 5, 5), (IGNORE, 39, 0, 1, 60))
PREDICTION = class_map((1, 0, 0, 6, 8), (1, 30, 40, 4, 4))


# ---- records ----


def test_a_record_is_plain_json_and_gives_the_maps_back(task):
    record = json.loads(json.dumps(task.record(sample(TRUTH, PREDICTION), CLASSES)))

    assert np.array_equal(to_class_map(record["truth"]), TRUTH)
    assert np.array_equal(to_class_map(record["prediction"]), PREDICTION)


def test_what_a_record_says(task):
    record = task.record(sample(TRUTH, PREDICTION), CLASSES)

    assert record["truth"]["size"] == [40, 60]
    pixels = {name: (e["index"], e["pixels"]) for name, e in record["truth"]["classes"].items()}
    assert pixels == {
        "background": (0, 2400 - 60 - 25 - 60),
        "scratch": (1, 60),
        "spot": (2, 25),
        "(ignored)": (255, 60),
    }
    assert record["pred_regions"] == [
        {"class": "scratch", "pixels": 48, "box": [0, 0, 8, 6], "score": 0.9},
        {"class": "scratch", "pixels": 16, "box": [40, 30, 4, 4], "score": 0.9},
    ]
    assert record["pred_confusion"] == {
        "background": {"background": 2400 - 60 - 25 - 60 - 16, "scratch": 16},
        "scratch": {"background": 12, "scratch": 48},
        "spot": {"background": 25},
    }
    assert record["pred_found"] == {
        "scratch": {"found": 1, "missed": 0, "false": 1},
        "spot": {"found": 0, "missed": 1, "false": 0},
        "(any but the first)": {"found": 1, "missed": 1, "false": 1},
    }


def test_small_regions_are_not_listed():
    record = Segmentation(min_region_area=20).record(sample(TRUTH, PREDICTION), CLASSES)

    assert [region["pixels"] for region in record["pred_regions"]] == [48]
    assert record["pred_found"]["scratch"]["false"] == 0


def test_records_of_samples_that_say_less(task):
    assert task.record(SegDataSample(), CLASSES) == {}
    assert list(task.record(sample(TRUTH), CLASSES)) == ["truth"]
    assert list(task.record(sample(None, PREDICTION), CLASSES)) == ["prediction", "pred_regions"]


def test_of_an_image_that_was_not_inspected_the_truth_is_left(task):
    unread = sample(TRUTH, PREDICTION)
    unread.set_metainfo({"not_inspected": "it is empty"})

    record = inspection_record(task, unread, CLASSES)

    assert set(record) == {"image", "inspected", "truth", "reason"}


# ---- pictures ----


def drawn(task, record) -> np.ndarray:
    return task.draw(np.full((400, 600, 3), 90, np.uint8), record)


def test_the_prediction_is_drawn_beside_the_truth(task):
    picture = drawn(task, task.record(sample(TRUTH, PREDICTION), CLASSES))

    assert picture.shape[1] == 2 * 600 + 4
    left, right = picture[:400, :600], picture[:400, 604:]
    assert (left[300:340, 400:440] != 90).any(axis=2).all()  # the false scratch
    assert (right[305:335, 405:435] == 90).all()
    assert (left[205:245, 205:245] == 90).all()
    assert (right[205:245, 205:245] != 90).any(axis=2).all()  # the missed spot
    assert tuple(left[300, 420]) == class_color(1)  # its contour
    assert tuple(right[200, 220]) == class_color(2)
    assert picture[400:].max() == 255  # the legend


def test_without_truth_there_is_one_picture(task):
    picture = drawn(task, task.record(sample(None, PREDICTION), CLASSES))

    assert picture.shape[1] == 600
    assert picture.shape[0] > 400


def test_a_small_picture_is_enlarged(task):
    record = task.record(sample(None, PREDICTION), CLASSES)

    assert task.draw(np.zeros((*SIZE, 3), np.uint8), record).shape[1] == 320


def test_an_image_that_was_not_inspected_shows_why(task):
    assert drawn(task, {"reason": "it is empty"}).shape[0] > 400
    assert drawn(task, {}).shape == (400, 600, 3)


def test_a_map_of_indices_is_written_beside_the_picture(task):
    record = task.record(sample(None, PREDICTION), CLASSES)

    (name, mask), *_ = task.maps(record).items()

    assert name == "masks"
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, PREDICTION)
    assert task.maps({"reason": "it is empty"}) == {}


# ---- reports ----


@pytest.fixture
def records(task, tmp_path):
    """A good image, one with a missed and a false region, and one that cannot be read."""
    found = []
    for index, (truth, prediction) in enumerate([(TRUTH, TRUTH % 255), (TRUTH, PREDICTION)]):
        file = tmp_path / f"{index}.png"
        cv2.imwrite(str(file), np.full((*SIZE, 3), 90, np.uint8))
        record = task.record(sample(truth, prediction), CLASSES)
        found.append({"image": str(file), "inspected": True, **record})
    missed = {"image": "lost.png", "inspected": False, "reason": "it is empty"}
    return [*found, missed]


def test_a_report(task, records, tmp_path):
    text, figures = task.report(records, CLASSES, tmp_path)

    scratch = figures["classes"]["scratch"]
    assert figures["confusion_matrix"] == [[4510 - 16, 16, 0], [12, 108, 0], [25, 0, 25]]
    assert scratch["IoU"] == pytest.approx(100 * 108 / (120 + 124 - 108))
    assert scratch["Dice"] == pytest.approx(200 * 108 / (120 + 124))
    assert scratch["Precision"] == pytest.approx(100 * 108 / 124)
    assert scratch["Recall"] == pytest.approx(100 * 108 / 120)
    assert {key: scratch[key] for key in ("pixels", "found", "missed", "false")} == {
        "pixels": 120,
        "found": 2,
        "missed": 0,
        "false": 1,
    }
    assert "found" not in figures["classes"]["background"]
    assert figures["any_defect"] == {"found": 3, "missed": 1, "false": 1}
    json.dumps(figures, allow_nan=False)
    bad = records[1]["image"]
    assert f"1 of 3 images have missed regions:\n  {bad}: 1" in text
    assert f"1 of 3 images have false regions:\n  {bad}: 1" in text
    assert "1 of 3 images were not inspected:\n  lost.png: it is empty" in text


def test_a_reports_pictures(task, records, tmp_path):
    task.report(records, CLASSES, tmp_path)

    assert read_image(tmp_path / "confusion_matrix.png").std() > 0
    examples = read_image(tmp_path / "examples.png")
    assert examples.shape[1:] == (2 * 564, 3)
    assert 100 < examples.shape[0] < 564  # wide pictures, without empty bands
    # The worst comes first: its picture is not that of the right one.
    assert not np.array_equal(examples[:, :564], examples[:, 564:])


def test_a_class_without_pixels_is_undefined(task, tmp_path):
    record = task.record(sample(class_map(), class_map()), CLASSES)
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.zeros((*SIZE, 3), np.uint8))

    _, figures = task.report([{"image": str(file), "inspected": True, **record}], CLASSES, tmp_path)

    assert figures["classes"]["spot"]["IoU"] is None
    assert figures["classes"]["background"]["IoU"] == 100


def test_nothing_was_inspected(task, tmp_path):
    text, figures = task.report(
        [{"image": "a.png", "inspected": False, "reason": "it is empty"}], CLASSES, tmp_path
    )

    assert "1 of 1 images were not inspected" in text
    assert figures["classes"]["background"]["IoU"] is None
    assert not (tmp_path / "examples.png").exists()


def test_what_the_task_names():
    assert Segmentation.inferencer is SegmentationInferencer
    assert Segmentation.weight_sources == {"smp": from_smp}
