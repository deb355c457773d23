"""Checks of a data set: the full one of ``tools/data/check_dataset.py``, and its quick part."""

from aicore.datasets.check.full import check_config
from aicore.datasets.check.records import Split, read_split
from aicore.datasets.check.report import Problem, Report, SplitFigures

__all__ = ["Problem", "Report", "Split", "SplitFigures", "check_config", "read_split"]
