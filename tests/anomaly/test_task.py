from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from aicore.anomaly.inferencer import AnomalyInferencer
from aicore.anomaly.task import CYAN, GREEN, GREY, RED, WHITE, AnomalyDetection
from aicore.evaluation.areas import decode_mask
from aicore.registry import TASKS
from aicore.runtime.images import read_image
from aicore.structures import AnomalyDataSample
from aicore.task import inspection_record

CLASSES = ("ok", "ng")
SIZE = (40, 60)
THRESHOLD = 12.0


@pytest.fixture
def task():
    return AnomalyDetection()


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def plane(pixels: np.ndarray, dtype=torch.uint8) -> PixelData:
    return PixelData(data=torch.from_numpy(np.asarray(pixels)).to(dtype)[None])


def sample(
    distances: np.ndarray | None = None,
    kind: str | None = None,
    mask: np.ndarray | None = None,
    threshold: float = THRESHOLD,
) -> AnomalyDataSample:
    """A data sample as the model returns it; ``kind`` is the true type."""
    made = AnomalyDataSample(metainfo={"img_path": "part.png", "ori_shape": SIZE})
    if kind is not None:
        made.set_metainfo({"defect_type": kind})
        made.gt_label = torch.tensor(int(kind != "good"))
    if mask is not None:
        made.gt_mask = plane(mask)
    if distances is not None:
        made.pred_map = plane(distances, torch.float32)
        score = made.pred_map.data.max()
        made.pred_score, made.pred_threshold = score, torch.tensor(threshold)
        made.pred_ng_score = score**2 / (score**2 + threshold**2)
    return made


SPOT = box(10, 20, 8, 6)
TRUTH = SPOT + 255 * box(35, 0, 5, 60).astype(np.uint8)
DISTANCES = np.where(SPOT, 24.0, 4.0) + 9 * box(30, 50, 2, 3)


# ---- records ----


def test_what_a_record_says(task):
    found = sample(DISTANCES, "spot", TRUTH)

    record = json.loads(json.dumps(task.record(found, CLASSES), allow_nan=False))

    assert (record["label"], record["defect_type"]) == ("ng", "spot")
    assert record["mask"]["pixels"] == 48
    assert np.array_equal(decode_mask(record["mask"]["counts"], record["mask"]["size"]), SPOT)
    assert record["ignored"]["pixels"] == 300
    assert record["prediction"] == "ng"
    assert record["pred_distance"] == 24
    assert record["pred_threshold"] == 12
    assert record["pred_ng_score"] == pytest.approx(0.8)
    assert record["pred_regions"] == [
        {"pixels": 48, "box": [20, 10, 6, 8], "distance": 24},
        {"pixels": 6, "box": [50, 30, 3, 2], "distance": 13},
    ]
    assert record["pred_mask"]["pixels"] == 54
    assert record["pred_map"]["size"] == [40, 60]


@pytest.mark.parametrize(("highest", "prediction"), [(12.0, "ng"), (11.999999, "ok")])
def test_from_the_threshold_on_an_image_is_ng(task, highest, prediction):
    record = task.record(sample(np.where(SPOT, highest, 4.0)), CLASSES)

    assert record["prediction"] == prediction
    assert record["pred_mask"]["pixels"] == (48 if prediction == "ng" else 0)
    assert (record["pred_distance"] >= record["pred_threshold"]) == (prediction == "ng")


def test_numbers_are_short_and_the_same_float32(task):
    record = task.record(sample(np.full(SIZE, 0.1), threshold=1 / 3), CLASSES)

    assert record["pred_distance"] == 0.1
    assert record["pred_threshold"] == 0.33333334


def test_without_a_threshold_nothing_is_judged(task):
    record = task.record(sample(DISTANCES, threshold=float("nan")), CLASSES)

    assert json.dumps(record, allow_nan=False)
    assert record["pred_distance"] == 24
    assert {record[key] for key in ("prediction", "pred_threshold", "pred_ng_score")} == {None}
    assert not {"pred_mask", "pred_regions"} & set(record)
    assert task.maps(record) == {}


