"""Metrics of class maps: one confusion matrix for all pixels, and regions found and missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from prettytable import PrettyTable
from torch import Tensor

from aicore.errors import ConfigError
from aicore.registry import METRICS
from aicore.segmentation.regions import RegionRule

ANY_DEFECT = "(any but the first)"
_ROWS_SHOWN = 30


@METRICS.register_module()
class SegmentationMetric(BaseMetric):
    """IoU, Dice, precision and recall of each class, their means, and regions found and missed.

    One confusion matrix of all pixels is added up on the device, one count for a whole batch;
    pixels labelled 255 are left out. Memory does not depend on the number of images.

    The metrics, in percent: ``mIoU``, ``mDice``, ``mPrecision``, ``mRecall`` (mmseg's ``mAcc``),
    means over the classes for which they are defined (a class that neither the truth nor the
    prediction has, has no IoU), and ``aAcc``, the share of right pixels. ``region_recall`` is the
    share of true defect regions that were found, by their own class, in percent; and
    ``false_regions`` the number of predicted ones where nothing is. Without any true region
    ``region_recall`` is undefined (NaN).

    Args:
        min_region_area: See :class:`aicore.segmentation.regions.RegionRule`, ``min_area``; None
            to look at no regions, which the CPU would have to find.
        min_region_overlap: ``min_overlap`` there.
        **kwargs: Further arguments of :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = ""  # the names of the figures stand alone

    def __init__(
        self, min_region_area: int | None = 10, min_region_overlap: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        has_regions = min_region_area is not None
        self.rule = RegionRule(min_region_area, min_region_overlap) if has_regions else None
        self._begin()

    def _begin(self) -> None:
        self._confusion: Tensor | None = None
        self._regions: np.ndarray | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Adds a batch.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``gt_sem_seg`` and ``pred_sem_seg`` of one size.

        Raises:
            ConfigError: They are of different sizes.
        """
        classes = len(self.dataset_meta["classes"])
        truths = [sample["gt_sem_seg"]["data"].squeeze(0) for sample in data_samples]
        predictions = [sample["pred_sem_seg"]["data"].squeeze(0) for sample in data_samples]
        for t, p in zip(truths, predictions, strict=True):
            if t.shape != p.shape:
                raise ConfigError(
                    f"the mask has {t.shape[0]} x {t.shape[1]} pixels (height x width) and the "
                    f"prediction {p.shape[0]} x {p.shape[1]}, those of the image as it was read: "
                    "put aicore.LoadMask behind the transforms of the image in test_pipeline."
                )
        device = predictions[0].device
        truth = torch.cat([item.flatten() for item in truths]).to(device)
        prediction = torch.cat([item.flatten() for item in predictions])
        counts = confusion_matrix(truth, prediction, classes)
        self._confusion = counts if self._confusion is None else self._confusion + counts
        if self.rule is None:
            return
        for t, p in zip(truths, predictions, strict=True):
            counts = self.rule.count_classes(_on_cpu(t), _on_cpu(p), classes)
            counts = np.array(counts)
            self._regions = counts if self._regions is None else self._regions + counts

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Not used: there is nothing to collect but the sums."""
        raise NotImplementedError

    def evaluate(self, size: int) -> dict[str, float]:
        """Returns the metrics, and logs the table of the classes.

        Args:
            size: Not used: the sums of all processes hold each image once.
        """
        names = tuple(self.dataset_meta["classes"])
        classes = len(names)
        confusion = torch.zeros(classes, classes, dtype=torch.int64)
        if self._confusion is not None:
            confusion = self._confusion.cpu()
        regions = torch.zeros(classes, 3, dtype=torch.int64)
        if self._regions is not None:
            regions = torch.from_numpy(self._regions)
        all_reduce(confusion)
        all_reduce(regions)
        self._begin()
        figures = class_figures(confusion.numpy())
        MMLogger.get_current_instance().info(class_table(names, figures, regions.numpy()))
        return {
            f"{self.prefix}/{name}" if self.prefix else name: value
            for name, value in summary(confusion.numpy(), regions.numpy()).items()
        }


def _on_cpu(class_map: Tensor) -> np.ndarray:
    return class_map.to(torch.uint8).cpu().numpy()


def confusion_matrix(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Counts the pixels by their true and their predicted class.

    Args:
        truth: Any shape, class indices and 255 for pixels that do not count.
        prediction: The same shape, class indices.
        classes: Number of classes.

    Returns:
        classes x classes, int64; rows are the truth.
    """
    # Pixels that do not count come into a row of their own, which costs less than leaving them out.
    index = truth.long().clamp(max=classes).mul_(classes).add_(prediction)
    counts = torch.bincount(index.flatten(), minlength=(classes + 1) * classes)
    return counts[: classes * classes].view(classes, classes)


def class_figures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Returns IoU, Dice, precision and recall of each class, in percent; NaN where undefined.

    Args:
        confusion: classes x classes pixel counts, rows are the truth.
    """
    right = np.diag(confusion).astype(np.float64)
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "IoU": 100 * right / (true + predicted - right),
            "Dice": 200 * right / (true + predicted),
            "Precision": 100 * right / predicted,
            "Recall": 100 * right / true,
        }


def summary(confusion: np.ndarray, regions: np.ndarray) -> dict[str, float]:
    """Returns the metrics that :class:`SegmentationMetric` names.

    Args:
        confusion: classes x classes pixel counts, rows are the truth.
        regions: found, missed and false ones of each class but the first, and of any.
    """
    means = {
        f"m{name}": float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        for name, values in class_figures(confusion).items()
    }
    total = confusion.sum()
    found, missed, false = regions[:-1].sum(axis=0).tolist()
    return {
        **means,
        "aAcc": 100 * float(np.trace(confusion)) / int(total) if total else float("nan"),
        "region_recall": 100 * found / (found + missed) if found + missed else float("nan"),
        "false_regions": false,
    }


def class_table(classes: Sequence[str], figures: dict[str, np.ndarray], regions: np.ndarray) -> str:
    """Returns the figures of the classes as a table; of many classes those with the lowest IoU.

    Args:
        classes: Class names.
        figures: What :func:`class_figures` returned.
        regions: found, missed and false regions of each class but the first, and of any.
    """
    table = PrettyTable(["class", *figures, "regions found", "missed", "false"])
    table.align = "r"
    table.align["class"] = "l"
    order: Sequence[int] = range(len(classes))
    if len(classes) > _ROWS_SHOWN:
        defined = [index for index in order if np.isfinite(figures["IoU"][index])]
        order = sorted(defined, key=lambda index: figures["IoU"][index])[:_ROWS_SHOWN]
    for index in order:
        cells = [_shown(values[index]) for values in figures.values()]
        counts = regions[index - 1].tolist() if index else [""] * 3
        table.add_row([classes[index], *cells, *counts])
    table.add_row([ANY_DEFECT, *[""] * len(figures), *regions[-1].tolist()])
    left = len(classes) - len(order)
    return f"\n{table}" + (f"\n{left} more classes in metrics.json" if left else "")


def _shown(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"
