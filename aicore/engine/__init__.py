"""What the training and testing of all tasks share."""

from aicore.engine.hooks import (
    BadImageHook,
    DatasetCheckHook,
    ProgressHook,
    ReportHook,
    SummaryHook,
)
from aicore.engine.log_processor import LogProcessor
from aicore.engine.runner import Runner

__all__ = [
    "BadImageHook",
    "DatasetCheckHook",
    "LogProcessor",
    "ProgressHook",
    "ReportHook",
    "Runner",
    "SummaryHook",
]
