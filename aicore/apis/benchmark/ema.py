"""Time of one update of a moving average of weights, beside MMEngine's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from types import SimpleNamespace

import timm
from mmengine.device import get_device
from mmengine.model import ExponentialMovingAverage
from torch import nn
from tqdm import tqdm

from aicore.apis.benchmark.report import Report, machine_facts
from aicore.apis.benchmark.turns import measure_in_turns
from aicore.backbones import timm_weights
from aicore.engine.hooks import EMAHook


def benchmark_ema(models: Sequence[str], rounds: int = 50) -> Report:
    """Measures one update of aicore's ``EMAHook`` and of MMEngine's averaged model.

    Both average the parameters of the same model, with MMEngine's defaults. In each round each
    makes one update; times are medians over the rounds, and so is the ratio of a round's two.

    Args:
        models: timm's names. Their weights are random: values do not matter.
        rounds: How many updates each makes.

    Returns:
        A row for each model with the columns ``model``, ``parameters``, ``tensors``,
        ``aicore_ms``, ``mmengine_ms`` and ``speed_up``, how many times as fast aicore's is.

    Raises:
        ConfigError: timm has no such model.
    """
    rows = []
    for name in tqdm(models, desc="models", disable=None):
        with timm_weights(name) as weights:
            model = timm.create_model(name, **weights).to(get_device())
        ours, theirs = measure_in_turns([_our_update(model), _mmengine_update(model)], rounds)
        parameters = list(model.parameters())
        rows.append(
            {
                "model": name,
                "parameters": sum(parameter.numel() for parameter in parameters),
                "tensors": len(parameters),
                "aicore_ms": round(1000 * median(ours), 3),
                "mmengine_ms": round(1000 * median(theirs), 3),
                "speed_up": round(median(b / a for a, b in zip(ours, theirs, strict=True)), 2),
            }
        )
    return Report({**machine_facts(), "rounds": f"{rounds} of one update each"}, rows)


def _our_update(model: nn.Module) -> Callable[[], None]:
    runner = SimpleNamespace(model=model, iter=1)  # all that the hook asks a Runner for
    hook = EMAHook()
    hook.before_train(runner)
    return lambda: hook.after_train_iter(runner, 0)


def _mmengine_update(model: nn.Module) -> Callable[[], None]:
    average = ExponentialMovingAverage(model)
    return lambda: average.update_parameters(model)
