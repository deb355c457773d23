"""Checkpoints: written whole or not at all, read without running code, fitted to a model."""

from aicore.engine.checkpoint.content import (
    checkpoint_classes,
    inference_weights,
    require_resumable,
)
from aicore.engine.checkpoint.damage import checksums
from aicore.engine.checkpoint.fitting import Fit, load_weights, require_finite
from aicore.engine.checkpoint.reading import read_checkpoint
from aicore.engine.checkpoint.writing import (
    checkpoints_in,
    position_of,
    write_checkpoint,
)

__all__ = [
    "Fit",
    "checkpoint_classes",
    "checkpoints_in",
    "checksums",
    "inference_weights",
    "load_weights",
    "position_of",
    "read_checkpoint",
    "require_finite",
    "require_resumable",
    "write_checkpoint",
]
