"""Training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aicore.apis.setup import build_runner, default_work_dir, open_config
from aicore.config import without_pretrained
from aicore.engine.checkpoint import checkpoints_in
from aicore.engine.runner import Runner
from aicore.errors import CheckpointError, ConfigError
from aicore.registry import explain_build_errors
from aicore.runtime.files import naming


def train(
    config: str | Path,
    work_dir: str | Path | None = None,
    resume: bool | str | Path = False,
    load_from: str | Path | None = None,
    auto_scale_lr: bool = False,
    options: dict[str, Any] | None = None,
) -> Runner:
    """Trains and validates a model.

    Args:
        config: Config file.
        work_dir: Where logs and checkpoints go; by default ``work_dirs/<config's name>``.
        resume: True to go on from the last checkpoint in ``work_dir``, a path to go on from it.
        load_from: Checkpoint to start the weights from; what does not fit is logged.
        auto_scale_lr: Whether to scale the learning rate by the batch size over all processes,
            relative to the config's ``auto_scale_lr.base_batch_size``.
        options: Overrides of the config, with dotted keys.

    Returns:
        The Runner after training; ``runner.message_hub.get_info('best_ckpt')`` is the best
        checkpoint.
    """
    if resume and load_from:
        raise ConfigError(
            "--resume and --load-from exclude each other: the first goes on with a training, "
            "the second begins a new one from given weights."
        )
    for checkpoint in (resume, load_from):
        if isinstance(checkpoint, str | Path) and not Path(checkpoint).is_file():
            raise CheckpointError(f"checkpoint {str(checkpoint)!r} does not exist.")
    settings = open_config(config, options)
    settings.work_dir = str(work_dir or settings.get("work_dir") or default_work_dir(config))
    settings.resume = str(resume) if isinstance(resume, Path) else resume or settings.resume
    settings.load_from = str(load_from) if load_from else settings.load_from
    if isinstance(settings.resume, str) or (settings.resume and checkpoints_in(settings.work_dir)):
        settings.model = without_pretrained(settings.model)
    if auto_scale_lr:
        if "base_batch_size" not in settings.get("auto_scale_lr", {}):
            raise ConfigError(
                f"{config}: --auto-scale-lr needs auto_scale_lr = dict(base_batch_size=N), the "
                "batch size that the learning rate was chosen for."
            )
        settings.auto_scale_lr.enable = True
    with naming(settings.work_dir):
        runner = build_runner(settings)
        with explain_build_errors(settings):
            runner.train()
    return runner
