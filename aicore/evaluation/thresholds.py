"""From which score on an image is NG: the rules that find it, and how it came about.

A rule takes the scores of the validation images and returns a :class:`Threshold`. An image is NG
if its score is at or above the threshold. Scores are float32, as models give them, and so is every
threshold: a comparison on another device or in an exported model gives the same answer.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aicore.errors import CheckpointError, ConfigError, DataError
from aicore.registry import TASK_UTILS

_LEAST = float(np.finfo(np.float32).tiny)  # below it float32 loses digits, and some devices read 0


@dataclass(frozen=True)
class Threshold:
    """A threshold and how it came about.

    Attributes:
        value: The score from which an image is NG; above 0, a float32 number.
        rule: Name of the rule's class.
        settings: Its arguments.
        good: Number of good images that it stands on.
        defective: Number of defective ones.
        note: What it means, in words.
    """

    value: float
    rule: str
    settings: dict[str, Any]
    good: int
    defective: int
    note: str

    def __str__(self) -> str:
        return f"threshold {self.value:.4g}: {self.note}"

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, for a checkpoint or JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Threshold:
        """Returns what :meth:`as_dict` made a dict of.

        Raises:
            CheckpointError: It is something else.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(data, dict) or set(data) != set(names) or not _are_right(**data):
            raise CheckpointError(
                f"the threshold in the checkpoint is {reprlib.repr(data)}: expected a dict of "
                f"{', '.join(names)}, with a value above 0. It was not written by aicore, or "
                "changed since: take the checkpoint that the training saved, or fit again."
            )
        return cls(**data)


def _are_right(value: Any, rule: Any, settings: Any, good: Any, defective: Any, note: Any) -> bool:
    """Returns whether a threshold's values have their types and ranges."""
    return (
        type(value) in (int, float)
        and math.isfinite(value)
        and value > 0
        and isinstance(rule, str)
        and isinstance(settings, dict)
        and all(type(count) is int and count >= 0 for count in (good, defective))
        and isinstance(note, str)
    )


class ThresholdRule(Protocol):
    """How a threshold is found. Registered in :data:`aicore.registry.TASK_UTILS`."""

    needs_images: bool
    """Whether the threshold depends on the validation images."""

    def __call__(self, scores: ArrayLike, defective: ArrayLike) -> Threshold:
        """Returns the threshold.

        Args:
            scores: N float32, 0 or more, of the validation images; higher is worse.
            defective: N bool, what the images are.

        Raises:
            DataError: No threshold follows from these images.
        """


@TASK_UTILS.register_module()
class QuantileThreshold:
    """Above which a stated share of good images is expected, whatever the scores' distribution.

    With n good validation images the threshold lies right above the k-th smallest of their scores,
    ``k = ceil((n + 1) * (1 - false_alarm_rate))``. A new good image, drawn as these were, is then
    NG with a probability of at most ``false_alarm_rate`` (split conformal prediction; equal scores
    only lower it). That holds on average over validation sets, and only for images that the model
    was not fitted on. Fewer than ``1 / false_alarm_rate - 1`` good images cannot vouch for such a
    rate: the threshold lies right above the highest score then, and its note says for which rate
    they can. Defective images play no part.

    Source: Lei et al., Distribution-Free Predictive Inference for Regression, JASA 2018.

    Example:
        >>> print(QuantileThreshold(0.25)([1, 2, 3, 4, 9], [False] * 4 + [True]))
        threshold 4: at most 25 % of good images expected above it, from 4 good validation images

    Args:
        false_alarm_rate: Share of good images, in (0, 1), that may be called NG.

    Raises:
        ConfigError: It is something else.
    """

    needs_images = True

    def __init__(self, false_alarm_rate: float = 0.01) -> None:
        if not isinstance(false_alarm_rate, float) or not 0 < false_alarm_rate < 1:
            raise ConfigError(
                f"QuantileThreshold.false_alarm_rate = {false_alarm_rate!r}: expected a number "
                "between 0 and 1, the share of good images that may be called NG, such as 0.01."
            )
        self.false_alarm_rate = false_alarm_rate

    def __call__(self, scores: ArrayLike, defective: ArrayLike) -> Threshold:
        """Returns the threshold; see :class:`ThresholdRule`.

        Raises:
            DataError: There is no good image, a score is not finite, or nearly all are 0.
        """
        scores, defective = _checked(scores, defective)
        good = np.sort(scores[~defective])
        count = len(good)
        if count == 0:
            raise DataError(
                f"QuantileThreshold needs good validation images, found none and {len(scores)} "
                "defective ones: keep good images out of the training for the validation."
            )
        # As it is written: the nearest float to 0.29, times 100, is below 29.
        rate = Fraction(str(self.false_alarm_rate))
        false_alarms = math.floor((count + 1) * rate)  # n + 1 - k
        meaning = f"at most {100 * self.false_alarm_rate:.3g} % of good images expected above it"
        lack = ""
        if false_alarms == 0:
            meaning = f"at most 1 in {count + 1} good images expected above it"
            lack = (
                f"; for the {100 * self.false_alarm_rate:.3g} % asked for it takes "
                f"{math.ceil(1 / rate) - 1} of them"
            )
        below = good[count - max(false_alarms, 1)]
        return Threshold(
            value=_above_zero(np.nextafter(below, np.float32(np.inf))),
            rule=type(self).__name__,
            settings=dict(false_alarm_rate=float(self.false_alarm_rate)),
            good=count,
            defective=0,
            note=f"{meaning}, from {_images(count, 'good')}{lack}",
        )


