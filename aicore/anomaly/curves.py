"""How well scores tell defective from good: exact, or from histograms in bounded memory.

Nothing here depends on what the scores are of: images, pixels, or regions.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce
from torch import Tensor

PRO_LIMIT = 0.3
"""The false positive rate up to which AUPRO is integrated."""

_BINS = 40 * 4096 + 2  # 40 octaves as fine as 2^-12, both ends included, and zero
_LARGEST = 0x7F7FFFFF  # the bits of the largest finite float32


# ---- figures ----


class BestF1(NamedTuple):
    """The best F1, and from which score on to call it defective for it; NaN where undefined."""

    f1: float
    score: float


@dataclass(frozen=True)
class ScoreCounts:
    """How much that is good, and how much that is defective, has each score.

    All figures are in 0..1, and NaN where one of the two is missing altogether. They are those of
    every threshold at one of the scores, where what has that score or more is called defective;
    equal scores are never told apart.

    Attributes:
        scores: N distinct scores in rising order.
        good: N counts, float64, of good ones.
        defective: N counts, float64, of defective ones. For the per-region overlap each pixel of a
            region counts 1 / (pixels of the region), so that every region counts 1 in all.
    """

    scores: np.ndarray
    good: np.ndarray
    defective: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, defective: np.ndarray) -> ScoreCounts:
        """Counts single scores.

        Args:
            scores: N scores.
            defective: N bool.
        """
        distinct, index = np.unique(scores, return_inverse=True)
        good, bad = (
            np.bincount(index[group], minlength=len(distinct)).astype(np.float64)
            for group in (~defective, defective)
        )
        return cls(distinct, good, bad)

    @property
    def is_defined(self) -> bool:
        """Whether there is something good and something defective."""
        return bool(self.good.any() and self.defective.any())

    def rates(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the false and the true positive rate, from no threshold to the lowest score.

        With the regions' weights the latter is the mean overlap of the regions.

        Returns:
            Twice N + 1 values, each rising from 0 to 1.
        """
        return _share_from_above(self.good), _share_from_above(self.defective)

    def area(self, limit: float = 1.0) -> float:
        """Returns the area under the true over the false positive rate, by trapezoids.

        Without a limit that is the AUROC: how often a defective one has the higher score, ties
        counting half. With the regions' weights and the limit 0.3 it is the AUPRO.

        Args:
            limit: The false positive rate in (0, 1] up to which to integrate, and by which to
                divide. The curve is interpolated there.
        """
        if not self.is_defined:
            return float("nan")
        false, true = self.rates()
        inside = int(np.searchsorted(false, limit, side="right"))
        end = np.interp(limit, false[inside - 1 : inside + 1], true[inside - 1 : inside + 1])
        false, true = np.append(false[:inside], limit), np.append(true[:inside], end)
        return float(np.trapezoid(true, false)) / limit

    def average_precision(self) -> float:
        """Returns the precision at each score, weighted by the recall gained there."""
        if not self.is_defined:
            return float("nan")
        defective = self.defective[::-1]
        found = np.cumsum(defective)
        called = found + np.cumsum(self.good[::-1])
        return float((defective * found / called).sum() / found[-1])

    def best_f1(self) -> BestF1:
        """Returns the best F1 of all thresholds; of equal ones that with the highest score."""
        if not self.is_defined:
            return BestF1(float("nan"), float("nan"))
        found = np.cumsum(self.defective[::-1])
        called = found + np.cumsum(self.good[::-1])
        f1 = 2 * found / (called + found[-1])
        best = int(f1.argmax())
        return BestF1(float(f1[best]), float(self.scores[::-1][best]))

    def points(self, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """Returns about ``count`` points of :meth:`rates`, evenly along the curve, for a plot.

        Empty where the curve is not defined.
        """
        if not self.is_defined:
            return np.empty(0), np.empty(0)
        false, true = self.rates()
        way = false + true
        index = np.searchsorted(way, np.linspace(0, way[-1], count))
        index = np.unique(np.append(index, len(way) - 1))
        return false[index], true[index]


def _share_from_above(counts: np.ndarray) -> np.ndarray:
    """Returns which share has a score at or above each, from the highest down; 0 comes first."""
    above = np.cumsum(counts[::-1])
    return np.append(0, above / above[-1])


# ---- histograms ----


class _Layout(NamedTuple):
    """Which bin a score falls into, by the bits of its float32: they rise with the score.

    Bin i holds the scores whose bits, shifted right, are ``first`` + i. Bin 0 is left for zeros.
    """

    shift: int
    first: int

    @classmethod
    def of(cls, lowest: int, highest: int) -> _Layout:
        """Returns the finest layout whose bins from 1 on reach from the one to the other."""
        shift = 0
        while (highest >> shift) - (lowest >> shift) > _BINS - 2:
            shift += 1
        return cls(shift, (lowest >> shift) - 1)

    def index(self, bits: Tensor) -> Tensor:
        return (bits >> self.shift).sub_(self.first).clamp_(min=0)

    def low_bits(self) -> Tensor:
        """Returns the lowest bits of each bin, int32."""
        bits = (torch.arange(_BINS) + self.first) << self.shift
        bits[0] = 0
        return bits.clamp(max=_LARGEST).int()


class ScoreHistogram:
    """Histograms of scores in some rows, all with the same bins; no range need be known before.

    163,842 bins a row (1.3 MB), whatever is added. One is for zero; the others divide the range
    of the other scores so far, each octave into the same power of two, and as finely as their
    number allows; when the range grows, neighbours are added up. So the bins depend on the range
    alone, and not on the order in which scores come or on the processes that share them.

    What falls into one bin counts as equal. That is: only the same float32 where the range holds
    163,841 of them or fewer; scores within 2^-17 of each other where the largest is up to twice
    the smallest; within 2^-12 where they range over 40 octaves (a factor of 10^12), and within
    2^-9 where they range over all that float32 can hold.

    The error of the figures follows, with g and d the shares of all good and of all defective
    ones that a bin holds:

    - AUROC: at most the sum of g * d / 2 over the bins. Only pairs in one bin are not compared,
      and count half, where they should count 0, 1/2 or 1.
    - AUPRO: the same over 0.3, the bin at the limit counting double.
    - AP: at most the sum of d * (the highest - the lowest precision that its order could give).
    - F1: the best threshold may lie inside a bin: at most (good ones of that bin) / (all that are
      called defective + all that are).

    Where scores spread over many bins that is far below 0.001. It is not where a large share of
    the scores lies in one bin without being equal.
    """

    def __init__(self) -> None:
        self._rows: dict[Hashable, Tensor] = {}
        self._range: tuple[int, int] | None = None
        self._layout = _Layout(0, 0)

    def add(self, row: Hashable, scores: Tensor, weights: Tensor | None = None) -> None:
        """Adds scores to a row.

        Args:
            row: The row's name.
            scores: Any shape, float32, finite and 0 or more, on any device; the row stays there.
            weights: As many, how much each score counts; by default 1.
        """
        if not scores.numel():
            return
        bits = scores.flatten().view(torch.int32)
        lowest, highest = (int(value) for value in bits.aminmax())
        if lowest <= 0:
            bits = bits.clamp(min=0)  # the bits of -0.0 are negative
            lowest = int(torch.where(bits > 0, bits, _LARGEST).min())
        if highest > 0:
            self._widen(lowest, highest)
        flat = None if weights is None else weights.flatten().double()
        counts = torch.bincount(self._layout.index(bits), flat, minlength=_BINS)
        if row not in self._rows:
            self._rows[row] = torch.zeros(_BINS, dtype=torch.float64, device=scores.device)
        self._rows[row] += counts  # float64 holds whole numbers up to 2^53

    def reduce(self) -> None:
        """Adds up the histograms of all processes; every process has the sum afterwards."""
        parts = all_gather_object((self._range, list(self._rows)))
        names = list(dict.fromkeys(name for _, rows in parts for name in rows))
        if not names:
            return
        for span, _ in parts:
            if span is not None:
                self._widen(*span)
        device = next((row.device for row in self._rows.values()), torch.device("cpu"))
        empty = torch.zeros(_BINS, dtype=torch.float64, device=device)
        total = torch.stack([self._rows.get(name, empty) for name in names])
        all_reduce(total)
        self._rows = dict(zip(names, total, strict=True))

    def counts(self, good: Iterable[Hashable], defective: Iterable[Hashable]) -> ScoreCounts:
        """Returns the sum of the good and that of the defective rows, without empty bins.

        A row to which nothing was added is empty. The score of a bin is its lowest.
        """
        sums = [self._sum(rows) for rows in (good, defective)]
        filled = (sums[0] + sums[1]).nonzero()[0]
        scores = self._layout.low_bits().view(torch.float32).numpy()
        return ScoreCounts(scores[filled], sums[0][filled], sums[1][filled])

    def _sum(self, rows: Iterable[Hashable]) -> np.ndarray:
        total = torch.zeros(_BINS, dtype=torch.float64)
        for row in rows:
            if row in self._rows:
                total += self._rows[row].cpu()
        return total.numpy()

    def _widen(self, lowest: int, highest: int) -> None:
        """Makes bins reach over a further range of bits; what is counted moves along."""
        if self._range is not None:
            lowest, highest = min(lowest, self._range[0]), max(highest, self._range[1])
        self._range = lowest, highest
        layout = _Layout.of(lowest, highest)
        if layout == self._layout:
            return
        # Bins above the highest score are empty, wherever they go.
        index = layout.index(self._layout.low_bits()).clamp_(max=_BINS - 1)
        for name, row in self._rows.items():
            moved = index.to(row.device)
            self._rows[name] = torch.zeros_like(row).index_add_(0, moved, row)
        self._layout = layout
