"""What shared code has to know of image classification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmpretrain.evaluation import ConfusionMatrix, SingleLabelMetric
from mmpretrain.structures import DataSample
from prettytable import PrettyTable

from aicore.classification.inferencer import ClassificationInferencer
from aicore.registry import TASKS
from aicore.visualization.drawing import draw_caption
from aicore.visualization.plots import plot_confusion_matrix

GREEN, RED, WHITE = (80, 200, 80), (60, 60, 230), (255, 255, 255)  # BGR


@TASKS.register_module()
class Classification:
    """Image classification, one class per image."""

    inferencer = ClassificationInferencer

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
            record["pred_scores"] = {
                name: round(float(score), 6) for name, score in zip(classes, scores, strict=True)
            }
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

    def report(self, records: list[dict[str, Any]], classes: tuple[str, ...], folder: Path) -> str:
        """Writes ``confusion_matrix.png``; returns the table of classes and the matrix.

        Args:
            records: What :meth:`record` returned for each image.
            classes: Class names.
            folder: Where the picture goes.

        Returns:
            Per class precision, recall, F1 (in percent) and support, the confusion matrix (rows
            are the truth) for up to 20 classes, and the images not inspected.
        """
        inspected = [r for r in records if r["inspected"] and "truth" in r]
        index = {name: i for i, name in enumerate(classes)}
        truth = torch.tensor([index[r["truth"]] for r in inspected])
        prediction = torch.tensor([index[r["prediction"]] for r in inspected])
        count = len(classes)
        lines = [_class_table(prediction, truth, classes)]
        matrix = ConfusionMatrix.calculate(prediction, truth, num_classes=count).numpy()
        if count <= 20:
            lines.append(_matrix_table(matrix, classes))
        plot_confusion_matrix(matrix, classes, folder / "confusion_matrix.png")
        missed = [r for r in records if not r["inspected"]]
        if missed:
            lines.append(f"{len(missed)} of {len(records)} images were not inspected:")
            lines += [f"  {r['image']}: {r['reason']}" for r in missed[:10]]
        return "\n".join(lines)


def _class_table(
    prediction: torch.Tensor, truth: torch.Tensor, classes: tuple[str, ...]
) -> str:
    figures = SingleLabelMetric.calculate(
        prediction, truth, average=None, num_classes=len(classes)
    )
    table = PrettyTable(["class", "precision", "recall", "F1", "support"])
    table.align = "r"
    table.align["class"] = "l"
    for name, precision, recall, f1, support in zip(classes, *figures, strict=True):
        table.add_row([name, f"{precision:.2f}", f"{recall:.2f}", f"{f1:.2f}", int(support)])
    return f"\n{table}"


def _matrix_table(matrix: np.ndarray, classes: tuple[str, ...]) -> str:
    table = PrettyTable(["truth \\ predicted", *classes])
    table.align = "r"
    for name, row in zip(classes, matrix, strict=True):
        table.add_row([name, *(int(n) for n in row)])
    return str(table)
