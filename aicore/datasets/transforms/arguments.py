"""Arguments of a pipeline's steps: what is wrong with one is said in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from aicore.errors import ConfigError


def wrong(step: str, name: str, value: object, expected: str) -> ConfigError:
    """Returns the error about an argument of a step of a pipeline."""
    return ConfigError(f"aicore.{step}: {name} is {value!r}; expected {expected}.")


def is_number(value: object) -> bool:
    """Tells whether a value of a config is a number."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_size(step: str, size: Any) -> tuple[int, int]:
    """Returns height and width; raises ConfigError if they are not two whole numbers from 1 on."""
    is_pair = isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2
    if not is_pair or not all(type(side) is int and side > 0 for side in size):
        raise wrong(step, "size", size, "(height, width) in pixels")
    return size[0], size[1]


def check_share(step: str, name: str, value: Any) -> float:
    """Returns a number in [0, 1]; raises ConfigError if it is none."""
    if not is_number(value) or not 0 <= value <= 1:
        raise wrong(step, name, value, "a number in [0, 1]")
    return value


def check_scale(step: str, scale: Any) -> tuple[float, float]:
    """Returns smallest and largest scale; raises ConfigError if they are none."""
    is_pair = isinstance(scale, Sequence) and len(scale) == 2 and all(map(is_number, scale))
    if not is_pair or not 0 < scale[0] <= scale[1]:
        raise wrong(step, "scale", scale, "(smallest, largest), both above 0")
    return scale[0], scale[1]
