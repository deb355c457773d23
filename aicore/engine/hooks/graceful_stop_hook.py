"""SIGTERM or SIGINT: finish the iteration, save, and exit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from aicore.engine.distributed import any_rank, control_group, stop_launcher
from aicore.engine.hooks.checkpoint_hook import CheckpointHook
from aicore.registry import HOOKS

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 60  # seconds


@HOOKS.register_module()
class GracefulStopHook(Hook):
    """Ends a training that is asked to: what a scheduler, a container or Ctrl-C sends.

    The iteration is finished, a checkpoint is saved, and the process exits with 143 (SIGTERM) or
    130 (SIGINT); ``--resume`` goes on from there. Several processes stop together, whichever of
    them is asked. A second Ctrl-C stops at once, without saving. So does, on Linux and macOS, a
    batch that does not come within a minute (a network drive that hangs, say).

    A test has nothing to go on from: SIGTERM ends it at once, and as orderly as Ctrl-C.
    """

    priority = "LOWEST"  # when all other hooks have finished the iteration

    def __init__(self) -> None:
        self._received = 0
        self._training = False
        self._group: Any = None
        self._common_batches = 0
        self._awaits_batch = False
        self._logger: Any = None

    def before_train(self, runner: Runner) -> None:
        """Takes over both signals, before the data workers start."""
        self._group = control_group()
        self._training = True
        self._logger = runner.logger
        for number in _SIGNALS:
            _handle(runner, number, self._receive)
        if hasattr(signal, "alarm"):
            _handle(runner, signal.SIGALRM, self._give_up)
            runner.on_exit.callback(signal.alarm, 0)

    def before_test(self, runner: Runner) -> None:
        """Takes over SIGTERM, which else ends the process without a chance to write anything."""
        _handle(runner, signal.SIGTERM, _exit)

    def before_train_epoch(self, runner: Runner) -> None:
        """The first batch is read next."""
        self._awaits_batch = True

    before_val_epoch = before_train_epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """A batch has come."""
        self._awaits_batch = False

    before_val_iter = before_train_iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Saves and exits, if asked to."""
        self._awaits_batch = batch_idx + 1 < len(runner.train_dataloader)
        if self._is_asked():
            self._stop(runner, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Finds out how many batches every process has: the last one can be short of one."""
        count = torch.tensor(len(runner.val_dataloader))
        all_reduce(count, op="min")
        self._common_batches = int(count)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Saves and exits, if asked to; the validation is run again after a resume."""
        self._awaits_batch = batch_idx + 1 < len(runner.val_dataloader)
        if self._training and batch_idx < self._common_batches and self._is_asked():
            self._stop(runner, runner.iter, validation_pending=True)

    def after_train(self, runner: Runner) -> None:
        """Validations from here on stand alone: there is nothing to save."""
        self._training = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number
        if hasattr(signal, "alarm"):
            signal.alarm(_PATIENCE)

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        if not self._awaits_batch:  # what is being computed comes to an end
            signal.alarm(_PATIENCE)
            return
        asked = signal.Signals(self._received)
        self._logger.warning(
            f"Stopped by {asked.name} without saving: no batch has come for {_PATIENCE} s; "
            "--resume goes on from the last checkpoint"
        )
        raise SystemExit(128 + asked)

    def _is_asked(self) -> bool:
        return any_rank(bool(self._received), self._group)

    def _stop(self, runner: Runner, iteration: int, validation_pending: bool = False) -> None:
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        number = signal.SIGINT
        if any_rank(self._received == signal.SIGTERM, self._group):
            number = signal.SIGTERM
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        files = [h.save(runner, runner.epoch, iteration, validation_pending) for h in hooks]
        saved = f"; go on with --resume from {files[0]}" if files else ""
        runner.logger.warning(f"Stopped by {number.name} after {iteration} iterations{saved}")
        # Where all processes were asked, torchrun was too, and knows.
        if any_rank(not self._received, self._group):
            stop_launcher(number)
        raise SystemExit(128 + number)


def _handle(runner: Runner, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
    """Handles a signal until the end of the training or test."""
    if threading.current_thread() is threading.main_thread():  # python hands signals to no other
        runner.on_exit.callback(signal.signal, number, signal.signal(number, handler))


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