def test_records_of_samples_that_say_less(task):
    assert task.record(sample(), CLASSES) == {}
    assert task.record(sample(kind="good"), CLASSES) == {"label": "ok", "defect_type": "good"}
    assert all(key.startswith("pred") for key in task.record(sample(DISTANCES), CLASSES))


def test_pixels_outside_the_roi_are_ignored(task):
    good = sample(kind="good")
    good.roi = plane(box(0, 0, 40, 50))

    assert task.record(good, CLASSES)["ignored"]["pixels"] == 400


def test_only_the_largest_regions_are_listed(task):
    dots = np.zeros(SIZE)
    dots[::4, ::4] = 20
    dots[0, 1] = 20

    regions = task.record(sample(dots), CLASSES)["pred_regions"]

    assert len(regions) == 50
    assert regions[0]["pixels"] == 2


def test_a_record_stays_small(task):
    rows, columns = np.mgrid[:1000, :1000]
    noise = np.random.default_rng(0).normal(size=(64, 64))
    distances = cv2.resize(np.abs(noise), (1000, 1000), interpolation=cv2.INTER_CUBIC)
    distances[(rows - 500) ** 2 + (columns - 400) ** 2 < 80**2] += 30

    assert len(json.dumps(task.record(sample(distances), CLASSES))) < 9000


def test_of_an_image_that_was_not_inspected_the_truth_is_left(task):
    unread = sample(DISTANCES, "spot", TRUTH)
    unread.set_metainfo({"not_inspected": "it is empty"})

    record = inspection_record(task, unread, CLASSES)

    assert set(record) == {
        *("image", "inspected", "reason"),
        *("label", "defect_type", "mask", "ignored"),
    }


# ---- pictures ----

PHOTO = np.full((400, 600, 3), 90, np.uint8)


def has(picture: np.ndarray, color) -> bool:
    return bool((picture == color).all(axis=2).any())


def test_the_heat_map_is_drawn_beside_the_truth(task):
    record = json.loads(json.dumps(task.record(sample(DISTANCES, "spot", TRUTH), CLASSES)))

    picture = task.draw(PHOTO, record)

    assert picture.shape[1] == 2 * 600 + 4
    heat, truth, below = picture[:400, :600], picture[:400, 604:], picture[400:]
    assert tuple(heat[100, 230]) == CYAN  # the contour at the threshold
    assert tuple(truth[100, 230]) == CYAN  # the truth's
    assert tuple(truth[350, 300]) == GREY
    inside, outside = heat[140, 230].astype(int), heat[140, 60].astype(int)
    assert np.abs(inside - 90).max() > 3 * np.abs(outside - 90).max()
    assert inside[2] > inside[0] + 100  # hot is red, orange, yellow
    assert (truth[120:160, 215:245] == 90).all()
    assert has(below, GREEN)
    assert has(below, CYAN)


@pytest.mark.parametrize(
    ("kind", "highest", "color"),
    [
        ("good", 4, GREEN),
        ("good", 20, RED),
        ("spot", 4, RED),
        ("spot", 20, GREEN),
        (None, 20, WHITE),
    ],
)
def test_the_verdict_is_green_if_right(task, kind, highest, color):
    record = task.record(sample(np.full(SIZE, float(highest)), kind), CLASSES)

    picture = task.draw(PHOTO, record)

    assert {c for c in (GREEN, RED, WHITE) if has(picture[-35:], c)} == {color}
    assert picture.shape[1] == (600 if kind is None else 1204)


def test_one_distance_has_one_colour_in_all_images(task):
    calm, hot = (np.full(SIZE, 4.0) + more * box(0, 0, 4, 4) for more in (1, 60))
    pictures = [task.draw(PHOTO, task.record(sample(map_), CLASSES)) for map_ in (calm, hot)]

    places = [picture[300, 300].astype(int) for picture in pictures]
    # The levels of the packed map differ, and so a little the distances.
    assert np.abs(places[0] - places[1]).max() <= 2


