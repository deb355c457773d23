"""Checkpoints: written whole or not at all, read without running code, fitted to a model."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError, safe_open
from torch import nn

from aicore.errors import BrokenCheckpointError, CheckpointError
from aicore.runtime.files import atomic_write


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
    # Their names in files that were written with numpy 1.
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    *{type(np.dtype(kind)) for kind in f"?{np.typecodes['AllInteger']}{np.typecodes['Float']}"},
]
_STARTS = (b"PK", b"\x80\x02")  # of a file by torch.save: a zip archive, before torch 1.6 a pickle
# Where MMEngine would fetch weights from and load them unsafely.
_REMOTE = (
    *("http://", "https://", "pavi://", "s3://", "petrel://", "modelzoo://", "torchvision://"),
    *("open-mmlab://", "openmmlab://", "mmcls://"),
)
# What a damaged pickle makes the unpickler stumble over.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def read_checkpoint(
    path: str | Path, device: str | torch.device = "cpu", trust: bool = False
) -> dict[str, Any]:
    """Reads a checkpoint without running code from it.

    Args:
        path: A ``.pth`` file of MMEngine, of torchvision or timm (a bare state dict, or one under
            ``state_dict`` or ``model``), or a ``.safetensors`` file of ``publish_model.py``.
        device: Where the tensors are placed.
        trust: Whether to read the file even if it holds other objects than tensors and plain
            values. Such a file can run any code of its author's.

    Returns:
        A dict with ``state_dict`` (the weights that training goes on from), ``meta``, and what
        else the file held; see :func:`inference_weights`.

    Raises:
        BrokenCheckpointError: The file is truncated, damaged, or no checkpoint at all.
        CheckpointError: The file is missing, holds no weights, or needs ``trust``.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {str(path)!r} {kind}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, device)
    with path.open("rb") as file:
        start = file.read(2)
    if start not in _STARTS:
        raise _broken(path, "it does not begin like one")
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location=device, weights_only=not trust)
    except pickle.UnpicklingError as error:
        # torch's own message is a page long and tells how to load such a file all the same.
        found = re.search(r"unsupported global:? (?:GLOBAL )?(\S+)", str(error), re.IGNORECASE)
        if found is None:
            raise _broken(path, "it is not what torch.save writes") from error
        raise CheckpointError(
            f"checkpoint {str(path)!r} holds more than weights and is not loaded, since that "
            f"could run code: it names {found[1]}. If you trust whoever made it, "
            "--trust-checkpoint reads it all the same; tools/misc/publish_model.py makes a plain "
            "file of it."
        ) from error
    except _DAMAGE as error:
        raise _broken(path, _first_sentence(error)) from error
    return _normalise(path, content)


def _broken(path: Path, reason: str) -> BrokenCheckpointError:
    size = path.stat().st_size
    return BrokenCheckpointError(
        f"checkpoint {str(path)!r} ({size} bytes) cannot be read, it is broken or not a "
        f"checkpoint: {reason}."
    )


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0].rstrip(".")[:200]


def _normalise(path: Path, content: Any) -> dict[str, Any]:
    """Returns ``content`` with its weights under ``state_dict`` and a ``meta``."""
    if isinstance(content, dict):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                meta = content.get("meta") or {}
                return _raw_first({**content, "meta": meta, "state_dict": content[key]})
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return {"meta": {}, "state_dict": content}
    raise CheckpointError(
        f"checkpoint {str(path)!r} holds no weights: expected a dict of tensors, or one under "
        "'state_dict' or 'model'."
    )


def _raw_first(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Undoes MMEngine's exchange of raw and averaged weights, where its EMAHook saved a file."""
    other = checkpoint.get("ema_state_dict")
    if isinstance(other, dict) and "steps" in other:
        averaged = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: other.get(f"module.{k}", w) for k, w in averaged.items()}
        checkpoint["ema_state_dict"] = averaged
        checkpoint["meta"] = {**checkpoint["meta"], "inference_weights": "ema_state_dict"}
    return checkpoint


