"""Parameter groups by the kind of parameter, few and with names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from aicore.engine.distributed import plain_model
from aicore.engine.optimizers.wrapper import OptimWrapper
from aicore.errors import ConfigError, did_you_mean
from aicore.registry import OPTIM_WRAPPER_CONSTRUCTORS

KINDS = ("bias", "norm", "weight")
_NORM_LAYERS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_KIND_KEYS = ("lr_mult", "decay_mult", "warmup_factor")
_MODULE_KEYS = ("lr_mult", "decay_mult")


@dataclass(frozen=True)
class Settings:
    """What a parameter group has of its own."""

    lr_mult: float = 1.0
    """Times the optimiser's learning rate."""
    decay_mult: float = 1.0
    """Times the optimiser's weight decay."""
    warmup_factor: float | None = None
    """Where ``GroupWarmupLR`` begins, times the group's learning rate; None: its default."""


# By the prefix (empty: none of the modules) and settings: each parameter with its kind.
_Groups = dict[tuple[str, Settings], list[tuple[str, nn.Parameter]]]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimizerConstructor:
    """Builds the optimiser with a few parameter groups, and its wrapper.

    A parameter is of one of three kinds:

    - ``bias``: it is named ``bias`` or ``..._bias``, in any layer, normalisation layers included,
      as detectors are trained;
    - ``norm``: any other parameter of a normalisation layer, that is of a batch, instance, group,
      layer or RMS norm of torch or of a class derived from one (timm's, mmcv's);
    - ``weight``: all others, one-dimensional ones (layer scales), position embeddings and class
      tokens included.

    Parameters with the same settings, in the same one of ``modules``, share a group: an optimiser
    updates a few large groups at once much faster than many small ones. A shared (tied) parameter
    is taken once, where the model names it first. Frozen parameters are taken too: a hook may thaw
    them, and the optimiser passes over what has no gradient.

    Every group has a ``name`` (``norm``, ``bias+norm``, ``backbone.weight``) and, if set, a
    ``warmup_factor`` for :class:`~aicore.engine.optimizers.warmup.GroupWarmupLR`. Without
    ``paramwise_cfg`` there is one group, in the model's order, as MMEngine builds it.

    Args:
        optim_wrapper_cfg: ``optimizer``, a config with ``type`` and arguments, and the arguments
            of the wrapper, by default of type ``aicore.OptimWrapper``.
        paramwise_cfg: Under each kind, ``lr_mult`` and ``decay_mult``, times the optimiser's
            ``lr`` and ``weight_decay``, and ``warmup_factor``, the start of the warm-up relative
            to the group's own learning rate. Under ``modules``, a dict from the dotted beginning
            of a parameter's name to ``lr_mult`` and ``decay_mult``, which are multiplied on top;
            the longest beginning that fits counts. All of them are numbers of at least 0.

    Raises:
        ConfigError: A key is unknown, a value is not a number of at least 0, or a module holds no
            parameter.

    Example of a config::

        optim_wrapper = dict(
            type='aicore.OptimWrapper',
            constructor='aicore.OptimizerConstructor',
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
            paramwise_cfg=dict(
                bias=dict(decay_mult=0, warmup_factor=10),
                norm=dict(decay_mult=0, warmup_factor=0),
                weight=dict(warmup_factor=0),
                modules={'backbone': dict(lr_mult=0.1)},
            ),
        )
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        self.optim_wrapper_cfg = {"type": "aicore.OptimWrapper", **optim_wrapper_cfg}
        self.optimizer_cfg = self.optim_wrapper_cfg.pop("optimizer", None)
        if not isinstance(self.optimizer_cfg, Mapping) or "type" not in self.optimizer_cfg:
            raise ConfigError(
                f"optim_wrapper.optimizer={self.optimizer_cfg!r}, expected a dict with a type, "
                "e.g. dict(type='SGD', lr=0.01, momentum=0.9)."
            )
        paramwise_cfg = paramwise_cfg or {}
        where = "optim_wrapper.paramwise_cfg"
        _check_keys(paramwise_cfg, (*KINDS, "modules"), where)
        self.kinds = {
            kind: _settings(paramwise_cfg.get(kind), _KIND_KEYS, f"{where}.{kind}")
            for kind in KINDS
        }
        modules = paramwise_cfg.get("modules") or {}
        self.modules = {
            prefix: _settings(modules[prefix], _MODULE_KEYS, f"{where}.modules[{prefix!r}]")
            for prefix in sorted(modules, key=len, reverse=True)
        }

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Returns the wrapped optimiser of a model, which may be wrapped itself (DDP)."""
        model = plain_model(model)
        self._check_modules(model)
        groups = self._groups(model)
        arguments = [
            {"params": [parameter for _, parameter in members], "name": name}
            for name, members in zip(_names(groups), groups.values(), strict=True)
        ]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": arguments})
        for group, (_, settings) in zip(optimizer.param_groups, groups, strict=True):
            _apply(settings, group, optimizer)
            count = sum(parameter.numel() for parameter in group["params"])
            print_log(
                f"Optimiser's group {group['name']}: {len(group['params'])} parameters of "
                f"{count:,} numbers, lr {group['lr']:g}, "
                f"weight decay {group.get('weight_decay', 0):g}",
                logger="current",
            )
        return OPTIM_WRAPPERS.build(self.optim_wrapper_cfg, default_args={"optimizer": optimizer})

    def _groups(self, model: nn.Module) -> _Groups:
        groups: _Groups = {}
        seen: set[nn.Parameter] = set()
        for module_name, module in model.named_modules():
            for name, parameter in module.named_parameters(module_name, recurse=False):
                if parameter not in seen:
                    seen.add(parameter)
                    prefix, kind = self._prefix(name), _kind(module, name)
                    settings = self._combined(prefix, kind)
                    groups.setdefault((prefix, settings), []).append((kind, parameter))
        return groups

    def _prefix(self, name: str) -> str:
        return next((prefix for prefix in self.modules if _is_below(name, prefix)), "")

    def _combined(self, prefix: str, kind: str) -> Settings:
        own, module = self.kinds[kind], self.modules.get(prefix, Settings())
        return Settings(
            own.lr_mult * module.lr_mult, own.decay_mult * module.decay_mult, own.warmup_factor
        )

    def _check_modules(self, model: nn.Module) -> None:
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        for prefix in self.modules:
            if not any(_is_below(name, prefix) for name in names):
                parts = [name.split(".") for name in names]
                known = {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
                tops = sorted({part[0] for part in parts})
                raise ConfigError(
                    f"optim_wrapper.paramwise_cfg.modules[{prefix!r}]: no parameter of the model "
                    f"is below {prefix!r}.{did_you_mean(prefix, sorted(known))} "
                    f"The model's own parts: {', '.join(tops)}."
                )


def _names(groups: _Groups) -> list[str]:
    prefixes = [prefix for prefix, _ in groups]
    names = []
    for (prefix, _), members in groups.items():
        kinds = "+".join(sorted({kind for kind, _ in members}))
        if prefix:
            names.append(prefix if prefixes.count(prefix) == 1 else f"{prefix}.{kinds}")
        else:
            names.append(kinds if len(groups) > 1 else "all")
    return names


def _is_below(name: str, prefix: str) -> bool:
    return f"{name}.".startswith(f"{prefix}.")


def _kind(module: nn.Module, name: str) -> str:
    leaf = name.rpartition(".")[2]
    if leaf == "bias" or leaf.endswith("_bias"):
        return "bias"
    return "norm" if isinstance(module, _NORM_LAYERS) else "weight"


def _apply(settings: Settings, group: dict[str, Any], optimizer: Optimizer) -> None:
    """Puts the settings into a built group, so that the optimiser's own defaults hold too."""
    for key, factor in (("lr", settings.lr_mult), ("weight_decay", settings.decay_mult)):
        if factor == 1:
            continue
        if group.get(key) is None:
            raise ConfigError(
                f"optim_wrapper.paramwise_cfg changes {key} of group {group['name']!r}, but "
                f"{type(optimizer).__name__} has none: set optim_wrapper.optimizer.{key}, or "
                "remove the multiplier."
            )
        group[key] = group[key] * factor
    if settings.warmup_factor is not None:
        group["warmup_factor"] = settings.warmup_factor


def _settings(value: Mapping[str, Any] | None, keys: Collection[str], where: str) -> Settings:
    value = value or {}
    _check_keys(value, keys, where)
    for key, number in value.items():
        if not isinstance(number, int | float) or not number >= 0:
            raise ConfigError(f"{where}.{key}={number!r}, expected a number of at least 0.")
    return Settings(**value)


def _check_keys(value: Any, known: Collection[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}={value!r}, expected a dict with {', '.join(known)}.")
    for key in value:
        if key not in known:
            raise ConfigError(
                f"{where}.{key} is not known.{did_you_mean(key, known)} Known: {', '.join(known)}."
            )
