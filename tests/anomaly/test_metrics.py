from __future__ import annotations

import json
import logging
import math
import os
import pickle
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from aicore.anomaly.metrics import AnomalyMetric, decisions, region_weights, type_table
from aicore.engine.distributed import init_distributed
from aicore.errors import DataError
from aicore.evaluation.evaluator import Evaluator
from aicore.structures import AnomalyDataSample

TOLERANCE = 0.1  # percent
FIGURES = (
    *("image_AUROC", "image_AP", "image_F1"),
    *("pixel_AUROC", "pixel_AP", "pixel_F1"),
    *("AUPRO", "overkill", "escape"),
)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture
def random():
    return np.random.default_rng(0)


def image(
    random: np.random.Generator,
    defect: str = "good",
    has_mask: bool = True,
    has_roi: bool = False,
    levels: int | None = None,
    threshold: float = float("nan"),
) -> dict[str, Any]:
    """One image of odd sides as the metric gets it; ``levels``: how many distances there are."""
    height, width = random.integers(20, 60, 2)
    noise = ndimage.gaussian_filter(random.normal(0, 4, (height, width)), 2)
    mask = np.zeros((height, width), np.uint8)
    if defect != "good":
        for _ in range(random.integers(1, 5)):
            y, x, side = *random.integers(0, 18, 2), random.integers(1, 12)
            mask[y : y + side, x : x + random.integers(1, 12)] = 1
    distances = np.exp(1 + noise + 0.7 * ndimage.gaussian_filter(mask.astype(float), 1))
    if levels:
        distances = np.round(distances * levels / distances.max())
    if has_roi:
        mask[:, :3] = mask[7] = 255
    score = random.choice([2, 3, 4.5, 5]) + (0.5 if defect != "good" else 0)
    fields = {
        "img_path": f"{defect}/{random.integers(1e6)}.png",
        "defect_type": defect,
        "gt_label": torch.tensor(int(defect != "good")),
        "pred_score": torch.tensor(score, dtype=torch.float32),
        "pred_threshold": torch.tensor(threshold),
        "pred_map": {"data": torch.from_numpy(distances.astype(np.float32))[None]},
    }
    if has_mask:
        fields["gt_mask"] = {"data": torch.from_numpy(mask)[None]}
    return fields


def images_of(random: np.random.Generator, **settings: Any) -> list[dict[str, Any]]:
    """Good images and three types of defects, with and without mask and ROI."""
    kinds = ["good"] * 6 + ["scratch"] * 3 + ["spot"] * 2 + ["dent"]
    found = []
    for index, defect in enumerate(random.permutation(kinds).tolist()):
        has_mask, has_roi = index % 4 != 3, index % 3 == 1
        found.append(image(random, defect, has_mask, has_roi, **settings))
    return found


def evaluate(batches: list[list[dict]], **settings: Any) -> tuple[dict[str, float], dict]:
    metric = AnomalyMetric(**settings)
    metric.dataset_meta = {"classes": ("ok", "ng")}
    for batch in batches:
        metric.process({}, batch)
    return metric.evaluate(sum(map(len, batches))), metric.figures


def expected_figures(images: list[dict]) -> dict[str, float]:
    """The figures by scikit-learn and, for the overlap of regions, by a plain loop."""
    labels = np.array([int(i["gt_label"]) for i in images])
    figures = by_scikit_learn("image", labels, np.array([float(i["pred_score"]) for i in images]))
    truths, scores, regions = [], [], []
    for item in images:
        distances = item["pred_map"]["data"][0].numpy()
        if "gt_mask" in item:
            mask = item["gt_mask"]["data"][0].numpy()
            labelled, count = ndimage.label(mask == 1, np.ones((3, 3)))
            regions += [distances[labelled == number] for number in range(1, count + 1)]
        elif item["gt_label"]:
            continue
        else:
            mask = np.zeros(distances.shape, np.uint8)
        truths.append(mask[mask != 255])
        scores.append(distances[mask != 255])
    truth, score = np.concatenate(truths), np.concatenate(scores)
    figures.update(by_scikit_learn("pixel", truth, score))
    return {**figures, "AUPRO": overlap_by_loop(score[truth == 0], regions)}


