"""Batch normalisation of a single value per channel, as a batch of one image can leave it."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNormHook(Hook):
    """Lets batch norm use its running statistics in training where there is nothing to average.

    A batch of one image (the last one of an epoch, say) has a single value per channel where the
    whole image is pooled, or where the feature map of a small image is one pixel. torch raises an
    error then, since normalised by itself that value would be 0 whatever the image shows.
    Registered by the Runner.
    """

    def __init__(self) -> None:
        self._switched: set[_BatchNorm] = set()
        self._told = False

    def before_train(self, runner: Runner) -> None:
        """Attaches itself to the layers, until the end of the training."""
        for module in runner.model.modules():
            # That of several processes averages over their images.
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                for handle in (
                    module.register_forward_pre_hook(self._enter),
                    module.register_forward_hook(self._leave),
                ):
                    runner.on_exit.callback(handle.remove)

    def _enter(self, module: _BatchNorm, inputs: tuple[Tensor]) -> None:
        if module.training and inputs[0].numel() == inputs[0].shape[1]:
            module.training = False
            self._switched.add(module)
            self._tell()

    def _leave(self, module: _BatchNorm, *_: Any) -> None:
        if module in self._switched:
            module.training = True
            self._switched.remove(module)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            print_log(
                "A batch has a single value per channel in a batch norm, which uses its running "
                "statistics instead: with batches of one image, or images this small, it learns "
                "no statistics of the data there. Raise batch_size or image_size.",
                logger="current",
                level=logging.WARNING,
            )
