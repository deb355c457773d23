"""Connected regions of a class: defects that were found, missed, or are not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from aicore.errors import ConfigError
from aicore.evaluation.areas import connected_regions
from aicore.segmentation.masks import IGNORE, present_in


class RegionCounts(NamedTuple):
    """How many regions there are, by what became of them."""

    found: int = 0
    """True regions that the prediction shows."""
    missed: int = 0
    """True regions that it does not."""
    false: int = 0
    """Predicted regions where nothing is."""


@dataclass(frozen=True)
class RegionRule:
    """When a region counts, and when it is found.

    Attributes:
        min_area: Pixels, in the original image, below which a region counts neither as found,
            nor as missed, nor as false.
        min_overlap: Share in (0, 1] of a true region's pixels that have to be predicted as its
            class for it to be found; and of a predicted region's pixels that have to be truly of
            its class for it not to be false.
    """

    min_area: int = 10
    min_overlap: float = 0.1

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: One is out of range.
        """
        if type(self.min_area) is not int or self.min_area < 1:
            raise ConfigError(
                f"min_region_area is {self.min_area!r}: expected a whole number of pixels from 1."
            )
        if not isinstance(self.min_overlap, int | float) or not 0 < self.min_overlap <= 1:
            raise ConfigError(
                f"min_region_overlap is {self.min_overlap!r}: expected a share in (0, 1]."
            )

    def count(
        self, truth: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None
    ) -> RegionCounts:
        """Compares the regions of one class; regions touch at edges and corners.

        Args:
            truth: H x W bool.
            prediction: H x W bool.
            known: H x W bool, the pixels that count, None for all. A region that reaches over
                others is still one.
        """
        known = np.ones_like(truth) if known is None else known
        hit = self._hits(truth, prediction, known)
        real = self._hits(prediction, truth, known)
        return RegionCounts(sum(hit), len(hit) - sum(hit), len(real) - sum(real))

    def _hits(self, regions: np.ndarray, others: np.ndarray, known: np.ndarray) -> list[bool]:
        """Returns for each region of the first mask whether the second covers it."""
        if not regions.any():
            return []
        count, labels = cv2.connectedComponents(regions.astype(np.uint8), connectivity=8)
        areas = np.bincount(labels[known], minlength=count)[1:]
        covered = np.bincount(labels[others & known], minlength=count)[1:]
        return (covered >= self.min_overlap * areas)[areas >= self.min_area].tolist()

    def count_classes(
        self, truth: np.ndarray, prediction: np.ndarray, classes: int
    ) -> list[RegionCounts]:
        """Compares two class maps.

        Args:
            truth: H x W uint8, class indices and 255 where nothing is known.
            prediction: H x W uint8, class indices.
            classes: Number of classes; the first is the background.

        Returns:
            The counts of each class but the background, and at the end those of all of them taken
            as one: whether a defect was found at all, whatever it was called.
        """
        known = truth != IGNORE
        present = {*present_in(truth), *present_in(prediction)}
        counts = [
            self.count(truth == index, prediction == index, known)
            if index in present
            else RegionCounts()
            for index in range(1, classes)
        ]
        return [*counts, self.count((truth > 0) & known, prediction > 0, known)]


def list_regions(
    mask: np.ndarray, score: np.ndarray | None, min_area: int
) -> list[dict[str, object]]:
    """Returns the regions of a mask, largest first, ready for JSON.

    Args:
        mask: H x W bool.
        score: H x W, the class's score of each pixel; or None.
        min_area: Pixels below which a region is left out.

    Returns:
        Dicts of ``pixels``, ``box`` (x, y, width, height in pixels) and, with a score, ``score``,
        its mean over the region.
    """
    regions = []
    for pixels, box, inside in connected_regions(mask):
        if pixels < min_area:
            break
        region: dict[str, object] = {"pixels": pixels, "box": box}
        if score is not None:
            region["score"] = round(float(score[inside].mean()), 4)
        regions.append(region)
    return regions
