"""What shared code has to know of object detection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmdet.structures import DetDataSample

from aicore.detection.inferencer import DetectionInferencer
from aicore.detection.matching import ImageBoxes, Verdict, confusion_matrix, judge
from aicore.detection.metrics import evaluate
from aicore.detection.mmdet_data import mmdet_cached_yolox, mmdet_yolox
from aicore.detection.official import from_yolox
from aicore.detection.report import (
    class_figures,
    fault_lists,
    plot_curves,
    point_figures,
    point_table,
)
from aicore.errors import ConfigError
from aicore.registry import TASKS
from aicore.runtime.images import read_image, write_image
from aicore.visualization.drawing import (
    Box,
    Color,
    class_color,
    draw_boxes,
    draw_caption,
    draw_legend,
    enlarge,
    side_by_side,
    tile,
)
from aicore.visualization.plots import plot_confusion_matrix

_EXAMPLES = 12  # images in examples.png
_SHOWN_SIDE = 480  # pixels at least, so that labels have room
WHITE, GREY = (255, 255, 255), (150, 150, 150)  # BGR
GREEN, RED, ORANGE, YELLOW = (80, 200, 80), (60, 60, 230), (30, 150, 255), (0, 240, 255)
_COLORS = {"right": GREEN, "false": RED, "confused": ORANGE, "missed": YELLOW}


@TASKS.register_module()
class Detection:
    """Object detection, boxes with a class each.

    Args:
        score_threshold: The lowest score in [0, 1] of boxes that are drawn; a test takes the one
            of the best F1 instead. Records hold all boxes.

    Raises:
        ConfigError: ``score_threshold`` is no such number.
    """

    inferencer = DetectionInferencer
    weight_sources: ClassVar = {"yolox": from_yolox}
    data_peers: ClassVar = {"mmdet": mmdet_yolox, "mmdet, cached": mmdet_cached_yolox}

    def __init__(self, score_threshold: float = 0.3) -> None:
        if not isinstance(score_threshold, int | float) or not 0 <= score_threshold <= 1:
            raise ConfigError(
                f"task.score_threshold is {score_threshold!r}: expected a number in [0, 1]."
            )
        self.score_threshold = score_threshold

    def record(self, sample: DetDataSample, classes: tuple[str, ...]) -> dict[str, Any]:
        """Returns what a data sample says, ready for JSON.

        Returns:
            ``truth`` and ``pred_boxes``, where present: lists of dicts with ``class``, ``index``
            (the class's number) and ``box`` (x, y, width and height in pixels of the image).
            Those of the truth have ``ignored`` where they do not count, those of the prediction
            have a ``score`` and come by falling score. A test adds ``pred_verdict``: see
            :meth:`report`.
        """
        record: dict[str, Any] = {}
        truth = sample.get("gt_instances")
        if truth is not None and "bboxes" in truth:
            record["truth"] = _entries(truth, classes)
            ignored = sample.get("ignored_instances")
            if ignored is not None and "bboxes" in ignored:
                record["truth"] += [{**e, "ignored": True} for e in _entries(ignored, classes)]
        if "pred_instances" in sample:
            entries = _entries(sample.pred_instances, classes)
            scores = sample.pred_instances.scores.tolist()
            for entry, score in zip(entries, scores, strict=True):
                entry["score"] = round(score, 6)
            record["pred_boxes"] = sorted(entries, key=lambda entry: -entry["score"])
        return record

    def draw(self, image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
        """Returns the image with the predicted boxes; beside it the true ones, where known.

        Once a test has judged the predictions, right, false and confused ones are told by their
        colour, and missed objects are dashed. Before, each class has its colour.
        """
        parts = []
        if "pred_verdict" in record:
            parts.append(_draw_verdict(image, record["pred_verdict"]))
        elif "pred_boxes" in record:
            seen = [b for b in record["pred_boxes"] if b["score"] >= self.score_threshold]
            parts.append(_draw_classes(image, seen, "prediction"))
        elif record.get("reason"):
            parts.append(draw_caption(enlarge(image, _SHOWN_SIDE), record["reason"], WHITE))
        if "truth" in record:
            parts.append(_draw_classes(image, record["truth"], "truth"))
        return side_by_side(parts or [enlarge(image, _SHOWN_SIDE)])

    def maps(self, record: dict[str, Any]) -> dict[str, np.ndarray]:
        """Returns nothing: boxes say nothing of each pixel."""
        return {}

    def report(
        self, records: list[dict[str, Any]], classes: tuple[str, ...], folder: Path
    ) -> tuple[str, dict[str, Any]]:
        """Judges the predictions at the confidence of the best F1 over all classes.

        Writes ``precision_recall.png``, ``confusion_matrix.png`` and ``examples.png``, the images
        with most faults first. Adds ``pred_verdict`` to the records: the ``confidence``, the lists
        ``right``, ``false`` and ``confused`` (with the true class as ``truth``) of predictions from
        that confidence on, and the list ``missed`` of true boxes. Without any right prediction the
        task's ``score_threshold`` is taken.

        Args:
            records: What :meth:`record` returned for each image.
            classes: Class names.
            folder: Where the pictures go.

        Returns:
            Counts and the images with faults for the console; and ``classes`` (figures in percent,
            None where undefined; counts at the operating point), ``operating_point`` and
            ``confusion_matrix`` (boxes; rows are the truth, the last row false predictions, the
            last column missed objects) for ``metrics.json``.
        """
        inspected = [record for record in records if "pred_boxes" in record and "truth" in record]
        images = [_to_boxes(record) for record in inspected]
        evaluation = evaluate(images, len(classes))
        point = evaluation.curves[-1].best()
        known = np.isfinite(point.confidence)
        confidence = round(point.confidence, 6) if known else self.score_threshold
        verdicts = [judge(image, confidence) for image in images]
        for record, verdict in zip(inspected, verdicts, strict=True):
            record["pred_verdict"] = {"confidence": confidence, **_told(verdict, record)}
        confusion = confusion_matrix(images, verdicts, len(classes))
        plot_curves(evaluation, classes, folder / "precision_recall.png")
        plot_confusion_matrix(
            confusion,
            [*classes, "(nothing)"],
            folder / "confusion_matrix.png",
            predicted=[*classes, "(missed)"],
        )
        worst = sorted(inspected, key=_faults, reverse=True)[:_EXAMPLES]
        pictures = [_draw_verdict(read_image(r["image"]), r["pred_verdict"]) for r in worst]
        if pictures:
            write_image(folder / "examples.png", tile(pictures, columns=3, cell=540))
        per_class = class_figures(evaluation, confusion, classes)
        figures = {
            "classes": per_class,
            "operating_point": point_figures(point._replace(confidence=confidence)),
            "confusion_matrix": confusion.tolist(),
        }
        return "\n".join([point_table(per_class, point), *fault_lists(records)]), figures


# ---- records ----


def _entries(instances: Any, classes: Sequence[str]) -> list[dict[str, Any]]:
    boxes = instances.bboxes.cpu().numpy().astype(np.float64).reshape(-1, 4)
    sides = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    return [
        {"class": classes[label], "index": label, "box": [round(value, 3) for value in box]}
        for label, box in zip(instances.labels.tolist(), sides.tolist(), strict=True)
    ]


def _to_boxes(record: dict[str, Any]) -> ImageBoxes:
    """Returns the boxes of a record as arrays."""
    truth, predictions = record["truth"], record["pred_boxes"]
    return ImageBoxes(
        truth=_corners(truth),
        truth_labels=_labels(truth),
        ignored=np.array([entry.get("ignored", False) for entry in truth], bool),
        boxes=_corners(predictions),
        scores=np.array([entry["score"] for entry in predictions], np.float32),
        labels=_labels(predictions),
    )


def _corners(entries: Sequence[dict[str, Any]]) -> np.ndarray:
    boxes = np.array([entry["box"] for entry in entries]).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).astype(np.float32)


def _labels(entries: Sequence[dict[str, Any]]) -> np.ndarray:
    return np.array([entry["index"] for entry in entries], np.int32)


def _told(verdict: Verdict, record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Returns a verdict with the boxes themselves."""
    truth, predictions = record["truth"], record["pred_boxes"]
    return {
        "right": [predictions[index] for index, _ in verdict.right],
        "confused": [
            {**predictions[index], "truth": truth[other]["class"]}
            for index, other in verdict.confused
        ],
        "false": [predictions[index] for index in verdict.false],
        "missed": [truth[index] for index in verdict.missed],
    }


def _faults(record: dict[str, Any]) -> int:
    return sum(len(record["pred_verdict"][kind]) for kind in ("missed", "false", "confused"))


# ---- pictures ----


def _draw_classes(image: np.ndarray, entries: Sequence[dict[str, Any]], title: str) -> np.ndarray:
    """Draws boxes in the colours of their classes."""
    boxes = [(e, _color_of(e), e.get("ignored", False)) for e in entries]
    counts = Counter((_name_of(entry), _color_of(entry)) for entry in entries)
    legend = [(f"{name} {count}", color) for (name, color), count in counts.items()]
    return _draw(image, boxes, title, legend)


def _draw_verdict(image: np.ndarray, verdict: dict[str, Any]) -> np.ndarray:
    """Draws what is right and wrong at the operating point; labels of faults go first."""
    kinds = [(kind, color) for kind, color in _COLORS.items() if verdict[kind]]
    boxes = [(e, color, kind == "missed") for kind, color in kinds[::-1] for e in verdict[kind]]
    legend = [(f"{kind} {len(verdict[kind])}", color) for kind, color in kinds]
    return _draw(image, boxes, f"from {verdict['confidence']:.2f}", legend)


def _draw(
    image: np.ndarray,
    entries: Sequence[tuple[dict[str, Any], Color, bool]],
    title: str,
    legend: Sequence[tuple[str, Color]],
) -> np.ndarray:
    """Draws entries with their colours, dashed or not, and a legend below."""
    shown = enlarge(image, _SHOWN_SIDE)
    scale = shown.shape[1] / image.shape[1]
    boxes = []
    for entry, color, dashed in entries:
        x, y, width, height = (scale * value for value in entry["box"])
        boxes.append(Box((x, y, x + width, y + height), _label_of(entry), color, dashed))
    heading = (f"{title}:" if legend else f"{title}: nothing", None)
    return draw_legend(draw_boxes(shown, boxes), [heading, *legend])


def _label_of(entry: dict[str, Any]) -> str:
    score = f" {entry['score']:.2f}" if "score" in entry else ""
    true = f" (is {entry['truth']})" if "truth" in entry else ""
    return f"{_name_of(entry)}{score}{true}"


def _name_of(entry: dict[str, Any]) -> str:
    return "(ignored)" if entry.get("ignored") else entry["class"]


def _color_of(entry: dict[str, Any]) -> Color:
    return GREY if entry.get("ignored") else class_color(entry["index"])
