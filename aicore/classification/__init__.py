"""Image classification."""

from aicore.classification.datasets import ClassificationDataset
from aicore.classification.inferencer import ClassificationInferencer
from aicore.classification.models import TimmClassifier
from aicore.classification.task import Classification

__all__ = [
    "Classification",
    "ClassificationDataset",
    "ClassificationInferencer",
    "TimmClassifier",
]
