"""What a test of anomaly detection says: counts by type, and the images that are judged wrongly.

Records are those of :class:`aicore.anomaly.task.AnomalyDetection`; ``classes`` are the names of
good and of defective images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from prettytable import PrettyTable

from aicore.visualization.plots import plot_histograms

_ROWS_SHOWN = 20  # of lists on the console; all stand in predictions.json
_TYPES_SHOWN = 8  # of defects in score_histograms.png; where there are more, all as one
GOOD = "good"

Records = Sequence[dict[str, Any]]


def threshold_of(records: Records) -> float | None:
    """Returns the threshold of the model; None where it has none, or nothing was judged."""
    return next((record["pred_threshold"] for record in records), None)


def type_figures(records: Records, classes: Sequence[str]) -> dict[str, dict[str, int | None]]:
    """Returns how many images of each type there are, and what became of them.

    Args:
        records: Of images whose truth and prediction are known.
        classes: Class names.

    Returns:
        By type, good images first: ``images``; of good ones ``right`` and ``overkill``, of
        defective ones ``found`` and ``missed``, None without a threshold.
    """
    has_threshold = threshold_of(records) is not None
    figures = {}
    for name, members in _by_type(records, classes).items():
        right = sum(record["prediction"] == record["label"] for record in members)
        keys = ("right", "overkill") if name == GOOD else ("found", "missed")
        counts = (right, len(members) - right) if has_threshold else (None, None)
        figures[name] = {"images": len(members), **dict(zip(keys, counts, strict=True))}
    return figures


def confusion_matrix(records: Records, classes: Sequence[str]) -> np.ndarray:
    """Returns the number of images by truth (rows) and prediction, 2 x 2 int64."""
    matrix = np.zeros((2, 2), np.int64)
    for record in records:
        matrix[classes.index(record["label"]), classes.index(record["prediction"])] += 1
    return matrix


def most_telling(records: Records, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the records, those that tell most first, defective and good ones in turns.

    Escapes and overkill come first, the most wrong of each kind first; then what is judged rightly,
    the closest to the threshold first. Without a threshold it is the defective images of the
    smallest and the good ones of the largest distance.
    """
    threshold = threshold_of(records)
    # The most wrong first, and so the closest to the threshold of those that are right.
    good = [record for record in records if record["label"] == classes[0]]
    good.sort(key=lambda record: -record["pred_distance"])
    defective = [record for record in records if record["label"] != classes[0]]
    defective.sort(key=lambda record: record["pred_distance"])
    pairs = chain.from_iterable(zip_longest(defective, good))
    in_turns = [record for record in pairs if record is not None]
    if threshold is None:
        return in_turns
    wrong = [record for record in in_turns if record["prediction"] != record["label"]]
    return wrong + [record for record in in_turns if record["prediction"] == record["label"]]


def plot_distances(records: Records, classes: Sequence[str], file: Path) -> None:
    """Writes the histograms of the distances of good and defective images.

    Each type of defects has its own where there are few.
    """
    groups = _by_type(records, classes)
    if len(groups) > _TYPES_SHOWN + 1:
        groups = {
            name: [record for record in records if record["label"] == label]
            for name, label in ((GOOD, classes[0]), ("defective", classes[1]))
        }
    threshold = threshold_of(records)
    plot_histograms(
        {name: [record["pred_distance"] for record in group] for name, group in groups.items()},
        "distance of the image from the good ones",
        file,
        mark=None if threshold is None else (f"threshold {threshold:.4g}", threshold),
    )


def count_table(figures: dict[str, dict[str, int | None]], threshold: float | None) -> list[str]:
    """Returns a line about the threshold, and a table: how much of each type is judged rightly."""
    if not figures:
        return []
    table = PrettyTable(["type", "images", "right", "wrong"])
    table.align = "r"
    table.align["type"] = "l"
    for name, row in figures.items():
        table.add_row([name, *("-" if count is None else count for count in row.values())])
    if threshold is None:
        return ["The model has no threshold: no image is called OK or NG", str(table)]
    return [f"NG from a distance of {threshold:.6g}", str(table)]


def image_lists(records: Records, classes: Sequence[str]) -> list[str]:
    """Returns lines with the escapes, the overkill, and the images that were not inspected."""
    judged = [r for r in records if r.get("prediction") is not None and "label" in r]
    telling = most_telling(judged, classes)
    lines = []
    for label, text in ((1, "escapes (defective, called OK)"), (0, "overkill (good, called NG)")):
        called = classes[1 - label]
        found = [r for r in telling if (r["label"], r["prediction"]) == (classes[label], called)]
        if found:
            of = sum(record["label"] == classes[label] for record in judged)
            lines.append(f"{len(found)} of {of} images are {text}:")
            lines += [
                f"  {r['image']}: {r['defect_type'] or r['label']}, distance "
                f"{r['pred_distance']:.6g}, NG score {r['pred_ng_score']:.3f}"
                for r in found[:_ROWS_SHOWN]
            ]
    not_inspected = [record for record in records if not record["inspected"]]
    if not_inspected:
        lines.append(f"{len(not_inspected)} of {len(records)} images were not inspected:")
        lines += [f"  {r['image']}: {r['reason']}" for r in not_inspected[:_ROWS_SHOWN]]
    return lines


def _by_type(records: Records, classes: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Returns the records by type of defect; the good ones first, then in the names' order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        is_good = record["label"] == classes[0]
        name = GOOD if is_good else record["defect_type"] or record["label"]
        groups.setdefault(name, []).append(record)
    return {name: groups[name] for name in sorted(groups, key=lambda name: (name != GOOD, name))}
