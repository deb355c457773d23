"""Checkpoints: the last ones, to go on from, and the best one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from aicore.engine.checkpoint import checkpoints_in, position_of
from aicore.engine.distributed import broadcast_object
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
        """Tidies the folder of what is not this training's.

        Checkpoints beyond the position at which it begins are of an earlier training, or of one
        that went on from here in another way. They go into a folder of their own, lest a later
        ``--resume`` take them for this one's.
        """
        work_dir = Path(runner.work_dir)
        self._bring_best(runner)
        if not is_main_process():
            return
        for file in work_dir.glob(f".*.pth.*{TEMPORARY_SUFFIX}"):  # a killed run's
            file.unlink()
        here = (runner.epoch, runner.iter - runner.epoch * len(runner.train_dataloader))
        later = [file for file in work_dir.glob("*.pth") if (position_of(file) or here) > here]
        if later:
            folder = work_dir / f"earlier_{runner.timestamp}"
            folder.mkdir()
            for file in later:
                file.rename(folder / file.name)
            runner.logger.warning(
                f"{len(later)} checkpoints of an earlier training were moved to {folder}"
            )

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
        best = self._save_if_best(runner, metrics or {})
        if self._saves_after(runner, runner.epoch):
            self.save(runner, runner.epoch, runner.iter)
        if best is not None and is_main_process():
            for file in best.parent.glob(f"{self._best_name('*')}"):
                if file != best:
                    file.unlink()

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
        file = Path(runner.work_dir, name)
        runner.message_hub.update_info("last_ckpt", str(file))
        meta = dict(epoch=epoch, iter=iteration, validation_pending=validation_pending)
        runner.save_checkpoint(runner.work_dir, name, meta=meta)
        if is_main_process():
            for old in checkpoints_in(runner.work_dir)[self.max_keep_ckpts :]:
                old.unlink()
        return file

    def _bring_best(self, runner: Runner) -> None:
        """Copies the best weights so far here, where the training was resumed from elsewhere."""
        info = runner.message_hub.runtime_info
        if "best_ckpt" not in info:
            return
        best = Path(info["best_ckpt"])
        here = Path(runner.work_dir, best.name)

        def bring() -> bool:
            if best.is_file() and best.resolve() != here.resolve():
                shutil.copyfile(best, here)
            return here.is_file()

        if broadcast_object(bring):
            runner.message_hub.update_info("best_ckpt", str(here))
            return
        runner.logger.warning(
            f"The best weights so far, {best}, are not there any more: the next validation's are "
            "the best ones anew."
        )
        for name in ("best_ckpt", "best_score"):
            info.pop(name, None)

    def _saves_after(self, runner: Runner, epoch: int) -> bool:
        # Early stopping can make any epoch the last one.
        is_last = epoch == runner.max_epochs or runner.train_loop.stop_training
        return epoch % self.interval == 0 or is_last

    def _best_name(self, epoch: int | str) -> str:
        return f"best_{str(self.save_best).replace('/', '_')}_epoch_{epoch}.pth"

    def _save_if_best(self, runner: Runner, metrics: dict[str, float]) -> Path | None:
        """Saves the weights if they are the best so far; returns the file."""
        if self.save_best is None:
            return None
        if self.save_best not in metrics:
            raise ConfigError(
                f"monitor = {self.save_best!r} is not among the figures of the validation: "
                f"{', '.join(metrics)}.{did_you_mean(self.save_best, metrics)}"
            )
        hub, score = runner.message_hub, metrics[self.save_best]
        if math.isnan(score):
            runner.logger.warning(
                f"{self.save_best} is not defined for the validation data (NaN), so no checkpoint "
                "can be called the best. Does the validation split have any label?"
            )
            return None
        best = hub.runtime_info.get("best_score", -math.inf if self.rule == "greater" else math.inf)
        if not (score > best if self.rule == "greater" else score < best):
            return None
        file = Path(runner.work_dir, self._best_name(runner.epoch))
        hub.update_info("best_score", score)
        hub.update_info("best_ckpt", str(file))
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        runner.save_checkpoint(
            runner.work_dir,
            file.name,
            save_optimizer=False,
            save_param_scheduler=False,
            meta=meta,
        )
        runner.logger.info(f"Best {self.save_best} so far, {score:.4f}: saved as {file.name}")
        return file
