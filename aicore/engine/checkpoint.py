"""Reading checkpoints safely and fitting their weights to a model."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import BaseTTAModel, is_model_wrapper
from safetensors import SafetensorError, safe_open
from torch import nn

from aicore.errors import CheckpointError


def _history_method(owner: Any, name: str) -> Any:
    """Stands in for ``getattr`` in a checkpoint: MMEngine's log buffers name their own methods."""
    if owner is HistoryBuffer and name in ("current", "max", "mean", "min"):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"Unsupported global: GLOBAL getattr of {owner!r}, {name!r}")


# What MMEngine stores beside tensors: its log buffers, and numpy scalars and arrays in them.
_ALLOWED = [
    HistoryBuffer,
    (_history_method, "builtins.getattr"),
    np.ndarray,
    np.dtype,
    np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    *{type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.float32, np.float64)},
]


def read_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Reads a checkpoint without running code from it.

    Args:
        path: A ``.pth`` file of MMEngine, of torchvision or timm (a bare state dict, or one under
            ``state_dict`` or ``model``), or a ``.safetensors`` file of ``publish_model.py``.
        device: Where the tensors are placed.

    Returns:
        A dict with ``state_dict``, ``meta``, and what else the file held.

    Raises:
        CheckpointError: The file is missing, broken, holds no weights, or holds objects other than
            tensors and plain values.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {str(path)!r} {kind}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, device)
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise CheckpointError(
                f"checkpoint {str(path)!r} holds more than weights and is not loaded, since that "
                f"could run code: {_first_line(error)}"
            ) from error
        raise _broken(path, error) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _broken(path, error) from error
    return _normalise(path, content)


def _broken(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size
    return CheckpointError(
        f"checkpoint {str(path)!r} ({size} bytes) cannot be read, it is broken or not a "
        f"checkpoint: {_first_line(error)}"
    )


def _first_line(error: Exception) -> str:
    """Returns what matters of torch's page-long messages."""
    found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
    if found:
        return f"it names {found[1]}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


def _normalise(path: Path, content: Any) -> dict[str, Any]:
    """Returns ``content`` with its weights under ``state_dict`` and a ``meta``."""
    if isinstance(content, dict):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                return {"meta": {}, **content, "state_dict": content[key]}
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return {"meta": {}, "state_dict": content}
    raise CheckpointError(
        f"checkpoint {str(path)!r} holds no weights: expected a dict of tensors, or one under "
        "'state_dict' or 'model'."
    )


def _read_safetensors(path: Path, device: str | torch.device) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            meta = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path, error) from error
    return {"state_dict": weights, "meta": meta}


def checkpoint_classes(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Returns the class names that the model was trained on, if the checkpoint tells."""
    classes = (checkpoint["meta"].get("dataset_meta") or {}).get("classes")
    return tuple(classes) if classes else None


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


def load_weights(model: nn.Module, checkpoint: dict[str, Any], strict: bool, source: str) -> Fit:
    """Puts a checkpoint's weights into a model.

    Args:
        model: The model; wrappers (DDP, test-time augmentation) are looked through.
        checkpoint: What :func:`read_checkpoint` returned.
        strict: Whether every weight has to fit (test, demo, resume), or those that do not are
            left out and returned (fine-tuning with another head).
        source: The file's name, for the message.

    Returns:
        What did not fit.

    Raises:
        CheckpointError: ``strict`` and something does not fit, or nothing fits at all.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    own = model.state_dict()
    weights = {key.removeprefix("module."): w for key, w in checkpoint["state_dict"].items()}
    fit = Fit()
    for key in list(weights):
        if key in own and own[key].shape != weights[key].shape:
            fit.mismatched.append(f"{key} {_shape(weights.pop(key))} for {_shape(own[key])}")
        elif key not in own:
            fit.unexpected.append(key)
            del weights[key]
    absent = own.keys() - checkpoint["state_dict"].keys() - weights.keys()
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
    model.load_state_dict(weights, strict=False)
    return fit


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
