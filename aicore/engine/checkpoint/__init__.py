"""Checkpoints: written whole or not at all, read without running code, fitted to a model."""

from aicore.engine.checkpoint.content import (
    checkpoint_classes,
    inference_weights,
)
from aicore.engine.checkpoint.damage import checksums
from aicore.engine.checkpoint.fitting import Fit, load_weights, require_finite
from aicore.engine.checkpoint.inputs import (
    config_for_checkpoint,
    input_settings,
    plain_values,
    require_same_inputs,
)
from aicore.engine.checkpoint.reading import read_checkpoint
from aicore.engine.checkpoint.resuming import prepare_resume, require_resumable
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
    "config_for_checkpoint",
    "inference_weights",
    "input_settings",
    "load_weights",
    "plain_values",
    "position_of",
    "prepare_resume",
    "read_checkpoint",
    "require_finite",
    "require_resumable",
    "require_same_inputs",
    "write_checkpoint",
]
