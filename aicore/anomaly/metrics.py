"""Metrics of anomaly detection, of images and of pixels, in all and for each type of defect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from prettytable import PrettyTable
from torch import Tensor

from aicore.anomaly.curves import PRO_LIMIT, ScoreCounts, ScoreHistogram
from aicore.errors import DataError
from aicore.registry import METRICS

ALL_TYPES = "(all)"
_ROWS_SHOWN = 30


class ImageScore(NamedTuple):
    """What is kept of an image."""

    defect: str | None
    """The defect's type; None for a good image."""
    score: float
    threshold: float
    """NaN where none is known."""


class _Row(NamedTuple):
    """A row of the histogram: pixels of the good images, or of those with one type of defect."""

    defect: str | None
    role: str
    """``good`` and ``defective`` pixels; ``regions`` are the latter, by 1 / (their region's)."""


@METRICS.register_module()
class AnomalyMetric(BaseMetric):
    """How well distances tell defective from good: AUROC, AP, F1 and AUPRO.

    The metrics, in percent, NaN where undefined, as where only one of the two classes is present:

    - ``image_AUROC``, ``image_AP`` and ``image_F1``, the best F1 of all thresholds, of the images'
      scores; exact, as scikit-learn has them.
    - ``pixel_AUROC``, ``pixel_AP`` and ``pixel_F1``, of the pixels of all images together.
    - ``AUPRO``: the mean share of a defective region (8-connected) at or above a threshold, over
      the share of good pixels that are, integrated from 0 to 0.3 of the latter, over 0.3.
    - ``overkill`` and ``escape`` at the model's threshold: good images called NG over all good
      ones, and defective ones called OK over all defective ones. NaN without a threshold.

    Pixels are counted in histograms on the device of the maps, in memory that depends on the
    number of defect types alone: see :class:`aicore.anomaly.curves.ScoreHistogram`, also for the
    error. Pixels with 255 in the truth do not count, nor does a defective image without a mask.

    A table of the defect types is logged: the same figures of the images with that defect against
    all good images; for pixels, of the pixels of the former and the latter.

    Attributes:
        figures: What ``metrics.json`` holds beside the metrics, of the last evaluation:
            ``defect_types``, for each the number of ``images`` and the figures, in percent, None
            where undefined; ``best_F1``, the scores from which ``image`` and ``pixel`` F1 are
            best; and ``curves``: ``image_ROC``, ``pixel_ROC`` and ``PRO``, each a list of false
            positive rates (``x``) and one of true positive rates or overlaps (``y``), in 0..1.

    Args:
        **kwargs: Arguments of :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = ""  # the names of the figures stand alone

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.figures: dict[str, Any] = {}
        self._begin()

    def _begin(self) -> None:
        self._images: list[ImageScore] = []
        self._pixels = ScoreHistogram()

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Adds a batch.

        Args:
            data_batch: Not used.
            data_samples: The fields of :class:`aicore.structures.AnomalyDataSample`.

        Raises:
            DataError: A score or a map is not made of finite numbers from 0, or the map has not
                the size of the mask.
        """
        for sample in data_samples:
            _check(sample["pred_score"], "score", sample["img_path"])
            defect = sample["defect_type"] if sample["gt_label"] else None
            score, threshold = float(sample["pred_score"]), float(sample["pred_threshold"])
            self._images.append(ImageScore(defect, score, threshold))
            self._add_pixels(sample, defect)

    def _add_pixels(self, sample: Mapping[str, Any], defect: str | None) -> None:
        distances: Tensor = sample["pred_map"]["data"].squeeze(0).float()
        _check(distances, "map of distances", sample["img_path"])
        if "gt_mask" not in sample:
            if defect is None:
                self._pixels.add(_Row(None, "good"), distances)
            return
        mask: Tensor = sample["gt_mask"]["data"].squeeze(0)
        if mask.shape != distances.shape:
            raise DataError(
                f"{sample['img_path']}: its map of distances has {_size(distances)} pixels, but "
                f"its mask {_size(mask)}: expected both in the original size of the image."
            )
        truth = mask.cpu().numpy()
        self._pixels.add(_Row(defect, "good"), _pick(distances, truth == 0))
        is_defective = truth == 1
        weights = region_weights(is_defective)
        if weights.size:
            scores = _pick(distances, is_defective)
            self._pixels.add(_Row(defect, "defective"), scores)
            by_region = torch.from_numpy(weights).to(scores.device)
            self._pixels.add(_Row(defect, "regions"), scores, by_region)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Not used: pixels are not collected, only their sums."""
        raise NotImplementedError

    def evaluate(self, size: int) -> dict[str, float]:
        """Returns the metrics, logs the table of the defect types and keeps ``figures``.

        Args:
            size: Not used: all processes together hold each image once.
        """
        images = [image for part in all_gather_object(self._images) for image in part]
        pixels = self._pixels
        pixels.reduce()
        self._begin()
        types = sorted({image.defect for image in images if image.defect is not None})
        good = [image for image in images if image.defect is None]
        curves = _Curves.of(images, pixels, types)
        total = {**curves.figures(), **decisions(images)}
        rows = {}
        for name in types:
            bad = [image for image in images if image.defect == name]
            figures = _Curves.of(good + bad, pixels, [name]).figures()
            rows[name] = {"images": len(bad), **figures, **decisions(good + bad)}
        MMLogger.get_current_instance().info(type_table(rows, total, len(good)))
        self.figures = {
            "defect_types": {
                name: {key: _defined(value) for key, value in row.items()}
                for name, row in rows.items()
            },
            **curves.report(),
        }
        return {f"{self.prefix}/{k}" if self.prefix else k: v for k, v in total.items()}


def _check(values: Tensor, name: str, image: str) -> None:
    """Raises DataError where values are not finite, or below 0."""
    lowest, highest = torch.stack(torch.aminmax(values)).tolist()
    if not (lowest >= 0 and highest < math.inf):  # NaN makes both NaN
        raise DataError(
            f"{image}: its {name} holds values from {lowest} to {highest}: expected finite numbers "
            "from 0. Check that the model was fitted on good images of this kind, and, under amp, "
            "whether it stays finite in float32."
        )


def _size(array: Tensor) -> str:
    height, width = array.shape
    return f"{width} x {height}"


def _pick(distances: Tensor, where: np.ndarray) -> Tensor:
    """Returns the distances where the mask (H x W bool) is set, row by row, on their device."""
    if distances.is_cpu:  # torch takes ten times as long as NumPy for this
        return torch.from_numpy(distances.numpy()[where])
    return distances[torch.from_numpy(where).to(distances.device)]


def region_weights(mask: np.ndarray) -> np.ndarray:
    """Returns 1 / (pixels of its region) of each defective pixel, so that regions count alike.

    Args:
        mask: H x W bool; regions touch at edges or corners.

    Returns:
        float64, the defective pixels row by row.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    part = mask[y : y + height, x : x + width]
    if not part.size:
        return np.empty(0)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        part.astype(np.uint8), connectivity=8
    )
    return 1 / statistics[labels[part], cv2.CC_STAT_AREA]