def test_without_a_threshold_the_image_scales_itself(task):
    pictures = [
        task.draw(PHOTO, task.record(sample(scale * DISTANCES, threshold=float("nan")), CLASSES))
        for scale in (1, 10)
    ]

    assert np.abs(pictures[0][:400].astype(int) - pictures[1][:400]).max() <= 1
    assert not has(pictures[0], CYAN)
    zero = task.record(sample(np.zeros(SIZE), threshold=float("nan")), CLASSES)
    assert np.array_equal(task.draw(PHOTO, zero)[:400], PHOTO)


def test_narrow_images_have_room_for_text(task):
    record = task.record(sample(DISTANCES.T, threshold=THRESHOLD), CLASSES)

    assert task.draw(np.zeros((600, 20, 3), np.uint8), record).shape[1] == 300
    assert task.draw(np.zeros((*SIZE, 3), np.uint8), record).shape[1] == 400  # enlarged


def test_what_is_drawn_without_a_prediction(task):
    truth = task.record(sample(kind="spot", mask=TRUTH), CLASSES)

    assert tuple(task.draw(PHOTO, truth)[100, 230]) == CYAN
    assert task.draw(PHOTO, {**truth, "reason": "it is empty"}).shape[0] > 440
    assert task.draw(PHOTO, {"reason": "it is empty"}).shape[0] > 400
    assert task.draw(PHOTO, {}).shape == (400, 600, 3)


def test_the_maps_of_an_image(task):
    maps = task.maps(task.record(sample(DISTANCES), CLASSES))

    assert set(maps) == {"heat_maps", "masks"}
    heat, mask = maps["heat_maps"], maps["masks"]
    assert (heat.dtype, mask.dtype) == (np.uint16, np.uint8)
    assert np.array_equal(mask, 255 * (DISTANCES >= THRESHOLD))
    assert np.array_equal(heat >= 32768, mask > 0)
    assert heat / 65535 == pytest.approx(DISTANCES**2 / (DISTANCES**2 + 144), abs=0.002)
    assert task.maps({"reason": "it is empty"}) == {}


# ---- reports ----


def judged(task, folder, kinds, threshold=THRESHOLD) -> list[dict]:
    """Records of images of a type and a largest distance each, and of one that cannot be read."""
    records = []
    for index, (kind, highest) in enumerate(kinds):
        file = folder / f"{index}.png"
        cv2.imwrite(str(file), PHOTO)
        distances = np.where(SPOT, highest, 1.0)
        mask = SPOT if kind == "spot" else None
        record = task.record(sample(distances, kind, mask, threshold), CLASSES)
        records.append({"image": str(file), "inspected": True, **record})
    lost = {"image": "lost.png", "inspected": False, "reason": "it is empty", "label": "ng"}
    return [*records, lost]


KINDS = [
    ("good", 5.0),
    ("good", 14.0),
    ("good", 11.0),
    ("spot", 30.0),
    ("spot", 8.0),
    ("rust", 9.0),
]


def test_a_report(task, tmp_path):
    records = judged(task, tmp_path, KINDS)

    text, figures = task.report(records, CLASSES, tmp_path)

    assert json.loads(json.dumps(figures, allow_nan=False)) == {
        "threshold": 12,
        "types": {
            "good": {"images": 3, "right": 2, "overkill": 1},
            "rust": {"images": 1, "found": 0, "missed": 1},
            "spot": {"images": 2, "found": 1, "missed": 1},
        },
        "confusion_matrix": [[2, 1], [2, 1]],
    }
    assert "NG from a distance of 12\n" in text
    assert (
        "2 of 3 images are escapes (defective, called OK):\n"
        f"  {records[4]['image']}: spot, distance 8, NG score 0.308\n"
        f"  {records[5]['image']}: rust, distance 9, NG score 0.360\n"
        "1 of 3 images are overkill (good, called NG):\n"
        f"  {records[1]['image']}: good, distance 14, NG score 0.576\n"
        "1 of 7 images were not inspected:\n  lost.png: it is empty"
    ) in text
    for name in ("confusion_matrix", "examples", "score_histograms"):
        assert read_image(tmp_path / f"{name}.png").std() > 0


