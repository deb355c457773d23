"""Average precision as COCO and Pascal VOC have it, and the confidence of the best F1."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval.core.coco import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from prettytable import PrettyTable

from aicore.detection.matching import Curve, ImageBoxes, draw_up_curves, match, match_voc
from aicore.registry import METRICS

ALL_CLASSES = "(all)"
_ROWS_SHOWN = 30
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # COCO's ranges of areas
_FIRST, _TEN, _HUNDRED = range(3)  # COCO's numbers of predictions
_AT_50, _AT_75 = 0, 5  # of COCO's thresholds


@METRICS.register_module()
class DetectionMetric(BaseMetric):
    """COCO's average precision and recall, Pascal VOC's, and the best F1.

    The truth comes from the data samples, so that it does not matter how the annotations are
    stored. Areas are those of boxes.

    The metrics, in percent, NaN where undefined:

    - ``AP`` (mean over the IoU thresholds 0.5, 0.55 ... 0.95), ``AP50``, ``AP75``; ``APs``, ``APm``
      and ``APl``, of objects below 32 x 32 pixels, up to 96 x 96, and above; ``AR1``, ``AR10`` and
      ``AR100``, the recall with that many predictions per image; ``ARs``, ``ARm``, ``ARl``. Means
      over the classes that the truth has, as pycocotools defines them.
    - ``VOC_AP50``: Pascal VOC's, the area under the whole curve at an IoU of 0.5.
    - ``F1``: the best that one confidence for all classes gives, all boxes taken together, at an
      IoU of 0.5; and that ``F1_confidence`` (0..1).

    A table of the classes is logged.

    Args:
        **kwargs: Arguments of :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = ""  # the names of the figures stand alone

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keeps the boxes of a batch.

        Args:
            data_batch: Not used.
            data_samples: With ``gt_instances`` (``bboxes``, ``labels``), ``pred_instances`` (and
                ``scores``) and, where there are ignored objects, ``ignored_instances``.
        """
        self.results += [boxes_of(sample) for sample in data_samples]

    def compute_metrics(self, results: list[ImageBoxes]) -> dict[str, float]:
        """Returns the metrics, and logs the table of the classes.

        Args:
            results: The boxes of all images.
        """
        names = tuple(self.dataset_meta["classes"])
        evaluation = evaluate(results, len(names))
        MMLogger.get_current_instance().info(class_table(names, evaluation))
        return evaluation.summary()


def boxes_of(sample: Mapping[str, Any]) -> ImageBoxes:
    """Returns the boxes of a data sample, as a dict or as it is."""
    truth, predictions = sample["gt_instances"], sample["pred_instances"]
    ignored = sample.get("ignored_instances") or {}
    parts = [truth, ignored] if "bboxes" in ignored else [truth]
    boxes = [_array(part["bboxes"], np.float32).reshape(-1, 4) for part in parts]
    return ImageBoxes(
        truth=np.concatenate(boxes),
        truth_labels=np.concatenate([_array(part["labels"], np.int32) for part in parts]),
        ignored=np.repeat([False, True], [len(boxes[0]), sum(map(len, boxes[1:]))]),
        boxes=_array(predictions["bboxes"], np.float32).reshape(-1, 4),
        scores=_array(predictions["scores"], np.float32),
        labels=_array(predictions["labels"], np.int32),
    )


def _array(tensor: Any, kind: type) -> np.ndarray:
    return tensor.cpu().numpy().astype(kind)


# ---- evaluation ----


@dataclass(frozen=True)
class CocoFigures:
    """What COCO's evaluation found; shares in 0..1, NaN for a class without truth."""

    precision: np.ndarray
    """10 IoU thresholds x 101 recalls x classes x 4 ranges of areas x 3 numbers of predictions."""
    recall: np.ndarray
    """10 IoU thresholds x classes x 4 ranges of areas x 3 numbers of predictions."""

    def summary(self) -> dict[str, float]:
        """Returns COCO's twelve figures in percent."""
        precision, recall = self.precision[..., _HUNDRED], self.recall
        parts = {
            "AP": precision[..., _ALL],
            "AP50": precision[_AT_50, ..., _ALL],
            "AP75": precision[_AT_75, ..., _ALL],
            "APs": precision[..., _SMALL],
            "APm": precision[..., _MEDIUM],
            "APl": precision[..., _LARGE],
            "AR1": recall[..., _ALL, _FIRST],
            "AR10": recall[..., _ALL, _TEN],
            "AR100": recall[..., _ALL, _HUNDRED],
            "ARs": recall[..., _SMALL, _HUNDRED],
            "ARm": recall[..., _MEDIUM, _HUNDRED],
            "ARl": recall[..., _LARGE, _HUNDRED],
        }
        return {name: 100 * _mean(part) for name, part in parts.items()}

    def per_class(self) -> dict[str, np.ndarray]:
        """Returns AP, AP50 and AR100 of each class in percent."""
        precision = self.precision[..., _ALL, _HUNDRED]
        return {
            "AP": 100 * precision.mean(axis=(0, 1)),
            "AP50": 100 * precision[_AT_50].mean(axis=0),
            "AR100": 100 * self.recall[..., _ALL, _HUNDRED].mean(axis=0),
        }

    def precision_at_50(self) -> np.ndarray:
        """Returns the precision at IoU 0.5 of each class, at the recalls 0, 0.01 ... 1; 101 x C."""
        return self.precision[_AT_50, ..., _ALL, _HUNDRED]


