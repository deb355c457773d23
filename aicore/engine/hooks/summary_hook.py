"""The last lines of a training: the best result, and where the checkpoints lie."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from aicore.registry import HOOKS


@HOOKS.register_module()
class SummaryHook(Hook):
    """Logs the best result and the paths of the best and the last checkpoint.

    Args:
        monitor: Name of the metric that ``CheckpointHook`` takes for the best.
    """

    priority = "LOWEST"  # after CheckpointHook has saved the last epoch

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def after_train(self, runner: Runner) -> None:
        """Logs the summary."""
        info = runner.message_hub.runtime_info
        if "best_score" in info:
            runner.logger.info(
                f"Best {self.monitor}: {info['best_score']:.4f}, checkpoint: {info['best_ckpt']}"
            )
        if "last_ckpt" in info:
            runner.logger.info(f"Last checkpoint: {info['last_ckpt']}")
