"""Unreadable images are listed and counted, and stop the training when they are too many."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from aicore.datasets.bad_images import BadImageLog
from aicore.datasets.base import base_datasets
from aicore.registry import HOOKS


@HOOKS.register_module()
class BadImageHook(Hook):
    """Gives every data set its list of unreadable images, ``work_dir/bad_images.txt``.

    Args:
        max_share: Share of the training images in [0, 1] that may be unreadable. Above it the
            run stops. Evaluation counts such images as not inspected and goes on.
    """

    def __init__(self, max_share: float = 0.05) -> None:
        self.max_share = max_share

    @master_only
    def before_run(self, runner: Runner) -> None:
        """Begins a new list."""
        self._file(runner).unlink(missing_ok=True)

    def before_train(self, runner: Runner) -> None:
        """Before the workers start: they take a copy of the data set."""
        self._attach(runner, runner.train_dataloader, "train", self.max_share)

    def before_val(self, runner: Runner) -> None:
        """As before training, without a limit."""
        self._attach(runner, runner.val_dataloader, "val", None)

    def before_test(self, runner: Runner) -> None:
        """As before training, without a limit."""
        self._attach(runner, runner.test_dataloader, "test", None)

    def after_train_epoch(self, runner: Runner) -> None:
        """Logs how many training images could not be read so far."""
        parts = list(base_datasets(runner.train_dataloader.dataset))
        count = len(parts[0].bad_images.paths()) if parts else 0
        if count:
            fate = "replaced by others" if parts[0].replaces_unreadable else "left out"
            runner.logger.warning(
                f"{count} of {sum(map(len, parts))} training images cannot be read and were "
                f"{fate}; listed in {self._file(runner)}"
            )

    def _attach(
        self, runner: Runner, loader: DataLoader, split: str, max_share: float | None
    ) -> None:
        parts = list(base_datasets(loader.dataset))  # they share the list, and so the limit
        total = sum(map(len, parts))
        for dataset in parts:
            if dataset.bad_images is None:
                dataset.bad_images = BadImageLog(self._file(runner), split, total, max_share)

    @staticmethod
    def _file(runner: Runner) -> Path:
        return Path(runner.work_dir) / "bad_images.txt"
