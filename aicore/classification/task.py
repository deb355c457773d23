"""What shared code has to know of image classification."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmpretrain.evaluation import ConfusionMatrix, SingleLabelMetric
from mmpretrain.structures import DataSample
from prettytable import PrettyTable

from aicore.classification.inferencer import ClassificationInferencer
from aicore.registry import TASKS
from aicore.runtime.images import read_image, write_image
from aicore.visualization.drawing import draw_caption, enlarge, tile
from aicore.visualization.plots import plot_confusion_matrix

_SCORES_KEPT = 20  # of each image; all where there are no more classes
_ROWS_SHOWN = 20  # of tables on the console; all stand in metrics.json
_EXAMPLES = 24  # images in examples.png
GREEN, RED, WHITE = (80, 200, 80), (60, 60, 230), (255, 255, 255)  # BGR


@TASKS.register_module()
class Classification:
    """Image classification, one class per image."""

    inferencer = ClassificationInferencer
    weight_sources: ClassVar = {}  # timm's and torchvision's names are its own

    def record(self, sample: DataSample, classes: tuple[str, ...]) -> dict[str, Any]:
        """Returns ``truth``, ``prediction`` (class names), ``pred_score`` and ``pred_scores``."""
        record: dict[str, Any] = {}
        if "gt_label" in sample:
            record["truth"] = classes[int(sample.gt_label)]
        if "pred_score" in sample:
            scores = sample.pred_score.cpu()
            best = int(scores.argmax())
            record["prediction"] = classes[best]
            record["pred_score"] = round(float(scores[best]), 6)
            order = scores.argsort(descending=True)[:_SCORES_KEPT].tolist()
            kept = order if len(classes) > _SCORES_KEPT else range(len(classes))
            record["pred_scores"] = {classes[i]: round(float(scores[i]), 6) for i in kept}
        return record

    def draw(self, image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
        """Returns the image with its class below it; green if right, red if wrong."""
        truth, prediction = record.get("truth"), record.get("prediction")
        if prediction is None:
            return draw_caption(image, truth or record.get("reason", ""), WHITE)
        caption = f"{prediction} {record['pred_score']:.2f}"
        if truth is None:
            return draw_caption(image, caption, WHITE)
        if truth == prediction:
            return draw_caption(image, caption, GREEN)
        return draw_caption(image, f"{caption} (is {truth})", RED)

    def maps(self, record: dict[str, Any]) -> dict[str, np.ndarray]:
        """Returns nothing: a class holds for the whole image."""
        return {}

    def report(
        self, records: list[dict[str, Any]], classes: tuple[str, ...], folder: Path
    ) -> tuple[str, dict[str, Any]]:
        """Writes ``confusion_matrix.png`` and ``examples.png``; returns tables and figures.

        The examples are the wrong predictions first, then right ones.

        Args:
            records: What :meth:`record` returned for each image.
            classes: Class names.
            folder: Where the pictures go.

        Returns:
            The tables for the console; and ``classes`` (precision, recall and F1 in percent,
            support) and ``confusion_matrix`` (rows are the truth) for ``metrics.json``.
        """
        inspected = [r for r in records if r["inspected"] and "truth" in r]
        index = {name: i for i, name in enumerate(classes)}
        truth = torch.tensor([index[r["truth"]] for r in inspected])
        prediction = torch.tensor([index[r["prediction"]] for r in inspected])
        matrix = ConfusionMatrix.calculate(prediction, truth, num_classes=len(classes)).numpy()
        plot_confusion_matrix(matrix, classes, folder / "confusion_matrix.png")
        self._draw_examples(inspected, folder / "examples.png")
        per_class = _per_class(prediction, truth, classes)
        lines = [_class_table(per_class)]
        if len(classes) <= _ROWS_SHOWN:
            lines.append(_matrix_table(matrix, classes))
        missed = [r for r in records if not r["inspected"]]
        if missed:
            lines.append(f"{len(missed)} of {len(records)} images were not inspected:")
            lines += [f"  {r['image']}: {r['reason']}" for r in missed[:_ROWS_SHOWN]]
        return "\n".join(lines), {"classes": per_class, "confusion_matrix": matrix.tolist()}

    def _draw_examples(self, records: list[dict[str, Any]], file: Path) -> None:
        wrong = [r for r in records if r["truth"] != r["prediction"]]
        right = [r for r in records if r["truth"] == r["prediction"]]
        shown = wrong[: _EXAMPLES * 2 // 3]
        room = _EXAMPLES - len(shown)
        shown += right[:: max(1, len(right) // room)][:room]
        pictures = [self.draw(enlarge(read_image(r["image"]), 256), r) for r in shown]
        write_image(file, tile(pictures, columns=6, cell=220))


def _per_class(
    prediction: torch.Tensor, truth: torch.Tensor, classes: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    figures = SingleLabelMetric.calculate(prediction, truth, average=None, num_classes=len(classes))
    keys = ("precision", "recall", "f1", "support")
    return {
        name: dict(zip(keys, (figure[i].item() for figure in figures), strict=True))
        for i, name in enumerate(classes)
    }


def _class_table(per_class: dict[str, dict[str, float]]) -> str:
    table = PrettyTable(["class", "precision", "recall", "F1", "support"])
    table.align = "r"
    table.align["class"] = "l"
    shown = list(per_class.items())
    if len(shown) > _ROWS_SHOWN:  # the weakest are what one looks for
        shown = sorted((i for i in shown if i[1]["support"]), key=lambda item: item[1]["f1"])
    for name, row in shown[:_ROWS_SHOWN]:
        figures = (f"{row[key]:.2f}" for key in ("precision", "recall", "f1"))
        table.add_row([name, *figures, int(row["support"])])
    left = len(per_class) - len(table.rows)
    return f"\n{table}" + (f"\n{left} more classes in metrics.json" if left else "")


def _matrix_table(matrix: np.ndarray, classes: tuple[str, ...]) -> str:
    table = PrettyTable(["truth \\ predicted", *classes])
    table.align = "r"
    for name, row in zip(classes, matrix.tolist(), strict=True):
        table.add_row([name, *row])
    return str(table)
