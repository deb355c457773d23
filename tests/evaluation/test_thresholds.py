from __future__ import annotations

import doctest
import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from aicore.errors import CheckpointError, ConfigError, DataError
from aicore.evaluation import (
    BestF1Threshold,
    FixedThreshold,
    QuantileThreshold,
    Threshold,
    thresholds,
)
from aicore.registry import TASK_UTILS


def good_only(rule, scores) -> Threshold:
    return rule(np.asarray(scores, np.float32), np.zeros(len(scores), bool))


def is_ng(scores, threshold: Threshold) -> np.ndarray:
    """The comparison of the model: float32 with float32, on tensors."""
    return (torch.tensor(scores) >= torch.tensor(threshold.value)).numpy()


def random_scores(seed: int, good: int, defective: int, levels: int | None = None):
    """Overlapping scores, some equal where there are few levels, in random order."""
    generator = np.random.default_rng(seed)
    scores = np.concatenate([generator.gamma(4, 1, good), generator.gamma(8, 1, defective)])
    labels = np.arange(good + defective) >= good
    if levels:
        scores = np.ceil(scores / scores.max() * levels)
    order = generator.permutation(len(scores))
    return scores[order].astype(np.float32), labels[order]


def test_the_examples_of_the_docstrings():
    outcome = doctest.testmod(thresholds)

    assert outcome.attempted and not outcome.failed


# ---- quantile ----


@pytest.mark.parametrize(
    ("count", "rate", "false_alarms"),
    [(99, 0.01, 1), (100, 0.01, 1), (198, 0.01, 1), (199, 0.01, 2), (9, 0.1, 1), (3, 0.5, 2)],
)
def test_quantile_lies_right_above_a_good_score(count, rate, false_alarms):
    scores = np.random.default_rng(0).permutation(np.arange(1, count + 1)).astype(np.float32)

    threshold = good_only(QuantileThreshold(rate), scores)

    k = math.ceil(round((count + 1) * (1 - rate), 9))
    assert k == count + 1 - false_alarms
    assert threshold.value == np.nextafter(np.float32(k), np.float32(np.inf))
    assert is_ng(scores, threshold).sum() == false_alarms - 1  # the k-th itself is OK
    assert (threshold.good, threshold.defective) == (count, 0)
    assert threshold.settings == {"false_alarm_rate": rate}


@pytest.mark.parametrize("percent", range(1, 100))
def test_quantile_takes_the_rate_as_it_is_written(percent):
    """99 scores vouch for each whole percentage exactly, though 0.29 * 100 < 29 in floats."""
    threshold = good_only(QuantileThreshold(percent / 100), range(1, 100))

    assert threshold.value == np.nextafter(np.float32(100 - percent), np.float32(np.inf))


@pytest.mark.parametrize("levels", [None, 12])
@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (50, 0.1)])
def test_quantile_keeps_its_promise_on_average(count, rate, levels):
    """The share of new good images that are NG: below the rate, without ties not far below."""
    generator = np.random.default_rng(1)
    draws = generator.lognormal(0, 1, (4000, count + 1)).astype(np.float32)
    if levels:
        draws = np.minimum(np.ceil(draws * 2), levels).astype(np.float32)
    rule = QuantileThreshold(rate)
    alarms = [is_ng(draw[:1], good_only(rule, draw[1:]))[0] for draw in draws]

    error = 4 * math.sqrt(rate * (1 - rate) / len(draws))  # four standard deviations
    assert np.mean(alarms) <= rate + error
    if levels is None:
        exact = math.floor(round((count + 1) * rate, 9)) / (count + 1)
        assert abs(np.mean(alarms) - exact) <= error


def test_too_few_good_images_say_what_they_can_vouch_for():
    threshold = good_only(QuantileThreshold(0.01), [3, 7, 5])

    assert threshold.value == np.nextafter(np.float32(7), np.float32(np.inf))
    assert str(threshold) == (
        "threshold 7: at most 1 in 4 good images expected above it, from 3 good validation images; "
        "for the 1 % asked for it takes 99 of them"
    )
    assert "it takes" not in good_only(QuantileThreshold(0.01), range(1, 100)).note
    assert "it takes 99 of them" in good_only(QuantileThreshold(0.01), range(1, 99)).note
    assert "from 1 good validation image;" in good_only(QuantileThreshold(0.01), [3]).note


