"""What shared code has to know of semantic segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmseg.structures import SegDataSample

from aicore.evaluation.areas import decode_mask, encode_mask
from aicore.registry import TASKS
from aicore.runtime.images import read_image, write_image
from aicore.segmentation.inferencer import SegmentationInferencer
from aicore.segmentation.masks import IGNORE, present_in
from aicore.segmentation.metrics import ANY_DEFECT, class_figures, confusion_matrix
from aicore.segmentation.regions import RegionCounts, RegionRule, list_regions
from aicore.segmentation.smp import from_smp
from aicore.visualization.drawing import (
    class_color,
    draw_areas,
    draw_caption,
    draw_legend,
    enlarge,
    side_by_side,
    tile,
)
from aicore.visualization.plots import plot_confusion_matrix

_ROWS_SHOWN = 20  # of lists on the console; all stand in predictions.json
_EXAMPLES = 12  # images in examples.png
_SHOWN_SIDE = 320  # pixels at least, so that legends have room
WHITE, GREY = (255, 255, 255), (150, 150, 150)  # BGR


@TASKS.register_module()
class Segmentation:
    """Semantic segmentation, a class for each pixel; the first class is the background.

    Args:
        min_region_area: See :class:`aicore.segmentation.regions.RegionRule`, ``min_area``.
        min_region_overlap: ``min_overlap`` there.
    """

    inferencer = SegmentationInferencer
    weight_sources: ClassVar = {"smp": from_smp}

    def __init__(self, min_region_area: int = 10, min_region_overlap: float = 0.1) -> None:
        self.rule = RegionRule(min_region_area, min_region_overlap)

    def record(self, sample: SegDataSample, classes: tuple[str, ...]) -> dict[str, Any]:
        """Returns what a data sample says, ready for JSON.

        Returns:
            ``truth`` and ``prediction``, where present: ``size`` (height, width) and ``classes``,
            a dict by class name of ``index``, ``pixels`` and, but for the background, ``counts``
            (COCO's compressed run lengths). ``pred_regions``: each with ``class``, ``pixels``,
            ``box`` (x, y, width, height) and ``score``. With both, ``pred_confusion`` (pixels by
            true and predicted class) and ``pred_found``: ``found``, ``missed`` and ``false``
            regions by class.
        """
        record: dict[str, Any] = {}
        truth = prediction = None
        if "gt_sem_seg" in sample:
            truth = sample.gt_sem_seg.data.squeeze(0).to(torch.uint8).cpu()
            record["truth"] = _as_runs(truth.numpy(), classes)
        if "pred_sem_seg" in sample:
            prediction = sample.pred_sem_seg.data.squeeze(0).to(torch.uint8).cpu()
            record["prediction"] = _as_runs(prediction.numpy(), classes)
            scores = sample.seg_logits.data.float().softmax(dim=0).cpu().numpy()
            record["pred_regions"] = self._regions(prediction.numpy(), scores, classes)
        if truth is not None and prediction is not None and truth.shape == prediction.shape:
            confusion = confusion_matrix(truth, prediction, len(classes)).numpy()
            record["pred_confusion"] = _sparse(confusion, classes)
            counts = self.rule.count_classes(truth.numpy(), prediction.numpy(), len(classes))
            names = [*classes[1:], ANY_DEFECT]
            record["pred_found"] = {
                name: count._asdict()
                for name, count in zip(names, counts, strict=True)
                if any(count)
            }
        return record

    def draw(self, image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
        """Returns the image with the predicted areas; beside it the true ones, where known."""
        image = enlarge(image, _SHOWN_SIDE)
        parts = [
            _draw_map(image, record[key], title)
            for key, title in (("prediction", "prediction"), ("truth", "truth"))
            if key in record
        ]
        if "prediction" not in record and record.get("reason"):
            parts.insert(0, draw_caption(image, record["reason"], WHITE))
        return side_by_side(parts or [image])

    def maps(self, record: dict[str, Any]) -> dict[str, np.ndarray]:
        """Returns ``masks``, the predicted class indices, H x W uint8."""
        return {"masks": to_class_map(record["prediction"])} if "prediction" in record else {}

    def report(
        self, records: list[dict[str, Any]], classes: tuple[str, ...], folder: Path
    ) -> tuple[str, dict[str, Any]]:
        """Writes ``confusion_matrix.png`` and ``examples.png``; returns lists and figures.

        The examples are the images with most missed and false regions first.

        Args:
            records: What :meth:`record` returned for each image.
            classes: Class names.
            folder: Where the pictures go.

        Returns:
            The images with missed or false regions for the console; and ``classes`` (IoU, Dice,
            precision and recall in percent, None where undefined; pixels, and regions found,
            missed and false), ``any_defect`` and ``confusion_matrix`` (pixels, rows are the
            truth) for ``metrics.json``.
        """
        inspected = [record for record in records if "pred_confusion" in record]
        confusion = np.zeros((len(classes), len(classes)), np.int64)
        index = {name: i for i, name in enumerate(classes)}
        for record in inspected:
            for truth, row in record["pred_confusion"].items():
                for predicted, pixels in row.items():
                    confusion[index[truth], index[predicted]] += pixels
        plot_confusion_matrix(confusion, classes, folder / "confusion_matrix.png")
        worst = sorted(inspected, key=_badness, reverse=True)
        pictures = [self.draw(read_image(r["image"]), r) for r in worst[:_EXAMPLES]]
        if pictures:
            write_image(folder / "examples.png", tile(pictures, columns=2, cell=560))
        figures = {
            "classes": _per_class(confusion, inspected, classes),
            "any_defect": _regions_of(ANY_DEFECT, inspected)._asdict(),
            "confusion_matrix": confusion.tolist(),
        }
        return "\n".join(_lists(records, worst)), figures

    def _regions(
        self, prediction: np.ndarray, scores: np.ndarray, classes: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        regions = [
            {"class": classes[index], **region}
            for index in present_in(prediction)
            if index
            for region in list_regions(prediction == index, scores[index], self.rule.min_area)
        ]
        return sorted(regions, key=lambda region: -region["pixels"])


def to_class_map(runs: dict[str, Any]) -> np.ndarray:
    """Returns the class map of a record's ``truth`` or ``prediction``.

    Returns:
        H x W uint8, class indices, and 255 for pixels of the truth that do not count.
    """
    class_map = np.zeros(runs["size"], np.uint8)
    for entry in runs["classes"].values():
        if "counts" in entry:
            class_map[decode_mask(entry["counts"], runs["size"])] = entry["index"]
    return class_map


def _as_runs(class_map: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = {}
    for index in present_in(class_map):
        mask = class_map == index
        name = "(ignored)" if index == IGNORE else classes[index]
        entries[name] = {"index": index, "pixels": int(mask.sum())}
        if index:  # what is left is the background
            entries[name]["counts"] = encode_mask(mask)
    return {"size": list(class_map.shape), "classes": entries}


def _sparse(confusion: np.ndarray, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    return {
        classes[row]: {classes[i]: int(confusion[row, i]) for i in np.flatnonzero(confusion[row])}
        for row in np.flatnonzero(confusion.any(axis=1))
    }


def _draw_map(image: np.ndarray, runs: dict[str, Any], title: str) -> np.ndarray:
    areas, legend = [], [(f"{title}:", None)]
    total = runs["size"][0] * runs["size"][1]
    for name, entry in runs["classes"].items():
        if "counts" not in entry:
            continue
        color = GREY if entry["index"] == IGNORE else class_color(entry["index"])
        areas.append((decode_mask(entry["counts"], runs["size"]), color))
        legend.append((f"{name} {100 * entry['pixels'] / total:.1f} %", color))
    if not areas:
        legend = [(f"{title}: {', '.join(runs['classes'])}", None)]
    return draw_legend(draw_areas(image, areas), legend)


def _badness(record: dict[str, Any]) -> tuple[int, float]:
    """Returns the number of regions missed or false, and the share of wrong pixels."""
    wrong = [
        pixels
        for truth, row in record["pred_confusion"].items()
        for predicted, pixels in row.items()
        if truth != predicted
    ]
    total = record["prediction"]["size"][0] * record["prediction"]["size"][1]
    return _faults(record, "missed") + _faults(record, "false"), sum(wrong) / total


def _faults(record: dict[str, Any], kind: str) -> int:
    return sum(c[kind] for name, c in record["pred_found"].items() if name != ANY_DEFECT)


def _regions_of(name: str, records: list[dict[str, Any]]) -> RegionCounts:
    counts = [record["pred_found"][name] for record in records if name in record["pred_found"]]
    return RegionCounts(**{key: sum(c[key] for c in counts) for key in RegionCounts._fields})


def _per_class(
    confusion: np.ndarray, records: list[dict[str, Any]], classes: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    figures = class_figures(confusion)
    per_class = {}
    for index, name in enumerate(classes):
        row = {key: float(values[index]) for key, values in figures.items()}
        row = {key: value if np.isfinite(value) else None for key, value in row.items()}
        row["pixels"] = int(confusion[index].sum())
        if index:
            row.update(_regions_of(name, records)._asdict())
        per_class[name] = row
    return per_class


def _lists(records: list[dict[str, Any]], worst: list[dict[str, Any]]) -> list[str]:
    lines = []
    for kind, text in (("missed", "missed regions"), ("false", "false regions")):
        found = [(r["image"], _faults(r, kind)) for r in worst if _faults(r, kind)]
        if found:
            lines.append(f"{len(found)} of {len(records)} images have {text}:")
            lines += [f"  {image}: {count}" for image, count in found[:_ROWS_SHOWN]]
    not_inspected = [record for record in records if not record["inspected"]]
    if not_inspected:
        lines.append(f"{len(not_inspected)} of {len(records)} images were not inspected:")
        lines += [f"  {r['image']}: {r['reason']}" for r in not_inspected[:_ROWS_SHOWN]]
    return lines