def inference_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns the weights to test, deploy or fine-tune: the averaged ones, where there are such.

    ``meta['inference_weights']`` names them: ``ema_state_dict``, or ``state_dict`` if it is not
    there.
    """
    return checkpoint.get(checkpoint["meta"].get("inference_weights"), checkpoint["state_dict"])


def _read_safetensors(path: Path, device: str | torch.device) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _broken(path, _first_sentence(error)) from error
    return {
        "state_dict": weights,
        "meta": {key: _from_json(text) for key, text in metadata.items()},
    }


def _from_json(text: str) -> Any:
    """Returns what ``publish_model.py`` wrote; other programs' plain text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def checkpoint_classes(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Returns the class names that the model was trained on, if the checkpoint tells."""
    classes = (checkpoint["meta"].get("dataset_meta") or {}).get("classes")
    return tuple(classes) if classes else None


def require_resumable(
    checkpoint: dict[str, Any], source: str, length: int, schedulers: int
) -> None:
    """Raises if a training cannot go on from a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` returned.
        source: The file's name, for the message.
        length: Iterations an epoch of the training.
        schedulers: Number of its param_schedulers.

    Raises:
        CheckpointError: It holds weights only, or is of another program or of a training with
            other numbers.
    """
    meta = checkpoint["meta"]
    if "optimizer" not in checkpoint:
        raise CheckpointError(
            f"checkpoint {source!r} holds weights only, training cannot be resumed from it. Use "
            "--load-from to start from these weights."
        )
    if not {"epoch", "iter"} <= meta.keys() or "message_hub" not in checkpoint:
        raise CheckpointError(
            f"checkpoint {source!r} is of another program and lacks what a training is resumed "
            "from. Use --load-from to start from its weights."
        )
    for what, before, now in (
        ("iterations an epoch", meta.get("iterations_per_epoch", length), length),
        ("param_schedulers", len(checkpoint.get("param_schedulers", ())), schedulers),
    ):
        if before != now:
            raise CheckpointError(
                f"checkpoint {source!r} is of a training with {before} {what}, this one has {now}, "
                "so that its schedule would not fit. Resume with the same data, schedule and "
                "product of processes and batch_size, or use --load-from."
            )


def write_checkpoint(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Writes a checkpoint; the file appears whole, or what was there before stays.

    Args:
        path: A ``.pth`` file.
        checkpoint: Tensors and plain values.

    Raises:
        CheckpointError: The disk is full, or the file cannot be written for another reason.
    """
    path = Path(path)
    try:
        with atomic_write(path) as stream:
            torch.save(checkpoint, stream)
    except (OSError, RuntimeError) as error:
        # torch's writer stumbles over an OSError of the stream and raises another error.
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be written: {reason.strerror} "
            f"({shutil.disk_usage(path.parent).free // 2**20} MB free). The earlier checkpoints "
            "are as they were: make room and go on with --resume."
        ) from error


def checkpoints_in(folder: str | Path) -> list[Path]:
    """Returns the checkpoints that a training in ``folder`` can be resumed from, newest first."""
    files = [file for file in Path(folder).glob("epoch_*.pth") if position_of(file)]
    return sorted(files, key=position_of, reverse=True)


def position_of(file: Path) -> tuple[int, int] | None:
    """Returns what a checkpoint's name says: finished epochs, and iterations of the next.

    ``epoch_3.pth`` and ``best_accuracy_epoch_3.pth`` are (3, 0), ``epoch_3_iter_20.pth`` is
    (3, 20); None for another name.
    """
    found = re.search(r"epoch_(\d+)(?:_iter_(\d+))?$", file.stem)
    return (int(found[1]), int(found[2] or 0)) if found else None


@CheckpointLoader.register_scheme(prefixes="", force=True)
def _load_for_mmengine(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Reads what a config's ``init_cfg=dict(type='Pretrained')`` names.

    MMEngine itself would run the code of a file that cannot be read safely.
    """
    return read_checkpoint(filename, map_location or "cpu")


@CheckpointLoader.register_scheme(prefixes=_REMOTE, force=True)
def _refuse_to_fetch(filename: str, map_location: Any = None) -> dict[str, Any]:
    raise CheckpointError(
        f"checkpoint {filename!r} is not on this machine, and nothing is fetched at run time: "
        "copy the file here and give its path."
    )


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
        CheckpointError: ``strict`` and something does not fit, or nothing fits at all.
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
    model.load_state_dict(weights, strict=False)
    return fit


def _shape(weight: Any) -> str:
    """Returns a tensor's shape in words; a checkpoint can hold something else in its place."""
    if not isinstance(weight, torch.Tensor):
        return type(weight).__name__
    return "x".join(map(str, weight.shape)) or "scalar"
