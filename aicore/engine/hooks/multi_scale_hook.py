"""Another input size every few iterations of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from aicore.engine.distributed import broadcast_object, plain_model
from aicore.engine.rescaling import rescale_batch
from aicore.errors import ConfigError
from aicore.registry import HOOKS

Size = int | tuple[int, int]


@HOOKS.register_module()
class MultiScaleHook(Hook):
    """Rescales a training's batches to a size that is drawn anew every ``interval`` iterations.

    Images and labels of every kind are rescaled together, after the model's data preprocessor and
    so on the model's device (see :func:`aicore.engine.rescaling.rescale_batch`); validation and
    test keep their size. The size follows from the seed and the iteration alone: it is the same in
    all processes, and after a resume the same as without the interruption.

    Example:
        >>> custom_hooks = [dict(type="aicore.MultiScaleHook", size_range=(480, 800))]
        >>> custom_hooks = [dict(type="aicore.MultiScaleHook", sizes=[192, 224, (256, 320)])]

    Args:
        sizes: Sizes to draw from, in pixels. A number is the shorter side of the batch; the longer
            one follows in proportion, rounded to a multiple of ``divisor``. A pair is
            (height, width).
        size_range: The smallest and the largest shorter side, in place of ``sizes``: all multiples
            of ``divisor`` in between, both ends included, are drawn from.
        divisor: What sizes are multiples of, in pixels: the model's largest stride.
        interval: For how many iterations a size is kept.

    Raises:
        ConfigError: An argument is wrong.
    """

    def __init__(
        self,
        sizes: Sequence[Size] | None = None,
        size_range: tuple[int, int] | None = None,
        divisor: int = 32,
        interval: int = 10,
    ) -> None:
        if (sizes is None) == (size_range is None):
            raise ConfigError(
                "MultiScaleHook needs either sizes, e.g. [480, 640], or size_range, e.g. "
                f"(480, 800); it was given {'neither' if sizes is None else 'both'}."
            )
        for name, value in (("divisor", divisor), ("interval", interval)):
            if not _is_whole(value):
                raise ConfigError(
                    f"MultiScaleHook.{name} = {value!r}: expected a whole number from 1 on."
                )
        self.divisor = divisor
        self.interval = interval
        self.sizes = self._check(sizes) if sizes is not None else self._between(size_range)

    def _check(self, sizes: Sequence[Size]) -> list[Size]:
        if not isinstance(sizes, list | tuple) or not sizes:
            raise ConfigError(
                f"MultiScaleHook.sizes = {sizes!r}: expected a list of at least one size."
            )
        checked: list[Size] = []
        for index, size in enumerate(sizes):
            pair = isinstance(size, list | tuple)
            sides = tuple(size) if pair else (size,)
            if (pair and len(sides) != 2) or not all(map(_is_whole, sides)):
                raise ConfigError(
                    f"MultiScaleHook.sizes[{index}] = {size!r}: expected the shorter side or "
                    "(height, width), in whole pixels."
                )
            if any(side % self.divisor for side in sides):
                raise ConfigError(
                    f"MultiScaleHook.sizes[{index}] = {size!r} is no multiple of divisor = "
                    f"{self.divisor}. Round it, or set a divisor that suits the model's stride."
                )
            checked.append(sides if pair else size)
        return checked

    def _between(self, size_range: tuple[int, int]) -> list[Size]:
        ends = size_range
        if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(map(_is_whole, ends)):
            raise ConfigError(
                f"MultiScaleHook.size_range = {ends!r}: expected (smallest, largest) shorter side, "
                "in whole pixels."
            )
        first = -(-ends[0] // self.divisor) * self.divisor
        sizes: list[Size] = list(range(first, ends[1] + 1, self.divisor))
        if not sizes:
            raise ConfigError(
                f"MultiScaleHook.size_range = {ends!r} holds no multiple of divisor = "
                f"{self.divisor}. Write the smaller end first, or widen the range."
            )
        return sizes

    def before_train(self, runner: Runner) -> None:
        """Begins to rescale what the model's data preprocessor returns."""
        # With randomness.diff_rank_seed each process has a seed of its own.
        seed = broadcast_object(lambda: runner.seed)

        # A plain function, since a copy of the model (EMA) would copy an object's runner with it.
        def rescale(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], batch: Any
        ) -> dict[str, Any] | None:
            training = kwargs.get("training", args[1] if len(args) > 1 else False)
            return self._rescaled(batch, self.size_at(seed, runner.iter)) if training else None

        model = plain_model(runner.model)
        handle = model.data_preprocessor.register_forward_hook(rescale, with_kwargs=True)
        runner.on_exit.callback(handle.remove)

    def size_at(self, seed: int, iteration: int) -> Size:
        """Returns the one of ``sizes`` for an iteration, counted from 0 over all epochs."""
        generator = np.random.default_rng([seed, iteration // self.interval])
        return self.sizes[generator.integers(len(self.sizes))]

    def _rescaled(self, batch: Any, size: Size) -> dict[str, Any]:
        images = batch.get("inputs") if isinstance(batch, dict) else None
        if not isinstance(images, torch.Tensor) or images.ndim != 4:
            raise ConfigError(
                "MultiScaleHook needs a data preprocessor that returns a dict with 'inputs', one "
                "tensor (N, C, height, width); the model's returns something else. Use another "
                "data_preprocessor, or take the hook out of custom_hooks."
            )
        if isinstance(size, int):
            size = self._in_proportion(size, *images.shape[-2:])
        images, data_samples = rescale_batch(images, batch.get("data_samples"), size)
        return {**batch, "inputs": images, "data_samples": data_samples}

    def _in_proportion(self, shorter: int, height: int, width: int) -> tuple[int, int]:
        unit = min(height, width) * self.divisor
        height, width = (round(side * shorter / unit) * self.divisor for side in (height, width))
        return height, width


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
