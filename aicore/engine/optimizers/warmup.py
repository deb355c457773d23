"""A warm-up in which every parameter group has its own start."""

from __future__ import annotations

from typing import Any

from mmengine.optim import BaseOptimWrapper, _ParamScheduler
from torch.optim import Optimizer

from aicore.errors import ConfigError
from aicore.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class GroupWarmupLR(_ParamScheduler):
    """Moves each group's learning rate linearly from its own start to its base value.

    At ``t`` steps after ``begin`` the rate is ``base * (f + (1 - f) * t / (end - begin))``, where
    ``f`` is the group's ``warmup_factor`` (see
    :class:`~aicore.engine.optimizers.constructor.OptimizerConstructor`), and from ``end`` on it is
    ``base``, to the last bit. So detectors are warmed up: biases from a higher rate down, weights
    from zero up. A warm-up of no steps (``end == begin``) leaves the rates as they are.

    It sets the rate outright and does not multiply what another scheduler has set: what follows
    it begins at its ``end`` or later (``CosineAnnealingLR(begin=end)``), as with MMEngine's
    ``LinearLR``.

    Args:
        optimizer: The optimiser or its wrapper.
        end: Step (epoch or iteration) from which on the rate is ``base``.
        begin: First step.
        start_factor: ``f`` of the groups that have no ``warmup_factor``, at least 0.
        by_epoch: Whether a step is an epoch, or an iteration. With ``convert_to_iter_based=True``
            in the config, ``begin`` and ``end`` count epochs and the rate changes every iteration.
        last_step: See :class:`mmengine.optim._ParamScheduler`.
        verbose: See :class:`mmengine.optim._ParamScheduler`.

    Raises:
        ConfigError: ``end`` is before ``begin``, or a factor is negative.
    """

    def __init__(
        self,
        optimizer: BaseOptimWrapper | Optimizer,
        end: int,
        begin: int = 0,
        start_factor: float = 0.01,
        by_epoch: bool = True,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        if end < begin:
            raise ConfigError(f"GroupWarmupLR: end={end} is before begin={begin}.")
        if start_factor < 0:
            raise ConfigError(f"GroupWarmupLR: start_factor={start_factor}, expected at least 0.")
        self.start_factor = start_factor
        self.duration = end - begin
        """Steps of the warm-up."""
        # One step more than the warm-up has: the one that sets the base value.
        super().__init__(optimizer, "lr", begin, end + 1, last_step, by_epoch, verbose)

    @classmethod
    def build_iter_from_epoch(
        cls, *args: Any, end: float, epoch_length: int, begin: float = 0, **kwargs: Any
    ) -> GroupWarmupLR:
        """Builds it from ``begin`` and ``end`` in epochs of ``epoch_length`` iterations."""
        steps = {"begin": int(begin * epoch_length), "end": int(end * epoch_length)}
        return cls(*args, **{**kwargs, **steps, "by_epoch": False})

    def _get_value(self) -> list[float]:
        if self.last_step >= self.duration:
            return list(self.base_values)
        done = self.last_step / self.duration
        factors = [
            group.get("warmup_factor", self.start_factor) for group in self.optimizer.param_groups
        ]
        return [
            base * (factor + (1 - factor) * done)
            for base, factor in zip(self.base_values, factors, strict=True)
        ]
