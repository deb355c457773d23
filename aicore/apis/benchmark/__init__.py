"""What things cost beside their peers: trainings, the moving average.

What one task alone has stands in a module of its own (``segmentation``), so that the others do not
import its host library.
"""

from aicore.apis.benchmark.ema import benchmark_ema
from aicore.apis.benchmark.report import Report
from aicore.apis.benchmark.training import benchmark_training

__all__ = ["Report", "benchmark_ema", "benchmark_training"]