def test_quantile_says_what_it_stands_on():
    scores = np.linspace(1, 12.34, 99)

    assert str(good_only(QuantileThreshold(0.01), scores)) == (
        "threshold 12.34: at most 1 % of good images expected above it, from 99 good validation "
        "images"
    )


def test_quantile_ignores_defective_images():
    scores, defective = random_scores(0, 40, 20)
    rule = QuantileThreshold(0.1)

    assert rule(scores, defective) == good_only(rule, scores[~defective])


def test_equal_scores_are_all_ok():
    scores = [2.0] * 30

    assert not is_ng(scores, good_only(QuantileThreshold(0.5), scores)).any()


def test_no_good_image():
    with pytest.raises(DataError, match=r"needs good validation images, found none and 2 defec"):
        QuantileThreshold()([1.0, 2.0], [True, True])
    with pytest.raises(DataError, match="found none and 0 defective ones"):
        QuantileThreshold()([], [])


@pytest.mark.parametrize("rate", [0, 1, 0.0, 1.0, -0.1, 1.5, 5, "0.1", None, True, math.nan])
def test_the_rate_has_to_be_a_share(rate):
    with pytest.raises(ConfigError, match=r"QuantileThreshold\.false_alarm_rate = .*such as 0\.01"):
        QuantileThreshold(rate)


# ---- best F1 ----


@pytest.mark.parametrize("levels", [None, 10])
@pytest.mark.parametrize("seed", range(5))
def test_best_f1_is_that_of_a_search_through_all_scores(seed, levels):
    scores, defective = random_scores(seed, 40, 25, levels)

    threshold = BestF1Threshold()(scores, defective)

    candidates = np.unique(scores)
    figures = [f1_score(defective, scores >= candidate) for candidate in candidates]
    best = int(np.argmax(figures))  # the smallest of the best
    assert (is_ng(scores, threshold) == (scores >= candidates[best])).all()
    middle = (float(candidates[best - 1]) + float(candidates[best])) / 2
    assert threshold.value == pytest.approx(middle, rel=1e-6)
    assert threshold.note == (
        f"F1 of {100 * figures[best]:.3g} %, the best on 40 good and 25 defective validation images"
    )
    assert (threshold.good, threshold.defective) == (40, 25)


@pytest.mark.parametrize(
    ("defective", "value"),
    [  # of the scores 1, 2, 3 ...; F1 from each score on
        ([False, False, True], 2.5),  # 0.5, 0.67, 1
        ([True, False, False, True, True], 3.5),  # 0.75, 0.57, 0.67, 0.8, 0.5
        ([False, True, False, False, True], 1.5),  # 0.57, 0.67, 0.4, 0.5, 0.67
        ([True, False, False, True], 1),  # 0.67, 0.4, 0.5, 0.67; there is no score below
    ],
)
def test_of_equally_good_places_the_lowest(defective, value):
    scores = np.arange(1, len(defective) + 1, dtype=np.float32)

    assert BestF1Threshold()(scores, defective).value == value


def test_the_middle_of_neighbours_in_float32_is_the_upper_one():
    low = np.float32(1)
    for _ in range(4):
        high = np.nextafter(low, np.float32(2))
        threshold = BestF1Threshold()(np.array([low, high]), [False, True])
        assert threshold.value == high
        assert is_ng([low, high], threshold).tolist() == [False, True]
        low = high


def test_scores_of_float64_are_compared_in_float32():
    """Two scores that float32 does not tell apart are one: only 3 is above it."""
    scores = np.array([1.0, 1.0 + 1e-12, 3.0])
    first = np.array([False, True, True])

    assert BestF1Threshold()(scores, first).note.startswith("F1 of 80 %")
    threshold = QuantileThreshold(0.5)(scores, ~np.array([True, True, True]))
    assert is_ng(scores.astype(np.float32), threshold).tolist() == [False, False, True]


