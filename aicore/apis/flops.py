"""What a model costs: parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.registry import init_default_scope
from prettytable import PrettyTable
from torch import nn

from aicore.config import load_config, without_pretrained
from aicore.errors import ConfigError
from aicore.registry import MODELS, explain_build_errors


@dataclass(frozen=True)
class Complexity:
    """What a model costs for one image."""

    shape: tuple[int, int, int]
    """The model's input: channels, height, width."""
    parameters: int
    macs: int
    """Multiply-adds of one forward pass; a MAC is two floating-point operations (FLOPs)."""
    modules: dict[str, tuple[int, int]]
    """Parameters and MACs of each of the network's parts, in its order."""
    not_counted: dict[str, int]
    """Operations without a known count, e.g. activations, and how often they occur."""

    def __str__(self) -> str:
        """A table of the parts, and the totals."""
        table = PrettyTable(["module", "parameters", "MACs"])
        table.align = "r"
        table.align["module"] = "l"
        for name, (parameters, macs) in self.modules.items():
            table.add_row([name, _short(parameters), _short(macs)])
        lines = [
            str(table),
            f"input:      {' x '.join(map(str, self.shape))} (channels x height x width)",
            f"parameters: {_short(self.parameters)} ({self.parameters})",
            f"MACs:       {_short(self.macs)} ({self.macs}), multiply-adds for one image",
            f"FLOPs:      {_short(2 * self.macs)}, two per multiply-add",
        ]
        if self.not_counted:
            ops = ", ".join(f"{name} ({count}x)" for name, count in self.not_counted.items())
            lines.append(f"not counted: {ops}")
        return "\n".join(lines)


def measure_complexity(
    config: str | Path,
    shape: Sequence[int] | None = None,
    options: dict[str, Any] | None = None,
) -> Complexity:
    """Counts a model's parameters and the multiply-adds of one forward pass.

    Counted are convolutions, matrix products, normalisations, pooling and interpolation, as
    :class:`mmengine.analysis.FlopAnalyzer` does. Pretrained weights are not loaded.

    Args:
        config: Config file; its ``in_channels`` holds for the input (3 where it has none).
        shape: Height and width in pixels, or one number for both; by default the config's
            ``image_size``.
        options: Overrides of the config, with dotted keys.

    Raises:
        ConfigError: There is no shape, or the model does not take an image of it.
    """
    settings = load_config(config, options)
    full_shape = (settings.get("in_channels", 3), *_image_size(settings, shape))
    init_default_scope(settings.get("default_scope", "aicore"))
    with explain_build_errors(settings):
        model = MODELS.build(without_pretrained(settings.model)).eval()
    analyzer = FlopAnalyzer(model, (torch.zeros(1, *full_shape),))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analyzer.tracer_warnings("none")
    try:
        macs = round(analyzer.total())
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        size = " x ".join(map(str, full_shape))
        raise ConfigError(
            f"{config}: the model does not take an image of {size} (channels x height x width): "
            f"{reason}. Set another size with --shape."
        ) from error
    return Complexity(
        shape=full_shape,
        parameters=_count_parameters(model),
        macs=macs,
        modules={
            name: (_count_parameters(module), round(analyzer.total(name)))
            for name, module in _parts(model)
            if _count_parameters(module) or analyzer.total(name)
        },
        not_counted={
            name.removeprefix("aten::"): count
            for name, count in analyzer.unsupported_ops().most_common()
        },
    )


def _image_size(config: Config, shape: Sequence[int] | None) -> tuple[int, int]:
    """Returns height and width in pixels."""
    size = shape or config.get("image_size")
    if size is None:
        raise ConfigError(f"{config.filename} has no image_size: give --shape HEIGHT WIDTH.")
    size = [size] if isinstance(size, int) else list(size)
    if len(size) > 2 or min(size) < 1:
        raise ConfigError(f"shape {size} is not a height and a width in pixels, or one for both.")
    return size[0], size[-1]


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the network's top-level modules; a wrapper with one part inside is looked through."""
    prefix = ""
    while True:
        parts = [(name, part) for name, part in model.named_children() if _count_parameters(part)]
        if len(parts) != 1:
            break
        prefix, model = f"{prefix}{parts[0][0]}.", parts[0][1]
    for name, part in model.named_children():
        yield f"{prefix}{name}", part


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _short(number: int) -> str:
    """Returns a count with two decimals and k, M or G: ``11.69 M``."""
    for factor, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= factor:
            return f"{number / factor:.2f}{unit}"
    return str(number)