def by_scikit_learn(name: str, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    precision, recall, _ = precision_recall_curve(truth, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {
        f"{name}_AUROC": 100 * roc_auc_score(truth, score),
        f"{name}_AP": 100 * average_precision_score(truth, score),
        f"{name}_F1": 100 * f1.max(),
    }


def overlap_by_loop(good: np.ndarray, regions: list[np.ndarray]) -> float:
    """The mean overlap over the false positive rate at every threshold, up to 0.3."""
    everything = np.concatenate([good, *regions])
    points = [(0.0, 0.0)]
    for threshold in np.unique(everything)[::-1]:
        overlaps = [np.mean(region >= threshold) for region in regions]
        points.append((np.mean(good >= threshold), np.mean(overlaps)))
        if points[-1][0] > 0.3:
            break
    (x0, y0), (x1, y1) = points[-2:]
    points[-1] = (0.3, y0 + (y1 - y0) * (0.3 - x0) / (x1 - x0))
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    return 100 * area / 0.3


# ---- figures ----


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("device", DEVICES)
def test_the_figures_by_scikit_learn_and_a_plain_loop(device, seed, levels):
    images = images_of(np.random.default_rng(seed), levels=levels)
    on_device = [{**i, "pred_map": {"data": i["pred_map"]["data"].to(device)}} for i in images]

    figures, _ = evaluate([on_device[:5], on_device[5:]])

    expected = expected_figures(images)
    assert set(figures) == set(FIGURES)
    for name, value in expected.items():
        tolerance = 1e-9 if name.startswith("image") else TOLERANCE
        assert figures[name] == pytest.approx(value, abs=tolerance), name


@pytest.mark.parametrize("seed", range(3))
def test_each_type_of_defect_stands_against_all_good_images(seed):
    images = images_of(np.random.default_rng(seed))

    _, figures = evaluate([images])

    assert list(figures["defect_types"]) == ["dent", "scratch", "spot"]
    for name, row in figures["defect_types"].items():
        members = [i for i in images if i["defect_type"] == name]
        assert row["images"] == len(members)
        if not any("gt_mask" in i for i in members):
            assert (row["pixel_AUROC"], row["AUPRO"]) == (None, None)
            continue
        good = [i for i in images if not i["gt_label"]]
        for key, value in expected_figures(good + members).items():
            assert row[key] == pytest.approx(value, abs=TOLERANCE), (name, key)


@pytest.mark.parametrize("seed", range(3))
def test_the_batches_make_no_difference(seed):
    images = images_of(np.random.default_rng(seed))

    together = evaluate([images])
    apart = evaluate([[item] for item in images[::-1]])

    assert apart[0] == pytest.approx(together[0], nan_ok=True)
    assert apart[1]["best_F1"] == together[1]["best_F1"]


def test_an_evaluation_begins_anew(random):
    metric = AnomalyMetric()
    metric.process({}, images_of(random))
    metric.evaluate(12)

    images = images_of(random)
    metric.process({}, images)

    assert metric.evaluate(12) == pytest.approx(evaluate([images])[0], nan_ok=True)


def test_a_good_image_needs_no_mask(random):
    images = images_of(random, threshold=3.0)
    blank = [
        {**i, "gt_mask": {"data": torch.zeros_like(i["pred_map"]["data"], dtype=torch.uint8)}}
        if not i["gt_label"] and "gt_mask" not in i
        else i
        for i in images
    ]
    assert sum("gt_mask" in i for i in blank) > sum("gt_mask" in i for i in images)

    assert evaluate([images]) == evaluate([blank])


def test_pixels_of_a_defective_image_without_mask_do_not_count(random):
    images = [i for i in images_of(random) if "gt_mask" in i]
    unknown = image(random, "scratch", has_mask=False)

    without, with_it = (evaluate([part])[0] for part in (images, [*images, unknown]))

    pixels = [name for name in FIGURES if not name.startswith("image")]
    assert [without[n] for n in pixels[:4]] == [with_it[n] for n in pixels[:4]]
    assert without["image_AP"] != with_it["image_AP"]


def test_what_lies_outside_the_roi_is_of_no_matter(random):
    images = images_of(random, threshold=3.0)
    changed = []
    for item in images:
        distances = item["pred_map"]["data"].clone()
        if "gt_mask" in item:
            distances[item["gt_mask"]["data"] == 255] = 1000
        changed.append({**item, "pred_map": {"data": distances}})

    assert evaluate([images]) == evaluate([changed])


def test_regions_touch_at_corners_and_count_alike():
    mask = np.zeros((9, 12), bool)
    mask[0, 0] = mask[1, 1] = True
    mask[5:8, 4:12] = True

    weights = region_weights(mask)

    assert weights.tolist() == [1 / 2] * 2 + [1 / 24] * 24
    assert region_weights(np.zeros((4, 5), bool)).tolist() == []


# ---- decisions ----


def test_overkill_and_escape_at_the_threshold(random):
    scores = {"good": [1, 2, 3, 4], "scratch": [1, 3], "spot": [3.5]}
    images = [
        {**image(random, defect, threshold=3), "pred_score": torch.tensor(float(score))}
        for defect, values in scores.items()
        for score in values
    ]

    figures, report = evaluate([images])

    assert figures["overkill"] == 50  # a score at the threshold is NG
    assert figures["escape"] == pytest.approx(100 / 3)
    assert {k: v["escape"] for k, v in report["defect_types"].items()} == {"scratch": 50, "spot": 0}


def test_without_a_threshold_nothing_is_called_ng(random):
    figures, _ = evaluate([images_of(random)])

    assert math.isnan(figures["overkill"])
    assert math.isnan(figures["escape"])
    assert math.isfinite(figures["image_AUROC"])
    assert all(map(math.isnan, decisions([]).values()))


# ---- what is not defined ----


@pytest.mark.parametrize("defect", ["good", "scratch"])
def test_of_one_class_alone_nothing_is_defined_but_the_decisions(random, defect):
    images = [image(random, defect, has_mask=defect == "good", threshold=9.0) for _ in range(3)]

    figures, report = evaluate([images])

    wrong = "overkill" if defect == "good" else "escape"
    assert [name for name in FIGURES if not math.isnan(figures[name])] == [wrong]
    assert figures[wrong] == (0 if defect == "good" else 100)
    assert report["curves"]["PRO"] == {"x": [], "y": []}
    assert report["best_F1"] == {"image": None, "pixel": None}


def test_nothing_at_all():
    figures, report = evaluate([])

    assert all(map(math.isnan, figures.values()))
    assert report["defect_types"] == {}


def test_without_any_mask_the_images_are_judged_alone(random):
    images = [image(random, defect, has_mask=False) for defect in ("good", "scratch") * 3]

    figures, _ = evaluate([images])

    defined = [name for name in FIGURES if not math.isnan(figures[name])]
    assert defined == ["image_AUROC", "image_AP", "image_F1"]


# ---- bad input ----


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.5])
@pytest.mark.parametrize("where", ["score", "map of distances"])
def test_what_is_no_distance_names_the_image(random, value, where):
    bad = image(random, "scratch")
    if where == "score":
        bad["pred_score"] = torch.tensor(value)
    else:
        bad["pred_map"]["data"][0, 3, 4] = value

    with pytest.raises(DataError, match=rf"^{bad['img_path']}: its {where} holds values from"):
        evaluate([[image(random), bad]])


