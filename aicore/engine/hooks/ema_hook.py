"""Averaged weights: smoother than those of the last iteration, and mostly better."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from aicore.engine.distributed import plain_model
from aicore.errors import ConfigError
from aicore.registry import HOOKS


@HOOKS.register_module()
class EMAHook(Hook):
    """Keeps an exponential moving average of the weights, for validation, test and inference.

    After each iteration ``average = (1 - momentum) * average + momentum * weights``, beginning
    with a copy after the first one. What is not averaged, such as counts and weights that
    ``model.state_dict()`` does not hand out, is taken from the model as it is. Training itself
    goes on with the raw weights. The values are those of MMEngine's ``ExponentialMovingAverage``
    and, with ``warmup``, of MMDetection's ``ExpMomentumEMA`` (from YOLOX,
    https://arxiv.org/abs/2107.08430).

    A checkpoint holds the raw weights under ``state_dict`` and the averaged ones under
    ``ema_state_dict``, and names the latter in ``meta['inference_weights']``. Resuming goes on
    with both. A test leaves the model as it is: it runs with the weights that were loaded.

    All processes compute the same average of the parameters, without talking to each other.

    Example:
        >>> custom_hooks = [dict(type="aicore.EMAHook", momentum=0.0001, warmup=2000)]

    Args:
        momentum: Share of the newest weights in the average, in (0, 1).
        warmup: The momentum of iteration t, counted from 0 at ``begin_epoch``, is
            ``(1 - momentum) * exp(-(1 + t) / warmup) + momentum``: it falls from 1 over this many
            iterations, so that the first weights are soon forgotten. 0 keeps it constant.
        update_buffers: Whether floating point buffers (running statistics of batch norm) are
            averaged too, or taken from the model as they are.
        begin_epoch: Number of epochs before averaging begins; during them the average is a copy
            of the weights.

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(
        self,
        momentum: float = 0.0002,
        warmup: int = 0,
        update_buffers: bool = False,
        begin_epoch: int = 0,
    ) -> None:
        if not isinstance(momentum, float) or not 0 < momentum < 1:
            raise ConfigError(
                f"EMAHook.momentum = {momentum!r}: expected a number between 0 and 1, the share "
                "of the newest weights, such as 0.0002."
            )
        for name, value in (("warmup", warmup), ("begin_epoch", begin_epoch)):
            if not isinstance(value, int) or value < 0:
                raise ConfigError(
                    f"EMAHook.{name} = {value!r}: expected a whole number of at least 0."
                )
        self.momentum = momentum
        self.warmup = warmup
        self.update_buffers = update_buffers
        self.begin_epoch = begin_epoch
        # From each tensor of the model to its average; tied weights are one tensor.
        self._averages: dict[Tensor, Tensor] = {}
        self._swapped = False
        self._resumed: dict[str, Tensor] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes the averaged weights of a training that is resumed.

        Only :meth:`before_train` can use them: the model's own weights are not loaded yet.
        """
        if not runner._resume:
            return
        self._resumed = checkpoint.get("ema_state_dict")
        if self._resumed is None:
            runner.logger.warning(
                "The checkpoint holds no averaged weights (ema_state_dict): EMAHook starts with a "
                "copy of its weights."
            )

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:
        """Starts the average with the model's weights, or with those of the checkpoint.

        Raises:
            ConfigError: ``begin_epoch`` comes after the last epoch.
        """
        if self.begin_epoch and self.begin_epoch >= runner.max_epochs:
            raise ConfigError(
                f"EMAHook.begin_epoch = {self.begin_epoch}: averaging would never begin, the "
                f"training has max_epochs = {runner.max_epochs}. Begin earlier, or leave the hook "
                "out."
            )
        self._averages, self._swapped = {}, False
        resumed, self._resumed = self._resumed, None
        for name, tensor in _state(runner).items():
            if self._is_averaged(tensor):
                self._averages[tensor] = tensor.clone()
                if resumed is not None:
                    self._averages[tensor].copy_(resumed[name])

    @torch.no_grad()
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Updates the average."""
        weights, averages = list(self._averages), list(self._averages.values())
        steps = runner.iter
        if self.begin_epoch:
            steps -= self.begin_epoch * len(runner.train_dataloader)
        if steps <= 0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, self._momentum(steps))

    def before_val_epoch(self, runner: Runner) -> None:
        """Puts the averaged weights into the model; outside of a training there are none."""
        if not self._swapped:
            self._swap()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Puts the raw weights back."""
        if self._swapped:
            self._swap()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the averaged weights, on the CPU and with the names of the model's own.

        If the model holds them at the moment, because a validation is interrupted, the raw
        weights take their place in ``checkpoint['state_dict']``.
        """
        held = _state(runner)
        others = {
            name: self._averages.get(value, value) if isinstance(value, Tensor) else value
            for name, value in held.items()
        }
        raw, averaged = (others, held) if self._swapped else (held, others)
        if self._swapped:
            checkpoint["state_dict"] = _to_cpu(raw)
        checkpoint["ema_state_dict"] = _to_cpu(averaged)
        checkpoint["meta"]["inference_weights"] = "ema_state_dict"

    def _is_averaged(self, tensor: Any) -> bool:
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return False
        return self.update_buffers or isinstance(tensor, nn.Parameter)

    def _momentum(self, steps: int) -> float:
        if not self.warmup:
            return self.momentum
        return (1 - self.momentum) * math.exp(-(1 + steps) / self.warmup) + self.momentum

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchanges the values of the weights and their averages.

        One tensor after the other: it costs three copies, and the memory of the largest tensor.
        """
        for tensor, average in self._averages.items():
            kept = tensor.clone()
            tensor.copy_(average)
            average.copy_(kept)
        self._swapped = not self._swapped


def _state(runner: Runner) -> dict[str, Any]:
    """Returns the model's state by name, its tensors themselves and not detached views of them."""
    return plain_model(runner.model).state_dict(keep_vars=True)


def _to_cpu(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().cpu() if isinstance(value, Tensor) else value
        for name, value in state.items()
    }
