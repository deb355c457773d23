"""The same running statistics in all processes, after every iteration."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from aicore.engine.distributed import average_buffers


class SyncBuffersHook(Hook):
    """Averages the model's float buffers over the processes.

    So all of them hold the same model at any time, whichever of them saves it. Registered by the
    Runner where there are several processes.
    """

    priority = 45  # after InvalidLossHook has mended buffers, before EMAHook averages them

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Averages the buffers."""
        average_buffers(runner.model)
