"""Stops a training that no longer gets better; the count survives an interruption."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EarlyStoppingHook as BaseEarlyStoppingHook
from mmengine.runner import Runner

from aicore.errors import ConfigError
from aicore.registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(BaseEarlyStoppingHook):
    """MMEngine's, whose counters a checkpoint keeps.

    See :class:`mmengine.hooks.EarlyStoppingHook` for the arguments.
    """

    priority = "LOW"  # before the checkpoint that keeps the counters is saved

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.patience < 1:
            raise ConfigError(
                f"EarlyStoppingHook.patience = {self.patience!r}: expected at least 1, the number "
                "of validations without a better result after which training stops."
            )

    def before_train(self, runner: Runner) -> None:
        """Stops at once if the training that is resumed had come to its end."""
        better, threshold = self.rule_map[self.rule], self.stopping_threshold
        reached = threshold is not None and better(self.best_score, threshold)
        runner.train_loop.stop_training = reached or self.wait_count >= self.patience

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the counters."""
        checkpoint["early_stopping"] = dict(
            wait_count=self.wait_count, best_score=float(self.best_score)
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes the counters of a training that is resumed."""
        if runner._resume and "early_stopping" in checkpoint:
            self.wait_count = checkpoint["early_stopping"]["wait_count"]
            self.best_score = checkpoint["early_stopping"]["best_score"]