@TASK_UTILS.register_module()
class BestF1Threshold:
    """At which the F1 of defective images is best: the balance of misses and false alarms.

    Every threshold between two neighbouring scores decides the validation images alike. This one
    lies midway, as far as can be from both, so that small differences (rounding on another device,
    a slightly brighter image) flip no decision. Among equally good places it is the lowest, which
    lets fewer defects escape.

    The F1 in its note is the best on the very images that it was chosen on; on new ones it is
    mostly lower.

    Example:
        >>> print(BestF1Threshold()([1, 2, 4, 8], [False, False, True, True]))
        threshold 3: F1 of 100 %, the best on 2 good and 2 defective validation images
    """

    needs_images = True

    def __call__(self, scores: ArrayLike, defective: ArrayLike) -> Threshold:
        """Returns the threshold; see :class:`ThresholdRule`.

        Raises:
            DataError: There is no good or no defective image, a score is not finite, or the best
                F1 is had by calling images with a score of 0 NG.
        """
        scores, defective = _checked(scores, defective)
        positives = int(defective.sum())
        negatives = len(scores) - positives
        if positives == 0 or negatives == 0:
            raise DataError(
                "BestF1Threshold needs good and defective validation images, found "
                f"{negatives} good and {positives} defective ones: add the others, or take "
                "dict(type='aicore.QuantileThreshold', false_alarm_rate=0.01), which needs good "
                "ones only."
            )
        values, places = np.unique(scores, return_inverse=True)
        found = _at_or_above(places[defective], len(values))
        called = _at_or_above(places, len(values))
        f1 = 2 * found / (called + positives)
        best = int(f1.argmax())  # the first of the best
        return Threshold(
            value=_above_zero(_midway(values[max(best - 1, 0)], values[best])),
            rule=type(self).__name__,
            settings={},
            good=negatives,
            defective=positives,
            note=f"F1 of {100 * f1[best]:.3g} %, the best on {negatives} good and "
            f"{_images(positives, 'defective')}",
        )


@TASK_UTILS.register_module()
class FixedThreshold:
    """A given threshold, whatever the images.

    Example:
        >>> print(FixedThreshold(12.5)([], []))
        threshold 12.5: given in the config

    Args:
        value: The score from which an image is NG, above 0.

    Raises:
        ConfigError: It is something else, or out of float32's range.
    """

    needs_images = False

    def __init__(self, value: float) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not _LEAST <= value <= float(np.finfo(np.float32).max):
            raise ConfigError(
                f"FixedThreshold.value = {value!r}: expected a number above 0, in the unit of the "
                "model's raw scores (pred_score), and within the range of float32."
            )
        self.value = value

    def __call__(self, scores: ArrayLike, defective: ArrayLike) -> Threshold:
        """Returns the threshold; the images are not looked at."""
        return Threshold(
            value=float(np.float32(self.value)),
            rule=type(self).__name__,
            settings=dict(value=float(self.value)),
            good=0,
            defective=0,
            note="given in the config",
        )


def _checked(
    scores: ArrayLike, defective: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns both as arrays, the scores as they are compared.

    Raises:
        DataError: A score is NaN or infinite.
    """
    scores, defective = np.asarray(scores, np.float32), np.asarray(defective, np.bool_)
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        raise DataError(
            f"the scores of {wrong} of {len(scores)} validation images are NaN or infinite, no "
            "threshold can be found: the model is not fitted, or not well (too few images, or "
            "amp where the values need float32)."
        )
    return scores, defective


def _at_or_above(places: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    """Returns for each of ``count`` distinct scores how many images lie there or above."""
    return np.bincount(places, minlength=count)[::-1].cumsum()[::-1]


def _midway(low: np.float32, high: np.float32) -> np.float32:
    """Returns the middle, never ``low`` itself unless both are one: ``high`` is NG, ``low`` not."""
    middle = np.float32((float(low) + float(high)) / 2)
    return middle if middle > low else high


def _above_zero(value: np.float32) -> float:
    if value < _LEAST:
        raise DataError(
            "the scores of the validation images give a threshold of 0, at which every image is "
            "NG: too many of them are 0. Does the region of interest leave pixels to inspect, and "
            "is the model fitted?"
        )
    return float(value)


def _images(count: int, kind: str) -> str:
    return f"{count} {kind} validation image{'' if count == 1 else 's'}"
