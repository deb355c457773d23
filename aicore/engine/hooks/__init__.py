"""Hooks, one a file."""

from aicore.engine.hooks.bad_image_hook import BadImageHook
from aicore.engine.hooks.dataset_check_hook import DatasetCheckHook
from aicore.engine.hooks.progress_hook import ProgressHook
from aicore.engine.hooks.report_hook import ReportHook
from aicore.engine.hooks.summary_hook import SummaryHook

__all__ = ["BadImageHook", "DatasetCheckHook", "ProgressHook", "ReportHook", "SummaryHook"]
