"""What the data sets of all tasks share."""

from aicore.datasets.base import InspectionDataset, base_datasets
from aicore.datasets.sampler import ClassBalancedSampler
from aicore.datasets.transforms import Albu, LoadImage

__all__ = ["Albu", "ClassBalancedSampler", "InspectionDataset", "LoadImage", "base_datasets"]
