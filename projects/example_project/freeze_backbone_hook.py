"""The backbone rests in the first epochs, until the new head has found its place."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from aicore.registry import HOOKS


@HOOKS.register_module()
class FreezeBackboneHook(Hook):
    """Freezes ``model.backbone`` in the first epochs of a fine-tuning.

    A pure function of the epoch, so that a resumed training does the same.

    Args:
        epochs: Number of epochs in which the backbone's weights stay as they are.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def before_train_epoch(self, runner: Runner) -> None:
        """Freezes or releases the weights."""
        runner.model.backbone.requires_grad_(runner.epoch >= self.epochs)