def order_of_examples(task, monkeypatch, records, folder) -> list[int]:
    drawn = []
    draw = AnomalyDetection.draw
    monkeypatch.setattr(
        task, "draw", lambda i, r: drawn.append(r) or draw(task, i, r), raising=True
    )
    task.report(records, CLASSES, folder)
    return [records.index(record) for record in drawn]


def test_the_examples_are_those_that_tell_most(task, tmp_path, monkeypatch):
    records = judged(task, tmp_path, KINDS)

    # Escapes and overkill in turns, then from the threshold away.
    assert order_of_examples(task, monkeypatch, records, tmp_path) == [4, 1, 5, 2, 3, 0]


def test_the_examples_without_a_threshold(task, tmp_path, monkeypatch):
    records = judged(task, tmp_path, KINDS, threshold=float("nan"))

    assert order_of_examples(task, monkeypatch, records, tmp_path) == [4, 1, 5, 2, 3, 0]
    twenty = [(kind, 5.0 + index) for index, kind in enumerate(["good", "spot"] * 10)]
    more = judged(task, tmp_path, twenty)
    assert len(order_of_examples(task, monkeypatch, more, tmp_path)) == 12


def test_a_report_without_a_threshold(task, tmp_path):
    records = judged(task, tmp_path, KINDS, threshold=float("nan"))

    text, figures = task.report(records, CLASSES, tmp_path)

    assert figures["threshold"] is figures["confusion_matrix"] is None
    assert figures["types"]["spot"] == {"images": 2, "found": None, "missed": None}
    assert "The model has no threshold" in text
    assert "escapes" not in text
    assert (tmp_path / "score_histograms.png").exists()
    assert (tmp_path / "examples.png").exists()
    assert not (tmp_path / "confusion_matrix.png").exists()


def test_many_types_are_one_group_of_the_histograms(task, tmp_path, monkeypatch):
    groups = {}
    monkeypatch.setattr(
        "aicore.anomaly.report.plot_histograms",
        lambda values, *_, **__: groups.update({k: len(v) for k, v in values.items()}),
    )
    few = [("good", 5.0), *((f"type {index}", 20.0) for index in range(8))]

    task.report(judged(task, tmp_path, few), CLASSES, tmp_path)
    assert groups.pop("good") == 1
    assert set(groups) == {name for name, _ in few[1:]}
    groups.clear()
    task.report(judged(task, tmp_path, [*few, ("one more", 20.0)]), CLASSES, tmp_path)
    assert groups == {"good": 1, "defective": 9}


def test_a_report_of_one_class(task, tmp_path):
    _, figures = task.report(judged(task, tmp_path, KINDS[:3]), CLASSES, tmp_path)

    assert list(figures["types"]) == ["good"]
    assert figures["confusion_matrix"] == [[2, 1], [0, 0]]


@pytest.mark.parametrize("inspected", [False, True])
def test_a_report_of_nothing_whose_truth_is_known(task, tmp_path, inspected):
    record = {"image": "a.png", "inspected": False, "reason": "it is empty"}
    if inspected:
        record = {"image": "a.png", "inspected": True, **task.record(sample(DISTANCES), CLASSES)}

    text, figures = task.report([record], CLASSES, tmp_path)

    assert figures == {"threshold": None, "types": {}, "confusion_matrix": None}
    assert text == ("" if inspected else "1 of 1 images were not inspected:\n  a.png: it is empty")
    assert list(tmp_path.iterdir()) == []


def test_what_the_task_names():
    assert TASKS.get("AnomalyDetection") is AnomalyDetection
    assert AnomalyDetection.inferencer is AnomalyInferencer
    assert AnomalyDetection.weight_sources == {}
