"""What a test of a detector says: curves, counts at one confidence, and the images at fault."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prettytable import PrettyTable

from aicore.detection.matching import OperatingPoint
from aicore.detection.metrics import ALL_CLASSES, Evaluation
from aicore.visualization.plots import Panel, plot_panels

FAULTS = {"missed": "missed objects", "false": "false objects", "confused": "confused classes"}
_ROWS_SHOWN = 20  # of lists on the console; all stand in predictions.json
_CURVES_SHOWN = 20  # classes in precision_recall.png


def plot_curves(evaluation: Evaluation, classes: Sequence[str], file: Path) -> None:
    """Writes precision by recall and F1 by confidence, at an IoU of 0.5.

    Of many classes the weakest are shown. The precision of all is the mean of the classes', whose
    area is AP50; the F1 of all is that of all boxes taken together.

    Args:
        evaluation: The figures.
        classes: Class names.
        file: The PNG to write.
    """
    ap = evaluation.coco.per_class()["AP50"]
    defined = [index for index in range(len(classes)) if np.isfinite(ap[index])]
    shown = sorted(sorted(defined, key=lambda index: ap[index])[:_CURVES_SHOWN])
    recall = np.linspace(0, 100, len(evaluation.coco.precision_at_50()))
    precision = 100 * evaluation.coco.precision_at_50()
    by_recall, by_confidence = {}, {}
    if defined:
        name = f"{ALL_CLASSES} AP50 {ap[defined].mean():.1f}"
        by_recall[name] = recall, precision[:, defined].mean(axis=1)
        by_confidence[name] = _f1(evaluation, -1)
    for index in shown:
        name = f"{classes[index]} {ap[index]:.1f}"
        by_recall[name] = recall, precision[:, index]
        by_confidence[name] = _f1(evaluation, index)
    panels = [
        Panel("precision (%), IoU 0.5", "recall (%)", by_recall, limits=((0, 100), (0, 102))),
        Panel("F1 (%), IoU 0.5", "confidence", by_confidence, limits=((0, 1), (0, 102))),
    ]
    plot_panels(panels, file)


def _f1(evaluation: Evaluation, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns confidences and F1 in percent, as steps: a confidence between two scores counts."""
    curve = evaluation.curves[index]
    confidence = np.concatenate([[1], np.repeat(curve.confidence, 2), [0]])
    f1 = np.concatenate([[0, 0], np.repeat(100 * curve.f1, 2)])
    return confidence, f1


def class_figures(
    evaluation: Evaluation, confusion: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Returns each class's figures, and its counts at the operating point, for ``metrics.json``.

    Args:
        evaluation: The figures.
        confusion: (classes + 1) x (classes + 1) boxes; the last row is false, the last column
            missed.
        classes: Class names.
    """
    figures = {}
    for index, (name, row) in enumerate(zip(classes, evaluation.per_class(), strict=False)):
        true = confusion[index]
        counts = {
            "right": int(true[index]),
            "missed": int(true[-1]),
            "confused": int(true[:-1].sum() - true[index]),
            "false": int(confusion[-1, index]),
        }
        figures[name] = {**{key: _defined(value) for key, value in row.items()}, **counts}
    return figures


def point_figures(point: OperatingPoint) -> dict[str, float | None]:
    """Returns the operating point for ``metrics.json``: all but the confidence in percent."""
    return {
        "confidence": _defined(point.confidence),
        "F1": _defined(100 * point.f1),
        "precision": _defined(100 * point.precision),
        "recall": _defined(100 * point.recall),
    }


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def point_table(figures: dict[str, dict[str, Any]], point: OperatingPoint) -> str:
    """Returns the counts at the operating point, and where each class has its best F1.

    Args:
        figures: What :func:`class_figures` returned.
        point: The confidence for all.
    """
    kinds = ("right", "missed", "confused", "false")
    table = PrettyTable(["class", "boxes", *kinds, "best F1 at"])
    table.align = "r"
    table.align["class"] = "l"
    shown = list(figures.items())
    if len(shown) > _ROWS_SHOWN:  # the weakest are what one looks for
        present = [item for item in shown if item[1]["F1"] is not None]
        shown = sorted(present, key=lambda item: item[1]["F1"])[:_ROWS_SHOWN]
    for name, row in shown:
        counts = [row[kind] for kind in kinds]
        table.add_row([name, row["boxes"], *counts, _confidence(row["confidence"])])
    totals = [sum(row[kind] for row in figures.values()) for kind in ("boxes", *kinds)]
    table.add_row([ALL_CLASSES, *totals, _confidence(_defined(point.confidence))])
    left = len(figures) - len(shown)
    more = f"\n{left} more classes in metrics.json" if left else ""
    if np.isfinite(point.confidence):
        heading = (
            f"At the confidence of best F1 for all, {point.confidence:.3f}: F1 {100 * point.f1:.2f}"
            f" %, precision {100 * point.precision:.2f} %, recall {100 * point.recall:.2f} %"
        )
    else:
        heading = "No confidence gives a right prediction"
    return f"{heading}\n{table}{more}"


def _confidence(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def fault_lists(records: Sequence[dict[str, Any]]) -> list[str]:
    """Returns lines with the images that have faults, the most of them first.

    Args:
        records: With ``pred_verdict``, where inspected.
    """
    lines = []
    for kind, text in FAULTS.items():
        found = [(r["image"], len(r["pred_verdict"][kind])) for r in records if "pred_verdict" in r]
        found = sorted([item for item in found if item[1]], key=lambda item: -item[1])
        if found:
            lines.append(f"{len(found)} of {len(records)} images have {text}:")
            lines += [f"  {image}: {count}" for image, count in found[:_ROWS_SHOWN]]
    not_inspected = [record for record in records if not record["inspected"]]
    if not_inspected:
        lines.append(f"{len(not_inspected)} of {len(records)} images were not inspected:")
        lines += [f"  {r['image']}: {r['reason']}" for r in not_inspected[:_ROWS_SHOWN]]
    return lines
