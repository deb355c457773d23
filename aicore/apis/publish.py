"""Publishing a model: a checkpoint's weights, without what only training needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from aicore.engine.checkpoint import checksums, inference_weights, read_checkpoint
from aicore.errors import CheckpointError, ConfigError
from aicore.runtime.files import atomic_write
from aicore.version import __version__

# What of the meta still means something without the training. Not the config's text: it can hold
# paths, and passwords that it read from the environment.
_KEPT = ("epoch", "iter", "threshold", "model", "input_settings")
_KEPT_OF_DATASET = ("classes", "palette")


def publish_model(
    checkpoint: str | Path, out: str | Path | None = None, trust: bool = False
) -> Path:
    """Writes a checkpoint's weights as safetensors, with metadata and without the optimiser.

    Of a training with averaged weights (EMA) it writes those.

    The metadata's values are JSON texts: ``dataset_meta`` with the classes, ``epoch``, ``iter``,
    ``model`` (the network's settings), ``input_settings`` (the pre-processing) and ``threshold``,
    where the checkpoint has them; ``aicore_version``; ``weights_sha256``, the SHA-256 of
    ``safetensors.torch.save(weights)``, which another file of the same weights shares; and
    ``metadata_sha256`` of the rest.

    Args:
        checkpoint: What :func:`aicore.engine.checkpoint.read_checkpoint` reads.
        out: The file to write, ending in ``.safetensors``; by default it lies beside the
            checkpoint, with the first eight digits of the hash in its name:
            ``best-1a2b3c4d.safetensors``.
        trust: Whether to read a checkpoint that could run code of its author's.

    Returns:
        The file written. It appears at once and whole: a run that dies leaves none.

    Raises:
        CheckpointError: The checkpoint cannot be read or holds something other than tensors among
            its weights, or ``out`` cannot be written.
        ConfigError: ``out`` has another suffix.
    """
    checkpoint = Path(checkpoint).expanduser()
    if out is not None and Path(out).suffix != ".safetensors":
        raise ConfigError(f"--out {str(out)!r} has to end in .safetensors.")
    content = read_checkpoint(checkpoint, trust=trust)
    weights = _own_memory(inference_weights(content))
    meta = {key: content["meta"][key] for key in _KEPT if key in content["meta"]}
    dataset = content["meta"].get("dataset_meta") or {}
    meta["dataset_meta"] = {key: dataset[key] for key in _KEPT_OF_DATASET if key in dataset}
    meta["aicore_version"] = __version__
    texts = {key: json.dumps(value, default=_plain, allow_nan=False) for key, value in meta.items()}
    texts |= checksums(weights, texts)
    digest = json.loads(texts["weights_sha256"])
    name = f"{checkpoint.stem}-{digest[:8]}.safetensors"
    file = checkpoint.with_name(name) if out is None else Path(out).expanduser()
    # Not by save_file: it makes files that no one but their owner can read.
    _write(file, safetensors.torch.save(weights, texts))
    return file


def _own_memory(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns a copy of each tensor: safetensors refuses those that share memory (tied weights)."""
    return {
        key: value.clone(memory_format=torch.contiguous_format) for key, value in weights.items()
    }


def _plain(value: Any) -> Any:
    """Returns a numpy or torch value of the metadata as python's own, for JSON."""
    return value.tolist()


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as stream:
            stream.write(content)
    except OSError as error:
        raise CheckpointError(f"{str(file)!r} cannot be written: {error.strerror}.") from error
