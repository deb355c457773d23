"""Checkpoints: the last ones, to go on from, and the best one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from aicore.errors import ConfigError, did_you_mean
from aicore.registry import HOOKS
from aicore.runtime.files import TEMPORARY_SUFFIX


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves the training's state after epochs, within epochs, and the best weights.

    ``epoch_3.pth`` is the state after three epochs, ``epoch_3_iter_20.pth`` after 20 iterations of
    the next. The state after an epoch is saved before its validation, so that nothing is lost if
    the validation fails, and again with its outcome. ``best_<metric>_epoch_3.pth`` holds the
    weights alone. A checkpoint is removed only when the one that takes its place is on the disk.

    Args:
        interval: Epochs between two checkpoints.
        interval_iters: Iterations between two checkpoints within an epoch; 0 for none.
        max_keep_ckpts: How many of the last checkpoints are kept, at least 1. With 2 there is one
            to fall back to when the newest turns out damaged.
        save_best: Name of the metric by which the best weights are chosen; None for none.
        rule: ``greater`` or ``less``, what is better.

    Raises:
        ConfigError: A value is out of its range; or, after the first validation, the metric is
            not among its figures.
    """

    priority = "VERY_LOW"  # after all hooks whose state it saves

    def __init__(
        self,
        interval: int = 1,
        interval_iters: int = 0,
        max_keep_ckpts: int = 2,
        save_best: str | None = None,
        rule: str = "greater",
    ) -> None:
        for name, value, least in (
            ("interval", interval, 1),
            ("interval_iters", interval_iters, 0),
            ("max_keep_ckpts", max_keep_ckpts, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"CheckpointHook.{name} = {value!r}: expected a whole number of at least "
                    f"{least}."
                )
        if rule not in ("greater", "less"):
            raise ConfigError(f"CheckpointHook.rule = {rule!r}: expected 'greater' or 'less'.")
        self.interval = interval
        self.interval_iters = interval_iters
        self.max_keep_ckpts = max_keep_ckpts
        self.save_best = save_best
        self.rule = rule

    def before_train(self, runner: Runner) -> None:
        """Removes what a killed run left half written."""
        if is_main_process():
            for file in Path(runner.work_dir).glob(f".*.pth.*{TEMPORARY_SUFFIX}"):
                file.unlink()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Saves within an epoch; its last iteration is left to :meth:`after_train_epoch`."""
        within = batch_idx + 1 < len(runner.train_dataloader)
        if self.interval_iters and within and self.every_n_train_iters(runner, self.interval_iters):
            self.save(runner, runner.epoch, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Saves the epoch, before its validation."""
        if self._saves_after(runner, runner.epoch + 1):
            pending = runner.train_loop.validates_after(runner.epoch + 1)
            self.save(runner, runner.epoch + 1, runner.iter, validation_pending=pending)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Saves the best weights, and the epoch again with what the validation changed."""
        previous = self._save_if_best(runner, metrics or {})
        if self._saves_after(runner, runner.epoch):
            self.save(runner, runner.epoch, runner.iter)
        self._remove(runner, previous)

    def save(
        self, runner: Runner, epoch: int, iteration: int, validation_pending: bool = False
    ) -> Path:
        """Saves the training's state, and removes the oldest of those it keeps.

        Args:
            runner: The runner.
            epoch: Finished epochs.
            iteration: Finished iterations, since the beginning of the training.
            validation_pending: Whether the validation of the last epoch is still to come.

        Returns:
            The file written.
        """
        batches = iteration - epoch * len(runner.train_dataloader)
        name = f"epoch_{epoch}_iter_{batches}.pth" if batches else f"epoch_{epoch}.pth"
        info = runner.message_hub.runtime_info
        kept = [other for other in info.get("kept_ckpts", []) if other != name]
        surplus = max(len(kept) + 1 - self.max_keep_ckpts, 0)
        runner.message_hub.update_info("kept_ckpts", [*kept[surplus:], name])
        runner.message_hub.update_info("last_ckpt", str(Path(runner.work_dir, name)))
        meta = dict(epoch=epoch, iter=iteration, validation_pending=validation_pending)
        runner.save_checkpoint(runner.work_dir, name, meta=meta)
        for other in kept[:surplus]:
            self._remove(runner, other)
        return Path(runner.work_dir, name)

    def _saves_after(self, runner: Runner, epoch: int) -> bool:
        # Early stopping can make any epoch the last one.
        is_last = epoch == runner.max_epochs or runner.train_loop.stop_training
        return epoch % self.interval == 0 or is_last

    def _save_if_best(self, runner: Runner, metrics: dict[str, float]) -> str | None:
        """Returns the name of the best checkpoint so far, which another has now surpassed."""
        if self.save_best is None:
            return None
        if self.save_best not in metrics:
            raise ConfigError(
                f"monitor = {self.save_best!r} is not among the figures of the validation: "
                f"{', '.join(metrics)}.{did_you_mean(self.save_best, metrics)}"
            )
        hub, score = runner.message_hub, metrics[self.save_best]
        best = hub.runtime_info.get("best_score", -math.inf if self.rule == "greater" else math.inf)
        if not (score > best if self.rule == "greater" else score < best):
            return None
        name = f"best_{self.save_best.replace('/', '_')}_epoch_{runner.epoch}.pth"
        previous = hub.runtime_info.get("best_ckpt")
        hub.update_info("best_score", score)
        hub.update_info("best_ckpt", str(Path(runner.work_dir, name)))
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        runner.save_checkpoint(
            runner.work_dir, name, save_optimizer=False, save_param_scheduler=False, meta=meta
        )
        runner.logger.info(f"Best {self.save_best} so far, {score:.4f}: saved as {name}")
        # By name: the folder can have been moved between two runs.
        return Path(previous).name if previous and Path(previous).name != name else None

    @staticmethod
    def _remove(runner: Runner, name: str | None) -> None:
        if name is not None and is_main_process():
            Path(runner.work_dir, name).unlink(missing_ok=True)
