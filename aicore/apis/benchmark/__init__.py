"""What things cost beside their peers: trainings, the moving average, a task's own parts."""

from aicore.apis.benchmark.ema import benchmark_ema
from aicore.apis.benchmark.report import Report
from aicore.apis.benchmark.segmentation import benchmark_segmentation
from aicore.apis.benchmark.training import benchmark_training

__all__ = ["Report", "benchmark_ema", "benchmark_segmentation", "benchmark_training"]
