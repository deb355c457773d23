"""What the data sets of all tasks share."""

from aicore.datasets.base import InspectionDataset, base_datasets
from aicore.datasets.transforms import Albu, LoadImage

__all__ = ["Albu", "InspectionDataset", "LoadImage", "base_datasets"]
