"""timm's optimisers by name: ``optimizer=dict(type='timm.lamb', lr=2e-3)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import timm.optim
from torch.optim import Optimizer

from aicore.errors import ConfigError, did_you_mean
from aicore.registry import TIMM_OPTIMIZERS

_MOMENTUM = 0.9  # what timm's own factory gives to every optimiser that has a momentum


def build_timm_optimizer(name: str, params: Iterable[Any], **arguments: Any) -> Optimizer:
    """Builds one of timm's optimisers with timm's defaults.

    Args:
        name: One of :func:`timm.optim.list_optimizers`.
        params: Parameters, or parameter groups.
        **arguments: Arguments of the optimiser's class. Those not given are what timm's name
            stands for (``nlarc`` is LARS with Nesterov and clipped trust), a momentum of 0.9, and
            else the class's own defaults.

    Raises:
        ConfigError: The optimiser takes no such argument, or needs what is not there.
    """
    info = timm.optim.get_optimizer_info(name)
    if info.second_order:
        raise ConfigError(
            f"optimizer type 'timm.{name}' needs second derivatives of the loss, which training "
            "does not compute. Use an optimiser of the first order, e.g. 'timm.adamw'."
        )
    try:
        optimizer_class = timm.optim.get_optimizer_class(name, bind_defaults=False)
    except (AssertionError, ImportError) as error:  # timm asserts a CUDA device
        package = str(info.opt_class).partition(".")[0]
        raise ConfigError(
            f"optimizer type 'timm.{name}' needs a CUDA device and the package {package!r}, which "
            f"are not both here: {error}. Install it, or use another optimiser."
        ) from error
    accepted = inspect.signature(optimizer_class).parameters
    defaults = {"momentum": _MOMENTUM} if info.has_momentum else {}
    names = [argument for argument in accepted if argument != "params"]
    for argument in arguments:
        if argument not in names:
            raise ConfigError(
                f"optim_wrapper.optimizer.{argument}: optimizer type 'timm.{name}' takes no "
                f"argument {argument!r}.{did_you_mean(argument, names)} "
                f"It takes: {', '.join(names)}."
            )
    return optimizer_class(params, **{**defaults, **(info.defaults or {}), **arguments})


def _builder(name: str) -> Callable[..., Optimizer]:
    # A function, not a partial: MMEngine's constructor asks for the first argument's name.
    def build(params: Iterable[Any], **arguments: Any) -> Optimizer:
        return build_timm_optimizer(name, params, **arguments)

    return build


for _name in map(str, timm.optim.list_optimizers()):
    TIMM_OPTIMIZERS.register_module(name=_name, module=_builder(_name))
