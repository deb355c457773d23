"""Predictions compared with the truth: which are right, and the curves that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_NO_MATCH = -1


@dataclass(frozen=True)
class ImageBoxes:
    """Truth and predictions of one image; boxes are x1, y1, x2, y2 in pixels of the original."""

    truth: np.ndarray
    """T x 4 float32."""
    truth_labels: np.ndarray
    """T class indices."""
    ignored: np.ndarray
    """T bool: objects that count neither as found nor as missed, nor a prediction on them."""
    boxes: np.ndarray
    """P x 4 float32, the predictions."""
    scores: np.ndarray
    """P float32, 0..1."""
    labels: np.ndarray
    """P class indices."""


@dataclass(frozen=True)
class Match:
    """What became of each prediction of an image."""

    truth_of: np.ndarray
    """P: the index of the true box that it found; -1 for none."""
    ignored: np.ndarray
    """P bool: it lies on an ignored box, and counts neither as right nor as false."""


def overlaps(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compares every box with every other one.

    Args:
        boxes: N x 4, x1 y1 x2 y2.
        others: M x 4.

    Returns:
        The intersection over union, and the share of each of ``boxes`` that the other covers; both
        N x M, 0 where a box has no area.
    """
    left, top, right, bottom = boxes.astype(np.float64).T[..., None]
    other_left, other_top, other_right, other_bottom = others.astype(np.float64).T[:, None]
    width = np.minimum(right, other_right) - np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    common = width.clip(min=0) * height.clip(min=0)
    area = (right - left) * (bottom - top)
    other_area = (other_right - other_left) * (other_bottom - other_top)
    tiny = np.finfo(np.float64).tiny
    return common / np.maximum(area + other_area - common, tiny), common / np.maximum(area, tiny)


def assign(iou: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Gives each prediction a true box of its own, as COCO does.

    In the order of falling scores each takes, of those still free, the box that it overlaps most.

    Args:
        iou: P x T.
        scores: P.
        threshold: What two boxes have to overlap at least.

    Returns:
        P indices of true boxes; -1 for none.
    """
    found = np.full(len(scores), _NO_MATCH)
    rows, columns = np.nonzero(iou >= threshold)
    rank = np.argsort(np.argsort(-scores, kind="stable"))
    # Of two that it overlaps equally, COCO takes the last.
    order = np.lexsort((-columns, -iou[rows, columns], rank[rows]))
    taken = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if found[row] == _NO_MATCH and column not in taken:
            found[row] = column
            taken.add(column)
    return found


def match(image: ImageBoxes, threshold: float = 0.5) -> Match:
    """Matches predictions and true boxes of the same class by COCO's rule.

    A prediction that finds no box of its own is ignored if at least ``threshold`` of it lies on
    an ignored box of its class.

    Args:
        image: The boxes.
        threshold: Intersection over union from which a prediction is right.
    """
    iou, share = overlaps(image.boxes, image.truth)
    same = image.labels[:, None] == image.truth_labels[None]
    truth_of = assign(np.where(same & ~image.ignored, iou, 0), image.scores, threshold)
    on_ignored = (same & image.ignored & (share >= threshold)).any(axis=1)
    return Match(truth_of, on_ignored & (truth_of == _NO_MATCH))


def match_voc(image: ImageBoxes, threshold: float = 0.5) -> Match:
    """Matches predictions and true boxes of the same class by Pascal VOC's rule.

    A prediction is compared with the one box that it overlaps most; where a prediction of a higher
    score has found that one, it is false.

    Args:
        image: The boxes.
        threshold: Intersection over union from which a prediction is right.
    """
    truth_of = np.full(len(image.scores), _NO_MATCH)
    ignored = np.zeros(len(image.scores), bool)
    if not image.truth.size:
        return Match(truth_of, ignored)
    iou, _ = overlaps(image.boxes, image.truth)
    iou[image.labels[:, None] != image.truth_labels[None]] = 0
    nearest = iou.argmax(axis=1)
    order = np.argsort(-image.scores, kind="stable")
    order = order[iou.max(axis=1)[order] >= threshold]
    on_ignored = image.ignored[nearest[order]]
    ignored[order[on_ignored]] = True
    candidates = order[~on_ignored]
    truths, first = np.unique(nearest[candidates], return_index=True)
    truth_of[candidates[first]] = truths
    return Match(truth_of, ignored)


# ---- curves ----


class OperatingPoint(NamedTuple):
    """A confidence, and what it gives; shares in 0..1, NaN where undefined."""

    confidence: float
    """Predictions with at least this score count."""
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Curve:
    """How many predictions are right and false at each confidence."""

    confidence: np.ndarray
    """N scores that occur, each once, falling."""
    right: np.ndarray
    """N: right predictions with at least this score."""
    false: np.ndarray
    """N: false ones."""
    truths: int
    """Number of true boxes that count."""

    @property
    def precision(self) -> np.ndarray:
        """Share of the predictions that are right, N."""
        return self.right / np.maximum(self.right + self.false, 1)

    @property
    def recall(self) -> np.ndarray:
        """Share of the true boxes that are found, N; NaN without any."""
        return self.right / (self.truths or np.nan)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall, N; NaN without any true box."""
        return 2 * self.right / (self.right + self.false + (self.truths or np.nan))

    def best(self) -> OperatingPoint:
        """Returns the confidence of the highest F1; of equals the highest.

        Without a right prediction there is none, and F1 and recall are 0.
        """
        if not self.truths:
            return OperatingPoint(*[float("nan")] * 4)
        if not self.right.any():
            return OperatingPoint(float("nan"), 0.0, float("nan"), 0.0)
        index = int(self.f1.argmax())
        values = (self.confidence, self.f1, self.precision, self.recall)
        return OperatingPoint(*(float(value[index]) for value in values))

    def average_precision(self) -> float:
        """Returns the area under the precision, made monotone (Pascal VOC from 2010 on).

        NaN without any true box.
        """
        if not self.truths:
            return float("nan")
        ceiling = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float((np.diff(self.recall, prepend=0) * ceiling).sum())


def draw_up_curves(
    images: Sequence[ImageBoxes], matches: Sequence[Match], classes: int
) -> list[Curve]:
    """Returns the curve of each class, and at the end that of all predictions taken together.

    Args:
        images: The boxes.
        matches: What became of them.
        classes: Number of classes.
    """
    truth = _joined([i.truth_labels[~i.ignored] for i in images])
    kept = [~m.ignored for m in matches]
    pairs = list(zip(images, matches, kept, strict=True))
    scores = _joined([i.scores[k] for i, _, k in pairs])
    labels = _joined([i.labels[k] for i, _, k in pairs])
    right = _joined([m.truth_of[k] != _NO_MATCH for _, m, k in pairs]).astype(bool)
    order = np.argsort(-scores, kind="stable")
    scores, labels, right = scores[order], labels[order], right[order]
    parts = [(labels == index, truth == index) for index in range(classes)]
    parts.append((np.ones(len(labels), bool), np.ones(len(truth), bool)))
    return [_curve(scores[mine], right[mine], int(of.sum())) for mine, of in parts]


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0)


