"""MMEngine's Runner, with checkpoints that are read safely and fitted openly."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner as BaseRunner

from aicore.engine.checkpoint import load_weights, read_checkpoint
from aicore.errors import CheckpointError
from aicore.registry import RUNNERS

# Pages that belong in the log file, and a note on MMEngine's own use of its old file client.
_NOT_FOR_THE_CONSOLE = (
    "\n" + "-" * 60 + "\nSystem environment",
    "Config:\n",
    "Distributed training is not used, all SyncBatchNorm",
    "Hooks will be executed in the following order",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)


def _for_the_console(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NOT_FOR_THE_CONSOLE)


@RUNNERS.register_module()
class Runner(BaseRunner):
    """Drives training and testing; see :class:`mmengine.runner.Runner` for the arguments.

    Testing and resuming need a checkpoint that fits the model in full: a checkpoint of another
    model would otherwise give random results without a word. Fine-tuning (``load_from``) takes
    what fits and logs the rest.
    """

    _strict = False

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Builds the logger; long dumps go to the file only."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(_for_the_console)
        return logger

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Builds the schedulers that last longer than one step.

        So ``warmup_epochs = 0`` and ``max_epochs = 1`` work. A warm-up of one step would be worse
        than none: MMEngine's leaves the learning rate at its start for good.
        """
        if isinstance(scheduler, list | tuple):
            scheduler = [item for item in scheduler if self._steps(item) > 1]
        return super().build_param_scheduler(scheduler)

    def _steps(self, scheduler: Any) -> float:
        """Returns for how many of its steps (epochs or iterations) a scheduler's config is on."""
        if not isinstance(scheduler, dict):
            return math.inf
        begin, end = scheduler.get("begin", 0), scheduler.get("end", math.inf)
        if scheduler.get("convert_to_iter_based") and end < math.inf:
            length = len(self.train_dataloader)
            return int(end * length) - int(begin * length)
        return end - begin

    def test(self) -> dict[str, Any]:
        """Tests the model; returns the metrics."""
        self._strict = True
        return super().test()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resumes training from a checkpoint that holds the optimiser's state."""
        self._strict = True
        super().resume(filename, *args, **kwargs)
        self._strict = False

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | torch.device | Callable = "cpu",
        strict: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Loads weights, and returns the whole checkpoint.

        Raises:
            CheckpointError: The file cannot be read, or does not fit where it has to.
        """
        checkpoint = read_checkpoint(filename, map_location)
        if self._resume and "optimizer" not in checkpoint:
            raise CheckpointError(
                f"checkpoint {str(filename)!r} holds weights only, training cannot be resumed "
                "from it. Use --load-from to start from these weights."
            )
        # MMEngine's resume would run a config text found here as python.
        checkpoint["meta"].pop("config", None)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        fit = load_weights(self.model, checkpoint, strict or self._strict, str(filename))
        self._has_loaded = True
        self.logger.info(f"Loaded checkpoint {filename}")
        if not fit:
            self.logger.warning(
                f"Not all weights of {filename} fit the model; these start from their "
                f"initial values or are left out: {fit}"
            )
        return checkpoint
