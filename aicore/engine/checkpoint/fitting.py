"""A checkpoint's weights and a model: what of them fits, and whether they are numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from aicore.errors import CheckpointError


@dataclass
class Fit:
    """How a checkpoint's weights fit a model: key names, and shapes where they differ."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether everything fits."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """What does not fit, in words; the first few keys of each kind."""
        parts = []
        for kind in ("mismatched", "missing", "unexpected"):
            keys = getattr(self, kind)
            if keys:
                more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
                parts.append(f"{len(keys)} {kind}: {', '.join(keys[:8])}{more}")
        return "; ".join(parts)


def load_weights(
    model: nn.Module, weights: dict[str, torch.Tensor], strict: bool, source: str
) -> Fit:
    """Puts a checkpoint's weights into a model.

    Args:
        model: The model; wrappers (DDP, test-time augmentation) are looked through.
        weights: The checkpoint's ``state_dict``, or its :func:`inference_weights`.
        strict: Whether every weight has to fit (test, demo, resume), or those that do not are
            left out and returned (fine-tuning with another head).
        source: The file's name, for the message.

    Returns:
        What did not fit.

    Raises:
        CheckpointError: ``strict`` and something does not fit, nothing fits at all, or a weight
            is not finite.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    own = model.state_dict()
    weights = {key.removeprefix("module."): weight for key, weight in weights.items()}
    for name, module in model.named_modules():
        if hasattr(module, "adapt_weights"):  # e.g. to another number of input channels
            module.adapt_weights(weights, f"{name}." if name else "")
    given = set(weights)
    fit = Fit()
    for key in list(weights):
        if key in own and _shape(own[key]) != _shape(weights[key]):
            fit.mismatched.append(f"{key} {_shape(weights.pop(key))} for {_shape(own[key])}")
        elif key not in own:
            fit.unexpected.append(key)
            del weights[key]
    absent = own.keys() - given
    # A count that only cumulative batch norm reads; older files lack it.
    fit.missing = sorted(key for key in absent if not key.endswith("num_batches_tracked"))
    if strict and not fit:
        raise CheckpointError(
            f"checkpoint {source!r} does not fit the model of the config: {fit}. "
            "Use the config that it was trained with."
        )
    if not weights:
        raise CheckpointError(
            f"checkpoint {source!r} has nothing in common with the model of the config: {fit}."
        )
    # A buffer may hold what the model itself begins with: no threshold yet (NaN), a mask of -inf.
    require_finite({k: w for k, w in weights.items() if is_finite(own[k])}, source)
    model.load_state_dict(weights, strict=False)
    return fit


def is_finite(weight: torch.Tensor) -> bool:
    """Tells whether a tensor holds neither NaN nor infinity."""
    if weight.element_size() == 1 and weight.is_floating_point():
        weight = weight.float()  # torch asks this of no type of eight bits
    return bool(torch.isfinite(weight).all())


def require_finite(weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Raises if there is a NaN or an infinity among a checkpoint's weights.

    A model with such weights finds nothing, and nothing found would pass for a good part.

    Args:
        weights: Tensors by their key.
        source: The file's name, for the message.

    Raises:
        CheckpointError: There is one.
    """
    for key, weight in weights.items():
        if not is_finite(weight):
            raise CheckpointError(
                f"checkpoint {source!r} holds NaN or infinity in {key!r}: a model with such "
                "weights finds nothing. Its training diverged, or the file is damaged: take an "
                "earlier checkpoint."
            )


def _shape(weight: Any) -> str:
    """Returns a tensor's shape in words; a checkpoint can hold something else in its place."""
    if not isinstance(weight, torch.Tensor):
        return type(weight).__name__
    return "x".join(map(str, weight.shape)) or "scalar"