def _curve(scores: np.ndarray, right: np.ndarray, truths: int) -> Curve:
    """Returns the curve of predictions in the order of falling scores."""
    # Equal scores come and go together: the last of them counts them all.
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    found = np.cumsum(right)[last]
    return Curve(scores[last], found, last + 1 - found, truths)


# ---- one confidence ----


@dataclass(frozen=True)
class Verdict:
    """What is right and wrong in an image at one confidence; numbers are indices."""

    right: list[tuple[int, int]]
    """Prediction and true box of one class."""
    confused: list[tuple[int, int]]
    """Prediction and true box at the same place, of different classes."""
    false: list[int]
    """Predictions where nothing is, or where another one was right."""
    missed: list[int]
    """True boxes without any prediction."""


def judge(image: ImageBoxes, confidence: float, threshold: float = 0.5) -> Verdict:
    """Says of each prediction from ``confidence`` on, and of each true box, what became of it.

    Predictions and boxes of one class are matched first; what is left of both is confused where
    it overlaps.

    Args:
        image: The boxes.
        confidence: The lowest score that counts.
        threshold: Intersection over union from which two boxes are at the same place.
    """
    found = match(image, threshold)  # higher scores choose first: those below change nothing
    counted = (image.scores >= confidence) & ~found.ignored
    is_right = counted & (found.truth_of != _NO_MATCH)
    rest, free = np.flatnonzero(counted & ~is_right), ~image.ignored
    free[found.truth_of[is_right]] = False
    missed = np.flatnonzero(free)
    iou, _ = overlaps(image.boxes[rest], image.truth[missed])
    other = assign(iou, image.scores[rest], threshold)
    is_confused = other != _NO_MATCH
    return Verdict(
        right=_pairs(np.flatnonzero(is_right), found.truth_of[is_right]),
        confused=_pairs(rest[is_confused], missed[other[is_confused]]),
        false=rest[~is_confused].tolist(),
        missed=np.delete(missed, other[is_confused]).tolist(),
    )


def _pairs(predictions: np.ndarray, truths: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(predictions.tolist(), truths.tolist(), strict=True))


def confusion_matrix(
    images: Sequence[ImageBoxes], verdicts: Sequence[Verdict], classes: int
) -> np.ndarray:
    """Counts boxes by their true and their predicted class.

    Returns:
        (classes + 1) x (classes + 1) int64; rows are the truth. The last column holds the missed
        objects, the last row the false predictions.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for image, verdict in zip(images, verdicts, strict=True):
        for prediction, truth in (*verdict.right, *verdict.confused):
            matrix[image.truth_labels[truth], image.labels[prediction]] += 1
        np.add.at(matrix[:, classes], image.truth_labels[verdict.missed], 1)
        np.add.at(matrix[classes], image.labels[verdict.false], 1)
    return matrix
