"""What shared code has to know of anomaly detection."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.structures import PixelData

from aicore.anomaly.areas import IGNORE
from aicore.anomaly.heatmap import pack_map, score_map, unpack_map
from aicore.anomaly.inferencer import AnomalyInferencer
from aicore.anomaly.report import (
    confusion_matrix,
    count_table,
    image_lists,
    most_telling,
    plot_distances,
    threshold_of,
    type_figures,
)
from aicore.evaluation.areas import connected_regions, decode_mask, encode_mask
from aicore.registry import TASKS
from aicore.runtime.images import read_image, write_image
from aicore.structures import AnomalyDataSample
from aicore.visualization.drawing import (
    Color,
    draw_areas,
    draw_caption,
    draw_heat,
    draw_heat_bar,
    draw_legend,
    enlarge,
    side_by_side,
    tile,
    widen,
)
from aicore.visualization.plots import plot_confusion_matrix

_REGIONS_KEPT = 50  # of an image, the largest
_EXAMPLES = 12  # images in examples.png
_SHOWN_SIDE, _SHOWN_WIDTH = 400, 300  # pixels at least, so that texts have room
WHITE, GREY, CYAN = (255, 255, 255), (150, 150, 150), (255, 255, 0)  # BGR
GREEN, RED = (80, 200, 80), (60, 60, 230)


@TASKS.register_module()
class AnomalyDetection:
    """Anomaly detection: how far an image, and each of its pixels, is from what good ones show."""

    inferencer = AnomalyInferencer
    weight_sources: ClassVar = {}  # timm's names are its own

    def record(self, sample: AnomalyDataSample, classes: tuple[str, ...]) -> dict[str, Any]:
        """Returns what a data sample says, ready for JSON.

        Masks are dicts of ``size`` (height, width), ``pixels`` and ``counts`` (COCO's compressed
        run lengths). The whole takes about 8 KB, more where the masks are ragged.

        Returns:
            Of the truth, where known: ``label`` (a class), ``defect_type``, and the masks ``mask``
            (defective pixels) and ``ignored`` (pixels that do not count).

            Of the prediction: ``pred_distance``, ``pred_map`` (see
            :func:`aicore.anomaly.heatmap.pack_map`), ``pred_threshold``, ``pred_ng_score`` and
            ``prediction`` (a class), the latter three None without a threshold. With one:
            ``pred_mask``, the pixels at or above it, and ``pred_regions``, the 50 largest regions
            of these, each with ``pixels``, ``box`` (x, y, width, height) and ``distance``, its
            largest.
        """
        record: dict[str, Any] = {}
        if "gt_label" in sample:
            record["label"] = classes[int(sample.gt_label)]
            record["defect_type"] = sample.get("defect_type")
        ignored = None
        if "gt_mask" in sample:
            truth = _pixels(sample.gt_mask)
            record["mask"] = _as_runs(truth == 1)
            ignored = truth == IGNORE
        if "roi" in sample:
            outside = _pixels(sample.roi) == 0
            ignored = outside if ignored is None else ignored | outside
        if ignored is not None and ignored.any():
            record["ignored"] = _as_runs(ignored)
        if "pred_score" in sample:
            record.update(_prediction(sample, classes))
        return record

    def draw(self, image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
        """Returns the image under its heat map; beside it the truth, where known.

        The colours stand for NG scores, alike in all images of a model with a threshold, and a
        contour for the threshold. Without one they are scaled to the image's own maximum. The
        verdict below is green if right, red if wrong.
        """
        image = enlarge(image, _SHOWN_SIDE)
        parts = []
        if "pred_map" in record:
            parts.append(_draw_prediction(image, record))
        if "label" in record:
            parts.append(_draw_truth(image, record))
        height = max(map(len, parts), default=0)
        parts = [np.pad(part, ((0, height - len(part)), (0, 0), (0, 0))) for part in parts]
        picture = side_by_side(parts or [image])
        text, color = _caption(record)
        return draw_caption(picture, text, color) if text else picture

    def maps(self, record: dict[str, Any]) -> dict[str, np.ndarray]:
        """Returns ``heat_maps`` and ``masks``; nothing where no threshold is known.

        ``heat_maps`` are NG scores times 65535, H x W uint16; ``masks`` are 255 where a pixel is
        NG, H x W uint8.
        """
        if "pred_mask" not in record:
            return {}
        mask = _to_mask(record["pred_mask"])
        heat = score_map(record["pred_map"], mask, record["pred_threshold"])
        return {"heat_maps": heat, "masks": mask.astype(np.uint8) * 255}

    def report(
        self, records: list[dict[str, Any]], classes: tuple[str, ...], folder: Path
    ) -> tuple[str, dict[str, Any]]:
        """Writes ``score_histograms.png``, ``examples.png`` and ``confusion_matrix.png``.

        The examples are escapes and overkill first, then the images closest to the threshold.
        Without a threshold there is no confusion matrix, and the examples are the defective images
        of the smallest and the good ones of the largest distance. Images whose truth is not known
        are left out.

        Args:
            records: What :meth:`record` returned for each image.
            classes: Names of good and of defective images.
            folder: Where the pictures go.

        Returns:
            Counts, and the images that are escapes and overkill, for the console; and
            ``threshold`` (the distance), ``types`` (``images`` of each; of good ones, those that
            are ``right`` and ``overkill``, of defective ones, those ``found`` and ``missed``) and
            ``confusion_matrix`` (images, rows are the truth) for ``metrics.json``; None for what
            there is not without a threshold.
        """
        judged = [record for record in records if "pred_map" in record and "label" in record]
        threshold, figures = threshold_of(judged), type_figures(judged, classes)
        confusion = None if threshold is None else confusion_matrix(judged, classes)
        if judged:
            plot_distances(judged, classes, folder / "score_histograms.png")
            shown = most_telling(judged, classes)[:_EXAMPLES]
            pictures = [self.draw(read_image(r["image"]), r) for r in shown]
            write_image(folder / "examples.png", tile(pictures, columns=3, cell=540))
        if confusion is not None:
            plot_confusion_matrix(confusion, classes, folder / "confusion_matrix.png")
        lines = [*count_table(figures, threshold), *image_lists(records, classes)]
        return "\n".join(lines), {
            "threshold": threshold,
            "types": figures,
            "confusion_matrix": None if confusion is None else confusion.tolist(),
        }


# ---- records ----


def _prediction(sample: AnomalyDataSample, classes: tuple[str, ...]) -> dict[str, Any]:
    distances = _pixels(sample.pred_map).astype(np.float32)
    distance, threshold = _shortest(sample.pred_score), _shortest(sample.pred_threshold)
    prediction: dict[str, Any] = {
        "prediction": None,
        "pred_distance": distance,
        "pred_ng_score": None,
        "pred_threshold": None,
        "pred_map": pack_map(distances),
    }
    if np.isnan(threshold):
        return prediction
    mask = distances >= threshold
    regions = [
        {"pixels": pixels, "box": box, "distance": _shortest(distances[inside].max())}
        for pixels, box, inside in islice(connected_regions(mask), _REGIONS_KEPT)
    ]
    return {
        **prediction,
        "prediction": classes[int(distance >= threshold)],
        "pred_ng_score": round(float(sample.pred_ng_score), 6),
        "pred_threshold": threshold,
        "pred_regions": regions,
        "pred_mask": _as_runs(mask),
    }


def _pixels(plane: PixelData) -> np.ndarray:
    return plane.data.squeeze(0).cpu().numpy()


def _shortest(value: Any) -> float:
    """Returns a float32 as the number of fewest digits that is still the same float32."""
    return float(str(np.float32(float(value))))


def _as_runs(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "pixels": int(mask.sum()), "counts": encode_mask(mask)}


def _to_mask(runs: dict[str, Any]) -> np.ndarray:
    return decode_mask(runs["counts"], runs["size"])


# ---- pictures ----


def _draw_prediction(image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
    """Draws the heat map, the contour at the threshold, and the scale below."""
    packed = record["pred_map"]
    if "pred_mask" in record:
        mask = _to_mask(record["pred_mask"])
        heat = score_map(packed, mask, record["pred_threshold"]) / np.float32(65535)
        picture = draw_areas(draw_heat(image, heat), [(mask, CYAN)], opacity=0)
        ticks = [(0.0, "NG score 0", WHITE), (0.5, "0.5: threshold", CYAN), (1.0, "1", WHITE)]
    else:
        distance = record["pred_distance"]
        picture = draw_heat(image, unpack_map(packed, image.shape[:2]) / (distance or 1))
        ticks = [(0.0, "distance 0", WHITE), (1.0, f"{distance:.4g} (this image)", WHITE)]
    return draw_heat_bar(widen(picture, _SHOWN_WIDTH), ticks)


def _draw_truth(image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
    """Draws the contours of what is defective and of what does not count, with a legend."""
    areas, legend = [], [(f"truth: {_type_of(record)}", None)]
    for key, name, color in (("mask", "defective", CYAN), ("ignored", "does not count", GREY)):
        runs = record.get(key)
        if runs is not None and runs["pixels"]:
            areas.append((_to_mask(runs), color))
            share = 100 * runs["pixels"] / (runs["size"][0] * runs["size"][1])
            legend.append((f"{name} {share:.2g} %", color))
    picture = draw_areas(image, areas, opacity=0)
    return draw_legend(widen(picture, _SHOWN_WIDTH), legend)


def _caption(record: dict[str, Any]) -> tuple[str, Color]:
    """Returns what is said of the image as a whole, and the colour of it."""
    if "pred_map" not in record:
        return record.get("reason", ""), WHITE
    distance, label = f"distance {record['pred_distance']:.4g}", record.get("label")
    truth = "" if label is None else f" (is {_type_of(record)})"
    if record["prediction"] is None:
        return f"{distance}, no threshold{truth}", WHITE
    text = f"{record['prediction'].upper()} {record['pred_ng_score']:.3f}, {distance}{truth}"
    if label is None:
        return text, WHITE
    return text, GREEN if label == record["prediction"] else RED


def _type_of(record: dict[str, Any]) -> str:
    return record["defect_type"] or record["label"]
