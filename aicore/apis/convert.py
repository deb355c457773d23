"""Checkpoints of other libraries, in aicore's key names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.registry import init_default_scope

from aicore.config import load_config, without_pretrained
from aicore.engine.checkpoint import (
    inference_weights,
    input_settings,
    load_weights,
    plain_values,
    read_checkpoint,
    write_checkpoint,
)
from aicore.errors import ConfigError, did_you_mean
from aicore.registry import MODELS, explain_build_errors
from aicore.task import build_task


def convert_weights(
    config: str | Path,
    checkpoint: str | Path,
    source: str,
    out: str | Path | None = None,
    options: dict[str, Any] | None = None,
    trust: bool = False,
) -> Path:
    """Writes another library's checkpoint as one of the config's model.

    Args:
        config: Config file of the same network.
        checkpoint: The other library's file.
        source: Which library, a name that the config's task knows: ``smp``.
        out: The file to write; by default ``<checkpoint>_aicore.pth`` beside the other.
        options: Overrides of the config, with dotted keys.
        trust: Whether to read a checkpoint that could run code of its author's.

    Returns:
        The file written.

    Raises:
        ConfigError: The task knows no such library.
        CheckpointError: The checkpoint cannot be read, or its weights are not the model's.
    """
    settings = load_config(config, options)
    sources = build_task(settings.task).weight_sources
    if source not in sources:
        raise ConfigError(
            f"--from {source}: {config} takes no weights of that library."
            f"{did_you_mean(source, sources)} It takes those of: {', '.join(sources) or 'none'}."
        )
    weights = sources[source](inference_weights(read_checkpoint(checkpoint, trust=trust)))
    init_default_scope(settings.default_scope)
    with explain_build_errors(settings):
        model = MODELS.build(without_pretrained(settings.model))
    load_weights(model, weights, strict=True, source=str(checkpoint))
    meta = {
        "dataset_meta": {"classes": settings.classes},
        "cfg": settings.pretty_text,
        "model": plain_values(without_pretrained(settings.model)),
        "input_settings": input_settings(settings),
    }
    checkpoint = Path(checkpoint)
    file = Path(out or checkpoint.with_name(f"{checkpoint.stem}_aicore.pth"))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(file, {"meta": meta, "state_dict": model.state_dict()})
    return file
