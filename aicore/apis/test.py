"""Testing a checkpoint on the config's test data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from aicore.apis.setup import build_runner, default_work_dir, open_config
from aicore.config import without_pretrained
from aicore.engine.checkpoint import read_checkpoint
from aicore.errors import ConfigError
from aicore.registry import explain_build_errors
from aicore.runtime.files import naming


def test(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path | None = None,
    tta: bool = False,
    options: dict[str, Any] | None = None,
    trust: bool = False,
) -> dict[str, float]:
    """Tests a checkpoint; writes predictions, metrics and pictures.

    Args:
        config: Config file.
        checkpoint: Weights to test; every one has to fit the model.
        out: Where results go; by default ``work_dirs/<config's name>/test``.
        tta: Whether to average over the config's test-time augmentations.
        options: Overrides of the config, with dotted keys.
        trust: Whether to read a checkpoint that could run code of its author's.

    Returns:
        The metrics.
    """
    content = read_checkpoint(checkpoint, trust=trust)
    settings = open_config(config, options, content, str(checkpoint))
    settings.work_dir = str(out or default_work_dir(config, "test"))
    settings.load_from = str(checkpoint)
    settings.resume = False
    settings.trust_checkpoint = trust
    settings.model = without_pretrained(settings.model)
    if tta:
        _use_tta(settings)
    with naming(settings.work_dir):
        runner = build_runner(settings)
        with explain_build_errors(settings):
            return runner.test()


def _use_tta(config: Config) -> None:
    """Puts the config's test-time augmentation in place of its plain test."""
    missing = [key for key in ("tta_model", "tta_pipeline") if not config.get(key)]
    if missing:
        raise ConfigError(f"{config.filename}: --tta needs {' and '.join(missing)} in the config.")
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.model = ConfigDict(**config.tta_model, module=config.model)
