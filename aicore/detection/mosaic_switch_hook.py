"""The last epochs of a YOLOX training: plain images, and the L1 loss added."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from aicore.datasets.base import base_datasets
from aicore.detection.datasets import DetectionDataset
from aicore.engine.distributed import plain_model
from aicore.errors import ConfigError
from aicore.registry import HOOKS


@HOOKS.register_module()
class MosaicSwitchHook(Hook):
    """Ends mosaic and mixup some epochs before the training ends, and adds the L1 loss.

    Both follow from the epoch alone, so nothing has to be kept in a checkpoint and a resumed
    training is right from its first iteration on. The epoch reaches the data workers with every
    sample that they are asked for (:class:`aicore.datasets.seeded.Draw`): persistent workers
    switch too, and none switches early for what it prepares ahead.

    Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021.

    Example:
        >>> custom_hooks = [dict(type="aicore.MosaicSwitchHook", last_epochs=15)]

    Args:
        last_epochs: Epochs before the end without mosaic and mixup; 0: mixed to the end, and
            no L1 loss.

    Raises:
        ConfigError: ``last_epochs`` is negative or no whole number; or there is nothing to switch,
            neither in the training data nor in the model.
    """

    def __init__(self, last_epochs: int = 15) -> None:
        if type(last_epochs) is not int or last_epochs < 0:
            raise ConfigError(
                f"MosaicSwitchHook.last_epochs = {last_epochs!r}: expected a whole number of "
                "epochs from 0 on."
            )
        self.last_epochs = last_epochs

    def before_train(self, runner: Runner) -> None:
        """Tells the data sets, before their workers are started, and the model."""
        head = getattr(plain_model(runner.model), "bbox_head", None)
        datasets = [
            dataset
            for dataset in base_datasets(runner.train_dataloader.dataset)
            if isinstance(dataset, DetectionDataset)
        ]
        if not datasets or not hasattr(head, "use_l1"):
            raise ConfigError(
                "MosaicSwitchHook: expected a training on aicore.DetectionDataset of a model with "
                "aicore.YOLOXHead; found neither mosaic nor L1 loss to switch. Take the hook out "
                "of custom_hooks."
            )
        for dataset in datasets:
            dataset.mosaic_epochs = self._mosaic_epochs(runner)
        # A resume may begin with the validation that was due: the model is right before it too.
        self._switch(runner, max(runner.iter - 1, 0) // len(runner.train_dataloader))

    def before_train_epoch(self, runner: Runner) -> None:
        """Adds the L1 loss in the last epochs."""
        if runner.epoch == self._mosaic_epochs(runner):
            runner.logger.info("MosaicSwitchHook: from here on no mosaic and mixup, L1 loss added.")
        self._switch(runner, runner.epoch)

    def _mosaic_epochs(self, runner: Runner) -> int:
        return max(runner.max_epochs - self.last_epochs, 0)

    def _switch(self, runner: Runner, epoch: int) -> None:
        plain_model(runner.model).bbox_head.use_l1 = epoch >= self._mosaic_epochs(runner)