# ---- figures ----


class _Curves(NamedTuple):
    """What the figures of some images come from."""

    image: ScoreCounts
    pixel: ScoreCounts
    region: ScoreCounts

    @classmethod
    def of(
        cls, images: Sequence[ImageScore], pixels: ScoreHistogram, types: Sequence[str]
    ) -> _Curves:
        """Returns the curves of images, which are good or have one of some types of defect."""
        groups = (None, *types)
        good = [_Row(group, "good") for group in groups]
        scores = np.array([image.score for image in images])
        defective = np.array([image.defect is not None for image in images], bool)
        return cls(
            ScoreCounts.of(scores, defective),
            pixels.counts(good, [_Row(group, "defective") for group in groups]),
            pixels.counts(good, [_Row(group, "regions") for group in groups]),
        )

    def figures(self) -> dict[str, float]:
        """Returns the figures in percent, NaN where undefined."""
        shares = {}
        for name, counts in (("image", self.image), ("pixel", self.pixel)):
            shares[f"{name}_AUROC"] = counts.area()
            shares[f"{name}_AP"] = counts.average_precision()
            shares[f"{name}_F1"] = counts.best_f1().f1
        shares["AUPRO"] = self.region.area(PRO_LIMIT)
        return {name: 100 * share for name, share in shares.items()}

    def report(self) -> dict[str, Any]:
        """Returns where F1 is best, and points of the curves, ready for JSON."""
        scores = {"image": self.image.best_f1().score, "pixel": self.pixel.best_f1().score}
        curves = {"image_ROC": self.image, "pixel_ROC": self.pixel, "PRO": self.region}
        return {
            "best_F1": {name: _defined(score) for name, score in scores.items()},
            "curves": {
                name: dict(zip("xy", (v.round(6).tolist() for v in counts.points()), strict=True))
                for name, counts in curves.items()
            },
        }


def decisions(images: Sequence[ImageScore]) -> dict[str, float]:
    """Returns ``overkill`` and ``escape`` in percent; NaN without threshold or without images."""
    good = [image for image in images if image.defect is None]
    bad = [image for image in images if image.defect is not None]
    figures = {"overkill": float("nan"), "escape": float("nan")}
    if any(math.isnan(image.threshold) for image in images):
        return figures
    if good:
        figures["overkill"] = 100 * sum(i.score >= i.threshold for i in good) / len(good)
    if bad:
        figures["escape"] = 100 * sum(i.score < i.threshold for i in bad) / len(bad)
    return figures


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def type_table(
    rows: Mapping[str, Mapping[str, float]], total: Mapping[str, float], good: int
) -> str:
    """Returns the figures of the defect types as a table; of many those with the lowest AUROC.

    Args:
        rows: For each type the number of ``images`` and the figures in percent.
        total: The figures of all images.
        good: Number of good images.
    """
    table = PrettyTable(["defect", "images", *total])
    table.align = "r"
    table.align["defect"] = "l"
    shown = list(rows)
    if len(shown) > _ROWS_SHOWN:
        defined = [name for name in shown if math.isfinite(rows[name]["image_AUROC"])]
        shown = sorted(defined, key=lambda name: rows[name]["image_AUROC"])[:_ROWS_SHOWN]
    for name in shown:
        table.add_row([name, rows[name]["images"], *(_shown(rows[name][key]) for key in total)])
    images = good + sum(int(row["images"]) for row in rows.values())
    table.add_row([ALL_TYPES, images, *map(_shown, total.values())])
    left = len(rows) - len(shown)
    more = f"\n{left} more types of defect in metrics.json" if left else ""
    return f"\nEach type of defect against the {good} good images, in %\n{table}{more}"


def _shown(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"