def test_a_map_of_another_size_than_the_mask(random):
    bad = image(random, "scratch")
    bad["pred_map"]["data"] = torch.ones(1, 7, 9)

    with pytest.raises(DataError) as error:
        evaluate([[bad]])

    height, width = bad["gt_mask"]["data"].shape[1:]
    assert str(error.value) == (
        f"{bad['img_path']}: its map of distances has 9 x 7 pixels, but its mask {width} x "
        f"{height}: expected both in the original size of the image."
    )


# ---- what is reported ----


def test_the_figures_are_ready_for_json(random):
    _, figures = evaluate([images_of(random)])

    text = json.dumps(figures, allow_nan=False)

    assert json.loads(text) == figures
    for curve in figures["curves"].values():
        assert (curve["x"][0], curve["y"][0], curve["x"][-1], curve["y"][-1]) == (0, 0, 1, 1)
        assert len(curve["x"]) == len(curve["y"]) <= 201


def test_data_samples_by_way_of_the_evaluator(random):
    images, samples = images_of(random), []
    for item in images:
        sample = AnomalyDataSample(metainfo={k: item[k] for k in ("img_path", "defect_type")})
        for name, value in item.items():
            if isinstance(value, dict):
                sample.set_field(PixelData(data=value["data"]), name)
            elif isinstance(value, torch.Tensor):
                sample.set_field(value, name)
        samples.append(sample)
    evaluator = Evaluator([{"type": "aicore.AnomalyMetric"}])
    evaluator.dataset_meta = {"classes": ("ok", "ng")}

    evaluator.process(samples)
    figures = evaluator.evaluate(len(samples))

    assert figures == pytest.approx({**evaluate([images])[0], "not_inspected": 0}, nan_ok=True)


