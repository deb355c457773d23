"""What the evaluation of all tasks shares."""

from aicore.evaluation.evaluator import Evaluator
from aicore.evaluation.thresholds import (
    BestF1Threshold,
    FixedThreshold,
    QuantileThreshold,
    Threshold,
    ThresholdRule,
)

__all__ = [
    "BestF1Threshold",
    "Evaluator",
    "FixedThreshold",
    "QuantileThreshold",
    "Threshold",
    "ThresholdRule",
]
