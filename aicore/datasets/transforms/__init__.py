"""Transforms that every task shares."""

from aicore.datasets.transforms.albu import Albu
from aicore.datasets.transforms.loading import LoadImage

__all__ = ["Albu", "LoadImage"]
