"""Anomaly detection."""

from aicore.anomaly.datasets import AnomalyDataset
from aicore.anomaly.detector import AnomalyDetector, AnomalyPreprocessor
from aicore.anomaly.inferencer import AnomalyInferencer
from aicore.anomaly.metrics import AnomalyMetric
from aicore.anomaly.padim import PaDiM
from aicore.anomaly.statistics import GaussianStatistics
from aicore.anomaly.task import AnomalyDetection
from aicore.anomaly.threshold_hook import ThresholdHook
from aicore.anomaly.transforms import LoadDefectMask, LoadROI, PackAnomaly

__all__ = [
    "AnomalyDataset",
    "AnomalyDetection",
    "AnomalyDetector",
    "AnomalyInferencer",
    "AnomalyMetric",
    "AnomalyPreprocessor",
    "GaussianStatistics",
    "LoadDefectMask",
    "LoadROI",
    "PaDiM",
    "PackAnomaly",
    "ThresholdHook",
]
