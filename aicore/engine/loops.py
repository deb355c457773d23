"""The training loop: epochs that can be left and taken up again at any iteration."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from aicore.datasets.seeded import derive_seed, seed_generators
from aicore.engine.checkpoint import require_resumable
from aicore.engine.loading import SeededBatchSampler
from aicore.registry import LOOPS


@LOOPS.register_module()
class TrainLoop(EpochBasedTrainLoop):
    """MMEngine's epochs, each iteration of which depends on nothing that a checkpoint lacks.

    Random numbers of an iteration (dropout, mixup ...) come from the seed, the rank and the
    iteration, those of a sample from :class:`aicore.datasets.seeded.SeededDataset`. So there is no
    state of a random generator to save, and a run that was interrupted at any iteration goes on
    bit for bit as if it had not been, wherever the arithmetic is deterministic.

    See :class:`mmengine.runner.EpochBasedTrainLoop` for the arguments.
    """

    validation_pending = False
    """Whether the epochs so far ended with a validation that has not been run; set by a resume."""

    def run(self) -> nn.Module:
        """Trains and validates until the last epoch, or until a hook sets ``stop_training``."""
        self.runner.call_hook("before_train")
        if self.validation_pending:
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            if self.validates_after(self._epoch):
                self._validate()
        self.runner.call_hook("after_train")
        return self.runner.model

    def validates_after(self, epochs: int) -> bool:
        """Returns whether a validation follows after that many epochs."""
        if self.runner.val_loop is None or epochs < self.val_begin:
            return False
        stage = bisect.bisect(self.dynamic_milestones, epochs + 1) - 1
        return epochs % self.dynamic_intervals[stage] == 0 or epochs == self._max_epochs

    def run_epoch(self) -> None:
        """Trains for one epoch, or for what is left of it."""
        first = self._iter - self._epoch * len(self.dataloader)
        sampler = self.dataloader.batch_sampler
        if isinstance(sampler, SeededBatchSampler):
            sampler.set_position(self._epoch, first)
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for index, data_batch in enumerate(self.dataloader, start=first):
            self.run_iter(index, data_batch)
        self.conclude_epoch()
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def conclude_epoch(self) -> None:
        """Does what is left to do after an epoch's last iteration; nothing here."""

    def take_up(self, checkpoint: dict[str, Any], source: str) -> None:
        """Makes sure that this training can go on from a checkpoint.

        Args:
            checkpoint: What :func:`aicore.engine.checkpoint.read_checkpoint` returned; its position
                (``meta['epoch']``, ``meta['iter']``) may be changed.
            source: The file's name, for the message.

        Raises:
            CheckpointError: It cannot.
        """
        schedulers = self.runner.param_schedulers or ()
        require_resumable(checkpoint, source, len(self.dataloader), len(schedulers))

    def run_iter(self, idx: int, data_batch: Sequence[Any]) -> None:
        """Trains on one batch."""
        seed_generators(derive_seed(self.runner.seed, get_rank(), self._iter))
        super().run_iter(idx, data_batch)

    def _validate(self) -> None:
        self.validation_pending = True
        sampler = self.runner.val_dataloader.batch_sampler
        if isinstance(sampler, SeededBatchSampler):
            sampler.set_position(0)  # every validation sees the same samples
        self.runner.val_loop.run()
        self.validation_pending = False