@dataclass(frozen=True)
class Evaluation:
    """All figures of a data set."""

    coco: CocoFigures
    voc_ap: np.ndarray
    """Pascal VOC's average precision at IoU 0.5 of each class, 0..1; NaN without truth."""
    curves: list[Curve]
    """Of each class at IoU 0.5, and of all predictions taken together."""

    def summary(self) -> dict[str, float]:
        """Returns the metrics that :class:`DetectionMetric` names."""
        best = self.curves[-1].best()
        return {
            **self.coco.summary(),
            "VOC_AP50": 100 * _mean(self.voc_ap),
            "F1": 100 * best.f1,
            "F1_confidence": best.confidence,
        }

    def per_class(self) -> list[dict[str, float]]:
        """Returns the figures of each class, and at the end those of all; in percent.

        ``boxes``, ``AP``, ``AP50``, ``AR100``; and ``F1``, ``confidence`` (0..1), ``precision``
        and ``recall`` where F1 is best.
        """
        figures = self.coco.per_class()
        rows = []
        for index, curve in enumerate(self.curves):
            is_class = index < len(self.curves) - 1
            best = curve.best()
            rows.append(
                {
                    "boxes": curve.truths,
                    **{k: float(v[index] if is_class else _mean(v)) for k, v in figures.items()},
                    "F1": 100 * best.f1,
                    "confidence": best.confidence,
                    "precision": 100 * best.precision,
                    "recall": 100 * best.recall,
                }
            )
        return rows


def evaluate(images: Sequence[ImageBoxes], classes: int) -> Evaluation:
    """Compares the predictions of all images with the truth.

    Args:
        images: The boxes of each image.
        classes: Number of classes.
    """
    voc = draw_up_curves(images, list(map(match_voc, images)), classes)[:-1]
    with _collector_at_rest():
        coco = evaluate_coco(images, classes)
    return Evaluation(
        coco=coco,
        voc_ap=np.array([curve.average_precision() for curve in voc]),
        curves=draw_up_curves(images, list(map(match, images)), classes),
    )


def evaluate_coco(images: Sequence[ImageBoxes], classes: int) -> CocoFigures:
    """Runs COCO's evaluation; ignored boxes are its crowds.

    Args:
        images: The boxes of each image.
        classes: Number of classes.
    """
    crowds = [image.ignored.astype(int) for image in images]
    truth = _coco([(i.truth, i.truth_labels) for i in images], "iscrowd", crowds, classes)
    scores = [image.scores for image in images]
    predictions = _coco([(i.boxes, i.labels) for i in images], "score", scores, classes)
    evaluation = COCOeval_faster(truth, predictions, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    shape = tuple(evaluation.eval["counts"])
    precision = np.asarray(evaluation.eval["precision"], np.float64).reshape(shape)
    recall = np.asarray(evaluation.eval["recall"], np.float64).reshape(shape[:1] + shape[2:])
    return CocoFigures(*(np.where(part < 0, np.nan, part) for part in (precision, recall)))


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keeps Python from looking for garbage among a dict for each box, again and again.

    That is a third of the time, and there is none: what is left goes by reference counts.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _coco(
    boxes: Sequence[tuple[np.ndarray, np.ndarray]],
    key: str,
    values: Sequence[np.ndarray],
    classes: int,
) -> COCO:
    """Returns COCO's index of boxes and labels, given for each image, with a further value each."""
    corners = np.concatenate([np.zeros((0, 4)), *(b for b, _ in boxes)])  # float64, as COCO counts
    sides = corners[:, 2:] - corners[:, :2]
    columns = (
        np.repeat(np.arange(len(boxes)), [len(b) for b, _ in boxes]).tolist(),
        np.concatenate([np.zeros(0, int), *(labels for _, labels in boxes)]).tolist(),
        np.hstack([corners[:, :2], sides]).tolist(),
        sides.prod(axis=1).tolist(),
        np.concatenate([np.zeros(0, int), *values]).tolist(),
    )
    annotations = [
        {"id": i, "image_id": image, "category_id": label, "bbox": box, "area": area, key: value}
        for i, (image, label, box, area, value) in enumerate(zip(*columns, strict=True), start=1)
    ]
    return COCO(
        {
            "images": [{"id": image} for image in range(len(boxes))],
            "categories": [{"id": index} for index in range(classes)],
            "annotations": annotations,
        }
    )


def _mean(values: np.ndarray) -> float:
    """Returns the mean of the values that are defined; NaN where none is."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else float("nan")


# ---- the table ----


def class_table(classes: Sequence[str], evaluation: Evaluation) -> str:
    """Returns the figures of the classes as a table; of many classes those with the lowest AP.

    Args:
        classes: Class names.
        evaluation: The figures.
    """
    headings = ["class", "boxes", "AP", "AP50", "AR100", "best F1"]
    table = PrettyTable([*headings, "at confidence", "precision", "recall"])
    table.align = "r"
    table.align["class"] = "l"
    rows = evaluation.per_class()
    order: Sequence[int] = range(len(classes))
    if len(classes) > _ROWS_SHOWN:
        defined = [index for index in order if np.isfinite(rows[index]["AP"])]
        order = sorted(defined, key=lambda index: rows[index]["AP"])[:_ROWS_SHOWN]
    for index in (*order, len(classes)):
        row = rows[index]
        name = ALL_CLASSES if index == len(classes) else classes[index]
        digits = {"boxes": 0, "confidence": 3}
        table.add_row([name, *(_shown(row[key], digits.get(key, 2)) for key in row)])
    left = len(classes) - len(order)
    return f"\n{table}" + (f"\n{left} more classes" if left else "")


def _shown(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"
