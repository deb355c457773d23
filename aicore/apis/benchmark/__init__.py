"""What the shared engine costs and gains: whole trainings, and the moving average alone."""

from aicore.apis.benchmark.ema import benchmark_ema
from aicore.apis.benchmark.report import Report
from aicore.apis.benchmark.training import benchmark_training

__all__ = ["Report", "benchmark_ema", "benchmark_training"]
