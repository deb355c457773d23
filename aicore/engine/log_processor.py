"""Log lines, with memory on a machine without GPU too."""

from __future__ import annotations

import psutil
import torch
from mmengine.runner import LogProcessor as BaseLogProcessor
from mmengine.runner import Runner

from aicore.registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module()
class LogProcessor(BaseLogProcessor):
    """MMEngine's, which adds the GPU memory; here the process's memory where there is no GPU."""

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Returns the scalars and the line of one iteration; memory in MB."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if not torch.cuda.is_available():
            tag["memory"] = psutil.Process().memory_info().rss // 2**20
            line += f"  memory: {tag['memory']}"
        return tag, line