def test_a_prefix(random):
    assert "test/AUPRO" in evaluate([images_of(random)], prefix="test")[0]


def test_the_table_is_logged(random, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)

    evaluate([images_of(random)])

    logger.removeHandler(caplog.handler)
    rows = [line.split("|")[1:-1] for line in caplog.text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells[0] == ["defect", "images", *FIGURES]
    assert [row[:2] for row in cells[1:]] == [
        *(["dent", "1"], ["scratch", "3"], ["spot", "2"], ["(all)", "12"])
    ]
    assert {cell for row in cells[1:] for cell in row[-2:]} == {"-"}
    assert "against the 6 good images" in caplog.text


def test_of_many_types_the_weakest_are_shown():
    rows = {f"type {i}": {"images": 1, "image_AUROC": float(99 - i)} for i in range(40)}

    table = type_table(rows, {"image_AUROC": 80.0}, 5)

    shown = [line.split("|")[1].strip() for line in table.splitlines() if "| type" in line]
    assert shown == [f"type {i}" for i in range(39, 9, -1)]
    assert "10 more types of defect in metrics.json" in table


# ---- two processes ----


def _work(rank: int, port: int, folder: str) -> None:
    """Evaluates one of two halves: the first holds all spots and one odd, huge distance."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    os.environ["MASTER_PORT"] = str(port)
    init_distributed("pytorch", timeout_s=600)
    halves = pickle.loads((Path(folder) / "halves.pkl").read_bytes())
    found = [evaluate([halves[rank]]), evaluate([halves[0] if rank == 0 else []])]
    (Path(folder) / f"{rank}.pkl").write_bytes(pickle.dumps(found))
    torch.distributed.destroy_process_group()


def test_two_processes_find_what_one_does(random, tmp_path):
    images = images_of(random, threshold=3.0)
    images[0]["pred_map"]["data"][0, 0, 0] = 1e9
    halves = [
        [i for index, i in enumerate(images) if (i["defect_type"] == "spot" or index == 0) == first]
        for first in (True, False)
    ]
    (tmp_path / "halves.pkl").write_bytes(pickle.dumps(halves))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), port, str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors

    both, one_idle = evaluate([images]), evaluate([halves[0]])
    for rank in range(2):
        found = pickle.loads((tmp_path / f"{rank}.pkl").read_bytes())
        for (figures, report), expected in zip(found, (both, one_idle), strict=True):
            assert figures == pytest.approx(expected[0], nan_ok=True)
            assert report["best_F1"] == expected[1]["best_F1"]
            assert report["defect_types"].keys() == expected[1]["defect_types"].keys() != set()
            for name, row in expected[1]["defect_types"].items():
                assert report["defect_types"][name] == pytest.approx(row)


if __name__ == "__main__":
    _work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
