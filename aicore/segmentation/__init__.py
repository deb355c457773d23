"""Semantic segmentation."""

from aicore.segmentation.datasets import SegmentationDataset
from aicore.segmentation.inferencer import SegmentationInferencer
from aicore.segmentation.metrics import SegmentationMetric
from aicore.segmentation.models import (
    EncoderDecoder,
    SegmentationPreprocessor,
    UNetHead,
    UNetPlusPlusHead,
)
from aicore.segmentation.task import Segmentation, to_class_map
from aicore.segmentation.transforms import LoadMask, RandomClassCrop

__all__ = [
    "EncoderDecoder",
    "LoadMask",
    "RandomClassCrop",
    "Segmentation",
    "SegmentationDataset",
    "SegmentationInferencer",
    "SegmentationMetric",
    "SegmentationPreprocessor",
    "UNetHead",
    "UNetPlusPlusHead",
    "to_class_map",
]
