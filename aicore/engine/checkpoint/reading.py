"""Reading a checkpoint: whole, undamaged, and without running code from it."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError, safe_open

from aicore.engine.checkpoint.content import check_content
from aicore.engine.checkpoint.damage import (
    READ_FAILURES,
    broken,
    first_sentence,
    require_intact_archive,
    require_intact_tensors,
)
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
        BrokenCheckpointError: The file is truncated, damaged, or no checkpoint at all. Damage
            cannot be told where there is no checksum: in the weights of a file of torch before
            1.6, or of a ``.safetensors`` file of another program.
        CheckpointError: The file is missing, holds no weights, holds something of another type
            than it should, or needs ``trust``.
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
        raise broken(path, "it does not begin like one")
    if start == _STARTS[0]:
        require_intact_archive(path)
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location=device, weights_only=not trust)
    except pickle.UnpicklingError as error:
        # torch's own message is a page long and tells how to load such a file all the same.
        found = re.search(r"unsupported global:? (?:GLOBAL )?(\S+)", str(error), re.IGNORECASE)
        if found is None:
            raise broken(path, "it is not what torch.save writes") from error
        raise CheckpointError(
            f"checkpoint {str(path)!r} holds more than weights and is not loaded, since that "
            f"could run code: it names {found[1]}. If you trust whoever made it, "
            "--trust-checkpoint reads it all the same; tools/misc/publish_model.py makes a plain "
            "file of it."
        ) from error
    except READ_FAILURES as error:
        raise broken(path, first_sentence(error)) from error
    return _normalise(path, content)


def _normalise(path: Path, content: Any) -> dict[str, Any]:
    """Returns ``content`` with its weights under ``state_dict`` and a ``meta``."""
    if isinstance(content, dict):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                meta = {} if content.get("meta") is None else content["meta"]
                content = {**content, "meta": meta, "state_dict": content[key]}
                check_content(content, str(path))
                return _raw_first(content)
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            content = {"meta": {}, "state_dict": content}
            check_content(content, str(path))
            return content
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


def _read_safetensors(path: Path, device: str | torch.device) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise broken(path, first_sentence(error)) from error
    require_intact_tensors(path, weights, metadata)
    meta = {key: _from_json(text) for key, text in metadata.items()}
    content = {"state_dict": weights, "meta": meta}
    check_content(content, str(path))
    return content


def _from_json(text: str) -> Any:
    """Returns what ``publish_model.py`` wrote; other programs' plain text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


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
