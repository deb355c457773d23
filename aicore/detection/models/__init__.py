"""The models of object detection: YOLOX, its parts, and how objects are made of its outputs."""

from aicore.detection.models.assigner import SimOTAAssigner
from aicore.detection.models.backbone import CSPDarknet
from aicore.detection.models.head import YOLOXHead
from aicore.detection.models.tta import DetectionTTA
from aicore.detection.models.yolox import YOLOX, DetectionPreprocessor

__all__ = [
    "YOLOX",
    "CSPDarknet",
    "DetectionPreprocessor",
    "DetectionTTA",
    "SimOTAAssigner",
    "YOLOXHead",
]
