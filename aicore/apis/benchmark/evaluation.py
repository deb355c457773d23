"""Evaluation of a detector beside pycocotools: time, and whether the figures are the same."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from importlib.metadata import version
from statistics import median

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aicore.apis.benchmark.report import Report, machine_facts
from aicore.apis.benchmark.turns import measure_in_turns
from aicore.detection.matching import ImageBoxes
from aicore.detection.metrics import evaluate

_CLASSES = 80
_OBJECTS = 8  # of an image
_PREDICTIONS = 100
_SIDE = 640  # pixels
_AP = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_AR = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def benchmark_evaluation(rounds: int = 1, images: int = 5000) -> Report:
    """Measures what ``DetectionMetric`` computes beside pycocotools, in turns, on random boxes.

    Each takes the boxes as arrays and ends with COCO's twelve figures: building what the library
    wants is part of it. aicore's time holds VOC's figures and the curves of F1 too, which
    pycocotools does not have. An image has 8 objects of 80 classes and 100 predictions.

    Args:
        rounds: How often each has its turn; pycocotools takes more than a minute for 5,000 images.
        images: How many.

    Returns:
        One row: ``images``, ``aicore_seconds`` and ``pycocotools_seconds`` (medians),
        ``speed_up``, the median of each round's ratio, and ``largest_difference`` of the twelve
        figures, as shares in 0..1.
    """
    boxes = _random_boxes(images)
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        figures = evaluate(boxes, _CLASSES).summary()
        found["ours"] = np.array([figures[name] / 100 for name in (*_AP, *_AR)])

    def theirs() -> None:
        found["theirs"] = pycocotools_figures(boxes, _CLASSES)

    own, peers = measure_in_turns([ours, theirs], rounds, warm_up=0)
    figures = (np.nan_to_num(found[whose], nan=-1) for whose in ("ours", "theirs"))
    difference = np.abs(np.subtract(*figures)).max()
    row = {
        "images": images,
        "aicore_seconds": round(median(own), 2),
        "pycocotools_seconds": round(median(peers), 2),
        "speed_up": round(median(b / a for a, b in zip(own, peers, strict=True)), 2),
        "largest_difference": float(f"{difference:.1e}"),
    }
    facts = {
        "faster-coco-eval": version("faster-coco-eval"),
        "pycocotools": version("pycocotools"),
        "boxes": f"{_OBJECTS} objects and {_PREDICTIONS} predictions an image, {_CLASSES} classes",
        "rounds": str(rounds),
    }
    return Report({**machine_facts(), **facts}, [row])


def pycocotools_figures(images: Sequence[ImageBoxes], classes: int) -> np.ndarray:
    """Returns the twelve figures of pycocotools, as shares in 0..1; NaN where undefined.

    Args:
        images: The boxes of each image; ignored ones are crowds.
        classes: Number of classes.
    """
    truth, predictions = [], []
    for number, image in enumerate(images):
        crowd = image.ignored.astype(int).tolist()
        for box, label, flag in zip(_xywh(image.truth), image.truth_labels, crowd, strict=True):
            truth.append(_entry(number, box, label) | {"id": len(truth) + 1, "iscrowd": flag})
        scores = image.scores.tolist()
        for box, label, score in zip(_xywh(image.boxes), image.labels, scores, strict=True):
            predictions.append(_entry(number, box, label) | {"score": score})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(len(images))],
            "categories": [{"id": index} for index in range(classes)],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(predictions), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.where(evaluation.stats < 0, np.nan, evaluation.stats)


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    corners = boxes.astype(np.float64)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()


def _entry(image: int, box: list[float], label: int) -> dict[str, object]:
    return {"image_id": image, "category_id": int(label), "bbox": box, "area": box[2] * box[3]}


def _random_boxes(images: int) -> list[ImageBoxes]:
    """Returns boxes of which about a fifth of the predictions lie near an object of their class."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(images):
        corner = generator.uniform(0, _SIDE - 10, (_OBJECTS, 2))
        truth = np.hstack([corner, corner + generator.uniform(8, 200, (_OBJECTS, 2))])
        truth_labels = generator.integers(0, _CLASSES, _OBJECTS)
        near = generator.integers(0, _OBJECTS, _PREDICTIONS)
        boxes = truth[near] + generator.normal(0, 8, (_PREDICTIONS, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        guess = generator.integers(0, _CLASSES, _PREDICTIONS)
        found.append(
            ImageBoxes(
                truth=truth.astype(np.float32),
                truth_labels=truth_labels.astype(np.int32),
                ignored=np.zeros(_OBJECTS, bool),
                boxes=boxes.astype(np.float32),
                scores=generator.random(_PREDICTIONS, np.float32),
                labels=np.where(
                    generator.random(_PREDICTIONS) < 0.5, truth_labels[near], guess
                ).astype(np.int32),
            )
        )
    return found
