"""Transforms that every task shares."""

from aicore.datasets.transforms.albu import Albu
from aicore.datasets.transforms.loading import LoadImage
from aicore.datasets.transforms.stretching import Stretch

__all__ = ["Albu", "LoadImage", "Stretch"]
