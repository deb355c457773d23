from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from aicore.anomaly.curves import PRO_LIMIT, ScoreCounts, ScoreHistogram

TOLERANCE = 1e-3
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
Random = np.random.Generator


def distances(random: Random, defective: np.ndarray) -> np.ndarray:
    """What a detector says: a factor of ten, the defective ones higher, but not all."""
    return np.exp(random.normal(2 + 0.8 * defective, 0.5))


def any_scores(random: Random, defective: np.ndarray) -> np.ndarray:
    return random.random(len(defective))


def few_levels(random: Random, defective: np.ndarray) -> np.ndarray:
    return random.binomial(6, 0.3 + 0.2 * defective)


def two_levels(random: Random, defective: np.ndarray) -> np.ndarray:
    return 0.1 + (random.random(len(defective)) < 0.3 + 0.2 * defective)


def mostly_zero(random: Random, defective: np.ndarray) -> np.ndarray:
    is_zero = random.random(len(defective)) < 0.8 - 0.3 * defective
    return np.where(is_zero, 0, distances(random, defective))


def constant(random: Random, defective: np.ndarray) -> np.ndarray:
    return np.full(len(defective), 3.7)


def tiny_differences(random: Random, defective: np.ndarray) -> np.ndarray:
    """All within 0.001 % of each other: some 100 different float32."""
    return 1 + 1e-6 * random.normal(10 + 2 * defective, 2)


def all_magnitudes(random: Random, defective: np.ndarray) -> np.ndarray:
    return np.exp(random.normal(5 * defective, 10))


def tiny_numbers(random: Random, defective: np.ndarray) -> np.ndarray:
    return 1e-30 * distances(random, defective)


KINDS = [
    distances,
    any_scores,
    few_levels,
    two_levels,
    mostly_zero,
    constant,
    tiny_differences,
    all_magnitudes,
    tiny_numbers,
]


