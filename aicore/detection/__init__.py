"""Object detection."""

from aicore.detection.cropping import RandomBoxCrop
from aicore.detection.datasets import DetectionDataset
from aicore.detection.inferencer import DetectionInferencer
from aicore.detection.loading import LoadBoxes
from aicore.detection.metrics import DetectionMetric
from aicore.detection.models import YOLOX, DetectionPreprocessor, SimOTAAssigner
from aicore.detection.mosaic import MixUp, Mosaic
from aicore.detection.mosaic_switch_hook import MosaicSwitchHook
from aicore.detection.others import LoadOthers
from aicore.detection.task import Detection
from aicore.detection.transforms import Letterbox, RandomFlip, RandomHSV

__all__ = [
    "YOLOX",
    "Detection",
    "DetectionDataset",
    "DetectionInferencer",
    "DetectionMetric",
    "DetectionPreprocessor",
    "Letterbox",
    "LoadBoxes",
    "LoadOthers",
    "MixUp",
    "Mosaic",
    "MosaicSwitchHook",
    "RandomBoxCrop",
    "RandomFlip",
    "RandomHSV",
    "SimOTAAssigner",
]
