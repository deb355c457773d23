"""Another loss, or other weights of it, from a given epoch on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from aicore.engine.distributed import plain_model
from aicore.errors import CheckpointError, ConfigError, did_you_mean
from aicore.registry import HOOKS, MODELS, explain_build_errors

_KEY = "loss_switch"  # in a checkpoint


@HOOKS.register_module()
class LossSwitchHook(Hook):
    """Gives attributes of the model other values from given epochs on: losses, their weights.

    The values follow from the epoch alone, so they are right after any resume too.

    The ``state_dict`` of a checkpoint always fits the model as the config describes it, whichever
    loss is active, so that it can be tested and exported; what the losses of the switches hold
    themselves (buffers) stands beside it and is taken up by a resume.

    Example:
        >>> custom_hooks = [
        ...     dict(
        ...         type="aicore.LossSwitchHook",
        ...         switches=[
        ...             dict(epoch=20, set={"head.loss_module": dict(type="FocalLoss")}),
        ...             dict(epoch=30, set={"head.loss_module.loss_weight": 2.0}),
        ...         ],
        ...     )
        ... ]

    Args:
        switches: Each a dict of ``epoch``, the number of finished epochs from which on it is
            active (20: from the 21st epoch to the end), and ``set``, the values by the dotted
            paths of attributes of the model, with indices for modules in lists
            (``decode_head.loss_decode.1.loss_weight``). A dict with a ``type`` is built as a
            module, any other value is set as it is. Of two switches of one path the later epoch
            counts.

    Raises:
        ConfigError: An argument is wrong.
    """

    priority = "LOW"  # after EMAHook, which names what it keeps by the config's model

    def __init__(self, switches: Sequence[Mapping[str, Any]]) -> None:
        if not isinstance(switches, list | tuple) or not switches:
            raise ConfigError(
                f"LossSwitchHook.switches = {switches!r}: expected a list of at least one "
                "dict(epoch=..., set={...})."
            )
        for index, switch in enumerate(switches):
            _check_switch(f"LossSwitchHook.switches[{index}]", switch)
        self.switches = sorted(switches, key=lambda switch: switch["epoch"])
        self._values: list[dict[str, Any]] = []  # what the switches set, built
        self._modules = nn.ModuleList()  # the built ones
        self._active = 0  # how many switches have been made
        self._replaced: list[tuple[Any, str, Any]] = []  # by them, in their order

    def before_train(self, runner: Runner) -> None:
        """Tries all switches, so that a mistake does not come up after hours.

        Raises:
            ConfigError: A path is not in the model, its value cannot be set, or a new loss has
                parameters to train.
        """
        model = plain_model(runner.model)
        self._build(runner)
        self._revert()
        try:
            self._make(model, len(self.switches))
        finally:
            self._revert()
        # A resume may begin with the validation that was due after the last iteration.
        self._switch(runner, max(runner.iter - 1, 0) // len(runner.train_dataloader))

    def before_train_epoch(self, runner: Runner) -> None:
        """Makes the switches of the epochs up to this one."""
        if self._switch(runner, runner.epoch):
            # A loss that is no longer computed would be logged with its last value for ever.
            logged = runner.message_hub.log_scalars
            for key in [key for key in logged if key.startswith("train/") and "loss" in key]:
                del logged[key]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Puts what the config's own losses hold among the weights, what others hold beside."""
        switched = tuple(
            f"{path}."
            for values in self._values[: self._active]
            for path, value in values.items()
            if isinstance(value, nn.Module)
        )
        model, active = plain_model(runner.model), self._active
        self._revert()
        own = {key: w for key, w in model.state_dict().items() if key.startswith(switched)}
        held_by_others = self._modules.state_dict()
        self._make(model, active)
        for weights in (checkpoint["state_dict"], checkpoint.get("ema_state_dict", {})):
            for key in [key for key in weights if key.startswith(switched)]:
                del weights[key]
            weights.update(own)
        if held_by_others:
            checkpoint[_KEY] = held_by_others

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Makes the model fit the checkpoint; on a resume, takes up what the new losses held.

        Raises:
            CheckpointError: On a resume, the losses of the switches are not those of before.
        """
        self._revert()
        if not (runner._resume and _KEY in checkpoint):
            return
        self._build(runner)
        try:
            self._modules.load_state_dict(checkpoint[_KEY])
        except RuntimeError as error:
            raise CheckpointError(
                "The checkpoint's losses are not those of LossSwitchHook.switches, so the training "
                "cannot be resumed. Use the config that it was trained with."
            ) from error

    def _build(self, runner: Runner) -> None:
        """Builds the modules, once: they may gather statistics over a training."""
        if self._values:
            return
        for switch in self.switches:
            values = dict(switch["set"])
            for path, value in values.items():
                if isinstance(value, Mapping) and "type" in value:
                    with explain_build_errors(runner.cfg):
                        values[path] = MODELS.build(value)
                    _check_module(path, values[path])
                    self._modules.append(values[path])
            self._values.append(values)

    def _switch(self, runner: Runner, epoch: int) -> bool:
        """Makes those switches, and no others, that are active in an epoch (counted from 0).

        Returns whether these are others than before.
        """
        made = self._active
        count = sum(switch["epoch"] <= epoch for switch in self.switches)
        if count == made:
            return False
        self._revert()
        self._make(plain_model(runner.model), count)
        for switch, values in zip(self.switches[made:count], self._values[made:count], strict=True):
            runner.logger.info(
                f"LossSwitchHook, from epoch {switch['epoch'] + 1} on: "
                + ", ".join(f"{path} = {_shown(value)}" for path, value in values.items())
            )
        return True

    def _make(self, model: nn.Module, count: int) -> None:
        """Makes the first ``count`` switches on a model without any."""
        for values in self._values[:count]:
            for path, value in values.items():
                owner, name = _find(model, path)
                old = getattr(owner, name)
                if isinstance(value, nn.Module):
                    value.to(next(model.parameters()).device)
                _set(path, owner, name, value)
                self._replaced.append((owner, name, old))
        self._active = count

    def _revert(self) -> None:
        """Gives the model its own values back."""
        while self._replaced:
            setattr(*self._replaced.pop())
        self._active = 0


def _check_switch(where: str, switch: Any) -> None:
    if not isinstance(switch, Mapping) or set(switch) != {"epoch", "set"}:
        raise ConfigError(f"{where} = {switch!r}: expected dict(epoch=..., set={{...}}).")
    epoch, values = switch["epoch"], switch["set"]
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise ConfigError(
            f"{where}.epoch = {epoch!r}: expected the number of finished epochs from which on the "
            "switch is active, a whole number from 0 on."
        )
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(
            f"{where}.set = {values!r}: expected a dict of values by the paths of the model's "
            "attributes, e.g. {'head.loss_module.loss_weight': 2.0}."
        )


def _check_module(path: str, module: nn.Module) -> None:
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    if names:
        raise ConfigError(
            f"LossSwitchHook: {path!r} = {type(module).__name__} has parameters to train "
            f"({', '.join(names[:3])}), which the optimiser does not know. Use a loss without "
            "parameters, or have it in the model from the beginning and switch its weight."
        )


def _find(model: nn.Module, path: str) -> tuple[Any, str]:
    """Returns the object that has the last attribute of a dotted path, and that one's name."""
    owner: Any = model
    *parents, last = path.split(".")
    for name in parents:
        _check_attribute(path, owner, name)
        owner = getattr(owner, name)
    _check_attribute(path, owner, last)
    return owner, last


def _check_attribute(path: str, owner: Any, name: str) -> None:
    if hasattr(owner, name) and not inspect.ismethod(getattr(owner, name)):
        return
    public = [item for item in dir(owner) if not item.startswith("_")]
    known = [n for n in public if not inspect.isroutine(inspect.getattr_static(owner, n, None))]
    raise ConfigError(
        f"LossSwitchHook: {path!r} is not in the model, {type(owner).__name__} has no attribute "
        f"{name!r} that could be set.{did_you_mean(name, known)}"
    )


def _set(path: str, owner: Any, name: str, value: Any) -> None:
    old = getattr(owner, name)
    try:
        if isinstance(value, nn.Module) and not isinstance(old, nn.Module | None):
            raise TypeError(f"a module cannot take the place of {old!r}")
        setattr(owner, name, value)
    except (AttributeError, TypeError) as error:  # a read-only property, or torch's own check
        raise ConfigError(
            f"LossSwitchHook: {path!r} cannot be set to {_shown(value)}: {error}."
        ) from error


def _shown(value: Any) -> str:
    return type(value).__name__ if isinstance(value, nn.Module) else repr(value)
