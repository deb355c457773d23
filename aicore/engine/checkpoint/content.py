"""What a checkpoint holds: which entries there are, and of which types."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

import torch

from aicore.errors import CheckpointError

_RATES = ("lr", "initial_lr", "weight_decay", "momentum", "eps")  # of a parameter group
_Rule = tuple[str, Callable[[Any], bool]]  # what is expected, in words, and whether a value is it


def _are(kind: type, values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, kind) for value in values)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0


def _are_groups(value: Any) -> bool:
    return _are(dict, value) and all(
        isinstance(group.get("params"), list)
        and all(isinstance(group.get(name, 0), Real | torch.Tensor) for name in _RATES)
        for group in value
    )


def _is_dict_of(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and all(isinstance(v, kind) for v in value.values())
    )


def _are_plain(values: Any) -> bool:
    """Whether settings are numbers: a text could be an expression, which a config evaluates."""
    return isinstance(values, dict) and all(
        value is None or isinstance(value, Real) or _are(Real, value) for value in values.values()
    )


def _are_schedulers(value: Any) -> bool:
    if not _are(dict, value):
        return False
    steps = [state.get("last_step", 0) for state in value]
    are_steps = all(step == -1 or _is_count(step) for step in steps)  # -1: it has not begun
    return are_steps and all(_are(Real, state.get("base_values", [])) for state in value)


def _is_seed(value: Any) -> bool:
    return _is_count(value) and value < 2**32


def _optional(rule: _Rule) -> _Rule:
    return rule[0], lambda value: value is None or rule[1](value)


_DICT: _Rule = ("a dict", lambda value: isinstance(value, dict))
_COUNT: _Rule = ("a whole number of at least 0", _is_count)
_TRUTH: _Rule = ("True or False", lambda value: isinstance(value, bool))
_STATE_OF_EACH: _Rule = ("a dict of dicts", _is_dict_of(dict))

# Dotted keys: those of the same name in other programs' files have these types too.
_CONTENT: dict[str, _Rule] = {
    "state_dict": _DICT,
    "ema_state_dict": _optional(_DICT),
    "meta": _DICT,
    "meta.dataset_meta": _optional(_DICT),
    "meta.dataset_meta.classes": _optional(("a list of texts", lambda value: _are(str, value))),
    "meta.input_settings": (
        "a dict with 'settings'",
        lambda value: isinstance(value, dict) and "settings" in value,
    ),
    "meta.input_settings.settings": ("a dict of numbers", _are_plain),
    "meta.input_settings.pipeline": ("a list of dicts", lambda value: _are(dict, value)),
    "meta.input_settings.data_preprocessor": _DICT,
    "meta.input_settings.tiles": _DICT,
    "meta.inference_weights": (
        "'state_dict' or 'ema_state_dict'",
        lambda value: value in ("state_dict", "ema_state_dict"),
    ),
}
_TRAINING: dict[str, _Rule] = {
    "meta.epoch": _COUNT,
    "meta.iter": _COUNT,
    "meta.seed": _optional(("a whole number from 0 to 2**32 - 1", _is_seed)),
    "meta.iterations_per_epoch": _COUNT,
    "meta.validation_pending": _TRUTH,
    "optimizer": _DICT,
    "optimizer.param_groups": ("a list of dicts with 'params', rates as numbers", _are_groups),
    "optimizer.state": _STATE_OF_EACH,
    "optimizer.loss_scaler": _DICT,
    "optimizer.pending": _DICT,
    "optimizer.learner": ("a dict of tensors", _is_dict_of(torch.Tensor)),
    "optimizer.fitted": ("a list of texts", lambda value: _are(str, value)),
    "optimizer.current": ("a list of texts", lambda value: _are(str, value)),
    "param_schedulers": (
        "a list of dicts, 'last_step' a whole number, 'base_values' numbers",
        _are_schedulers,
    ),
    "message_hub": (
        "a dict with 'log_scalars', 'runtime_info' and 'resumed_keys'",
        lambda value: (
            isinstance(value, dict)
            and {"log_scalars", "runtime_info", "resumed_keys"} <= value.keys()
        ),
    ),
    "message_hub.log_scalars": _DICT,
    "message_hub.runtime_info": _DICT,
    "message_hub.runtime_info.best_ckpt": (
        "the path of a file",
        lambda value: isinstance(value, str) and bool(PurePath(value).name),
    ),
    "message_hub.runtime_info.best_score": ("a number", lambda value: isinstance(value, Real)),
    "message_hub.resumed_keys": ("a dict of truth values", _is_dict_of(bool)),
}
_ABSENT = object()


def check_content(content: Mapping[str, Any], source: str) -> None:
    """Raises if an entry of a checkpoint has another type or value than it should.

    Args:
        content: What the file holds; an entry that is not there is not checked.
        source: The file's name, for the message.

    Raises:
        CheckpointError: It names the first such entry.
    """
    _check(content, source, _CONTENT)
    for name in ("state_dict", "ema_state_dict"):
        for key, weight in (content.get(name) or {}).items():
            if not isinstance(key, str):
                raise wrong_entry(source, f"{name}: the key", key, "a text")
            is_tensor = isinstance(weight, torch.Tensor)
            if not is_tensor or weight.layout != torch.strided or weight.is_meta:
                raise wrong_entry(source, f"{name}: {key!r}", weight, "a plain tensor")


def check_training_state(content: Mapping[str, Any], source: str) -> None:
    """As :func:`check_content`, of what only a resume reads."""
    _check(content, source, _TRAINING)


def _check(content: Mapping[str, Any], source: str, rules: Mapping[str, _Rule]) -> None:
    for path, (expected, is_right) in rules.items():
        value = _entry(content, path)
        if value is not _ABSENT and not is_right(value):
            raise wrong_entry(source, path, value, expected)


def wrong_entry(source: str, place: str, value: Any, expected: str) -> CheckpointError:
    """Returns the error for an entry that is not what it should be."""
    is_short = value is None or isinstance(value, bool | int | float | str)
    shown = reprlib.repr(value) if is_short else f"a {type(value).__name__}"
    return CheckpointError(
        f"checkpoint {source!r}: {place} is {shown}, expected {expected}. The file was changed, or "
        "is of another program: take the one that the training saved."
    )


def _entry(content: Mapping[str, Any], path: str) -> Any:
    value: Any = content
    for key in path.split("."):
        value = value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def inference_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns the weights to test, deploy or fine-tune: the averaged ones, where there are such.

    ``meta['inference_weights']`` names them: ``ema_state_dict``, or ``state_dict`` if it is not
    there.
    """
    return checkpoint.get(checkpoint["meta"].get("inference_weights"), checkpoint["state_dict"])


def checkpoint_classes(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Returns the class names that the model was trained on, if the checkpoint tells."""
    classes = (checkpoint["meta"].get("dataset_meta") or {}).get("classes")
    return tuple(classes) if classes else None
