"""The first step of every run: the config, its sample data, the Runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS

from aicore.config import load_config
from aicore.datasets.sample import make_sample
from aicore.engine.checkpoint import config_for_checkpoint
from aicore.engine.resources import explain_exhaustion
from aicore.engine.runner import Runner
from aicore.registry import explain_build_errors


def open_config(
    path: str | Path,
    options: dict[str, Any] | None = None,
    checkpoint: dict[str, Any] | None = None,
    source: str = "",
) -> Config:
    """Reads a config; writes the sample data first where the config stands on it.

    Args:
        path: Config file.
        options: Overrides with dotted keys.
        checkpoint: What it is to be tested with, see
            :func:`aicore.engine.checkpoint.config_for_checkpoint`.
        source: The checkpoint's name, for messages.
    """
    if checkpoint is None:
        config = load_config(path, options)
    else:
        config = config_for_checkpoint(path, checkpoint, source, options)
    if config.get("sample_data"):
        make_sample(Path(config.sample_data), **config.get("sample_settings", {}))
    return config


def build_runner(config: Config) -> Runner:
    """Builds the Runner that the config names."""
    # MMEngine gives runs of one name that begin in the same second one log and one message hub.
    if "experiment_name" not in config:
        stem, folder = Path(config.filename).stem, Path(config.work_dir).resolve().name
        config.experiment_name = f"{stem}-{folder}"
    with explain_exhaustion(), explain_build_errors(config):
        return RUNNERS.build(config)


def default_work_dir(config_path: str | Path, stage: str = "") -> str:
    """Returns ``work_dirs/<config's name>[/<stage>]``."""
    return str(Path("work_dirs") / Path(config_path).stem / stage)