@pytest.mark.parametrize(("defective", "found"), [(False, "2 good and 0"), (True, "0 good and 2")])
def test_best_f1_needs_both_kinds(defective, found):
    with pytest.raises(DataError, match=f"found {found} defective ones.*aicore.QuantileThreshold"):
        BestF1Threshold()([1.0, 2.0], [defective] * 2)


# ---- both ----

RULES = [QuantileThreshold(0.25), BestF1Threshold()]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_no_numbers(rule, wrong):
    with pytest.raises(DataError, match="scores of 1 of 4 validation images are NaN or infinite"):
        rule([1.0, 2.0, wrong, 3.0], [False, False, False, True])


@pytest.mark.parametrize("rule", RULES)
def test_scores_of_zero_tell_nothing(rule):
    with pytest.raises(DataError, match="a threshold of 0, at which every image is NG"):
        rule([0.0, 0.0, 0.0, 0.0], [False, False, False, True])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_images_does_not_matter(rule, seed):
    scores, defective = random_scores(seed, 30, 10)
    order = np.random.default_rng(seed).permutation(40)

    assert rule(scores[order], defective[order]) == rule(scores, defective)


# ---- fixed ----


def test_fixed_needs_no_images():
    threshold = FixedThreshold(12.34)([], [])

    assert threshold.value == float(np.float32(12.34))
    assert str(threshold) == "threshold 12.34: given in the config"
    assert threshold == FixedThreshold(12.34)([1.0, math.nan], [True, False])
    assert FixedThreshold(3)([], []).value == 3
    assert not FixedThreshold.needs_images


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, 1e39, 1e-50, "12", None, True])
def test_a_fixed_threshold_is_above_zero(value):
    with pytest.raises(ConfigError, match=r"FixedThreshold\.value = .*expected a number above 0"):
        FixedThreshold(value)


# ---- keeping it ----


@pytest.mark.parametrize("rule", [*RULES, FixedThreshold(0.1)])
def test_it_comes_back_from_json_and_from_a_checkpoint(rule, tmp_path):
    threshold = rule(*random_scores(0, 20, 10))

    kept = json.loads(json.dumps(threshold.as_dict(), allow_nan=False))
    assert Threshold.from_dict(kept) == threshold
    torch.save(threshold.as_dict(), tmp_path / "meta.pth")
    assert Threshold.from_dict(torch.load(tmp_path / "meta.pth", weights_only=True)) == threshold
    assert torch.tensor(threshold.value).item() == threshold.value  # a float32 number


def test_a_rule_is_built_from_a_config_and_again_from_what_was_kept():
    rule = TASK_UTILS.build(dict(type="aicore.QuantileThreshold", false_alarm_rate=0.25))
    threshold = rule(*random_scores(0, 20, 10))
    again = TASK_UTILS.build(dict(type=f"aicore.{threshold.rule}", **threshold.settings))

    assert again(*random_scores(0, 20, 10)) == threshold


@pytest.mark.parametrize(
    "change",
    [
        {"value": None},
        {"value": "12"},
        {"value": math.nan},
        {"value": math.inf},
        {"value": 0.0},
        {"value": True},
        {"rule": 3},
        {"settings": []},
        {"good": -1},
        {"good": 2.5},
        {"defective": "0"},
        {"note": None},
        {"another": 1},
    ],
)
def test_something_else_in_a_checkpoint(change):
    right = FixedThreshold(2.0)([], []).as_dict()

    with pytest.raises(CheckpointError, match=r"the threshold in the checkpoint is .*fit again"):
        Threshold.from_dict({**right, **change})


@pytest.mark.parametrize("data", [None, 12.5, "12.5", [], {}, {"value": 12.5}])
def test_something_else_than_a_dict(data):
    with pytest.raises(CheckpointError, match="expected a dict of value, rule, settings, good"):
        Threshold.from_dict(data)
