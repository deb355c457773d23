"""Hooks, one a file."""

from aicore.engine.hooks.bad_image_hook import BadImageHook
from aicore.engine.hooks.checkpoint_hook import CheckpointHook
from aicore.engine.hooks.dataset_check_hook import DatasetCheckHook
from aicore.engine.hooks.early_stopping_hook import EarlyStoppingHook
from aicore.engine.hooks.ema_hook import EMAHook
from aicore.engine.hooks.graceful_stop_hook import GracefulStopHook
from aicore.engine.hooks.invalid_loss_hook import InvalidLossHook
from aicore.engine.hooks.loss_switch_hook import LossSwitchHook
from aicore.engine.hooks.multi_scale_hook import MultiScaleHook
from aicore.engine.hooks.progress_hook import ProgressHook
from aicore.engine.hooks.report_hook import ReportHook
from aicore.engine.hooks.summary_hook import SummaryHook

__all__ = [
    "BadImageHook",
    "CheckpointHook",
    "DatasetCheckHook",
    "EMAHook",
    "EarlyStoppingHook",
    "GracefulStopHook",
    "InvalidLossHook",
    "LossSwitchHook",
    "MultiScaleHook",
    "ProgressHook",
    "ReportHook",
    "SummaryHook",
]