def draw(
    kind: Callable[[Random, np.ndarray], np.ndarray], seed: int, count: int = 20_000
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (float32) and what is defective, of one kind; the share of the latter by the seed."""
    random = np.random.default_rng(seed)
    defective = random.random(count) < (0.5, 0.1, 0.01)[seed % 3]
    return np.abs(kind(random, defective)).astype(np.float32), defective


def histogram_of(
    scores: np.ndarray, defective: np.ndarray, parts: int = 1, device: str = "cpu"
) -> ScoreHistogram:
    histogram = ScoreHistogram()
    for index in np.array_split(np.arange(len(scores)), parts):
        part, bad = torch.from_numpy(scores[index]).to(device), torch.from_numpy(defective[index])
        histogram.add("good", part[~bad.to(device)])
        histogram.add("defective", part[bad.to(device)])
    return histogram


def counts_of(histogram: ScoreHistogram) -> ScoreCounts:
    return histogram.counts(["good"], ["defective"])


def best_f1(defective: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(defective, scores)
    return float(np.nanmax(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def error_bound(histogram: ScoreHistogram) -> float:
    """What the docstring says of the AUROC."""
    counts = counts_of(histogram)
    shares = counts.good / counts.good.sum(), counts.defective / counts.defective.sum()
    return float((shares[0] * shares[1]).sum() / 2)


# ---- figures ----


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_of_single_scores_the_figures_are_exactly_those_of_scikit_learn(kind, seed):
    scores, defective = draw(kind, seed, 2000)

    counts = ScoreCounts.of(scores, defective)

    assert counts.area() == pytest.approx(roc_auc_score(defective, scores), abs=1e-12)
    expected = average_precision_score(defective, scores)
    assert counts.average_precision() == pytest.approx(expected, abs=1e-12)
    assert counts.best_f1().f1 == pytest.approx(best_f1(defective, scores), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", DEVICES)
def test_the_figures_of_histograms_are_near_those_of_scikit_learn(device, kind, seed):
    scores, defective = draw(kind, seed)

    counts = counts_of(histogram_of(scores, defective, parts=7, device=device))

    assert counts.area() == pytest.approx(roc_auc_score(defective, scores), abs=TOLERANCE)
    expected = average_precision_score(defective, scores)
    assert counts.average_precision() == pytest.approx(expected, abs=TOLERANCE)
    assert counts.best_f1().f1 == pytest.approx(best_f1(defective, scores), abs=TOLERANCE)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_score_of_the_best_f1_gives_that_f1(kind, exact):
    scores, defective = draw(kind, 1)
    counts = counts_of(histogram_of(scores, defective))
    if exact:
        counts = ScoreCounts.of(scores, defective)

    best = counts.best_f1()

    called = scores >= best.score
    f1 = 2 * (called & defective).sum() / (called.sum() + defective.sum())
    assert best.f1 == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize("limit", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("kind", KINDS)
def test_the_area_up_to_a_limit_by_a_plain_loop(kind, limit):
    scores, defective = draw(kind, 1, 500)
    counts = ScoreCounts.of(scores, defective)

    area = counts.area(limit)

    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        points.append((called[~defective].mean(), called[defective].mean()))
    expected = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            expected += (end - x0) * (y0 + y_end) / 2
    assert area == pytest.approx(expected / limit, abs=1e-12)


def test_perfect_scores_and_the_opposite():
    scores, defective = np.arange(10.0), np.arange(10) >= 7

    right, wrong = ScoreCounts.of(scores, defective), ScoreCounts.of(-scores, defective)

    assert (right.area(), right.area(PRO_LIMIT), right.average_precision()) == (
        pytest.approx((1, 1, 1))
    )
    assert right.best_f1() == (1, 7)
    assert (wrong.area(), wrong.area(PRO_LIMIT)) == (0, 0)


def test_regions_count_alike():
    histogram = ScoreHistogram()
    histogram.add("good", torch.arange(100) / 100)
    found, missed = torch.full((10,), 2.0), torch.zeros(1000)
    for region in (found, missed):
        histogram.add("regions", region, torch.full_like(region, 1 / len(region)))

    counts = histogram.counts(["good"], ["regions"])

    assert counts.defective.sum() == pytest.approx(2)
    # One of two regions at every false positive rate but 1, where zero is reached.
    assert counts.area(PRO_LIMIT) == pytest.approx(0.5)


@pytest.mark.parametrize("present", ["good", "defective", None])
def test_what_needs_both_is_not_defined(present):
    histogram = ScoreHistogram()
    if present:
        histogram.add(present, torch.rand(50))

    counts = counts_of(histogram)

    assert math.isnan(counts.area())
    assert math.isnan(counts.area(PRO_LIMIT))
    assert math.isnan(counts.average_precision())
    assert all(map(math.isnan, counts.best_f1()))
    assert [len(part) for part in counts.points()] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_points_for_a_plot_lie_on_the_curve(kind):
    counts = ScoreCounts.of(*draw(kind, 1))

    false, true = counts.points(100)

    assert 2 <= len(false) <= 101
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    points = set(zip(*(rate.tolist() for rate in counts.rates()), strict=True))
    assert set(zip(false.tolist(), true.tolist(), strict=True)) <= points
    assert np.trapezoid(true, false) == pytest.approx(counts.area(), abs=0.02)


# ---- histograms ----


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_order_nor_the_portions_make_a_difference(kind, seed):
    scores, defective = draw(kind, seed)
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    rising = np.argsort(scores)

    whole = counts_of(histogram_of(scores, defective))

    for order, parts in ((shuffled, 13), (rising, 40), (rising[::-1], 40)):
        counts = counts_of(histogram_of(scores[order], defective[order], parts))
        for name in ("scores", "good", "defective"):
            assert np.array_equal(getattr(counts, name), getattr(whole, name)), name


@pytest.mark.parametrize("largest", [1e-10, 1.0, 37.0, 1e30])
@pytest.mark.parametrize(("octaves", "bits"), [(0.9, 17), (1.9, 16), (39.9, 12), (79, 11)])
def test_what_is_told_apart_in_a_range(largest, octaves, bits):
    lowest = largest * 2**-octaves
    near = np.array([0.6, 0.6 * (1 + 2 ** (0.1 - bits)), 0.9, 0.9 * (1 + 2 ** (0.1 - bits))])
    scores = np.array([0, lowest, *(largest * near), largest], np.float32)

    counts = counts_of(histogram_of(scores, np.arange(7) % 2 == 0))

    assert (counts.good + counts.defective).tolist() == [1] * 7
    assert counts.scores == pytest.approx(scores, rel=2.0**-bits)


def test_the_largest_and_the_smallest_float():
    limits = torch.finfo(torch.float32)
    scores = np.array([0, limits.smallest_normal, 1, limits.max / 2, limits.max], np.float32)

    counts = counts_of(histogram_of(scores, scores > 1))

    assert counts.scores == pytest.approx(scores, rel=2**-9)
    assert (counts.good.tolist(), counts.defective.tolist()) == ([1, 1, 1, 0, 0], [0, 0, 0, 1, 1])


def test_a_few_different_scores_are_told_apart_to_the_last_bit():
    scores = np.float32(7.25) + np.arange(1000, dtype=np.float32) * np.spacing(np.float32(7.25))

    counts = counts_of(histogram_of(scores, np.arange(1000) >= 500, parts=9))

    assert np.array_equal(counts.scores, scores)


def test_zero_has_no_sign():
    histogram = ScoreHistogram()
    histogram.add("good", torch.tensor([0.0, -0.0, 1.0]))
    histogram.add("defective", torch.tensor([-0.0]))

    counts = counts_of(histogram)

    assert (counts.scores.tolist(), counts.good.tolist()) == ([0, 1], [2, 1])
    assert counts.area() == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_scores_too_near_for_the_bins_keep_to_the_stated_bound(seed):
    random = np.random.default_rng(seed)
    defective = random.random(20_000) < 0.3
    # One number makes the range 40 octaves: then the others fall into one bin or two.
    scores = np.append(5e-12, 5 + 1e-4 * random.normal(4 + 2 * defective, 1)).astype(np.float32)
    defective = np.append(False, defective)

    histogram = histogram_of(scores, defective)

    error = abs(counts_of(histogram).area() - roc_auc_score(defective, scores))
    assert TOLERANCE < error <= error_bound(histogram)


@pytest.mark.parametrize("kind", [distances, any_scores, all_magnitudes])
def test_scores_over_many_bins_keep_to_a_bound_far_below(kind):
    scores, defective = draw(kind, 0)

    assert error_bound(histogram_of(scores, defective)) < TOLERANCE / 10


def test_any_shape_and_what_is_added_stays_as_it_is():
    scores = torch.rand(4, 6, 5).permute(2, 0, 1)
    before = scores.clone()
    histogram = ScoreHistogram()

    histogram.add("good", scores)
    histogram.add("good", torch.empty(0))

    assert torch.equal(scores, before)
    assert histogram.counts(["good"], []).good.sum() == 120
