"""A progress bar where the output is a terminal; elsewhere the log's plain lines are enough."""

from __future__ import annotations

import sys
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from aicore.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows a bar for a whole training, validation included, or a test, with the time left."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def before_train(self, runner: Runner) -> None:
        """Opens the bar over all iterations."""
        self._open(runner, "train", runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Moves on by an iteration and shows the epoch and the loss."""
        if self._bar is not None:
            loss = (outputs or {}).get("loss")
            self._bar.set_postfix_str(
                f"epoch {runner.epoch + 1}/{runner.max_epochs}"
                + (f", loss {float(loss):.4f}" if loss is not None else ""),
                refresh=False,
            )
            self._bar.update()

    def before_test(self, runner: Runner) -> None:
        """Opens the bar over all batches."""
        self._open(runner, "test", len(runner.test_dataloader), 0)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Moves on by a batch."""
        if self._bar is not None:
            self._bar.update()

    def _open(self, runner: Runner, name: str, total: int, done: int) -> None:
        if not (sys.stderr.isatty() and is_main_process()):
            return
        # Log lines go above the bar instead of through it.
        runner.on_exit.enter_context(logging_redirect_tqdm([runner.logger]))
        bar = tqdm(total=total, initial=done, desc=name, dynamic_ncols=True)
        self._bar = runner.on_exit.enter_context(bar)
