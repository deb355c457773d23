"""What the training and testing of all tasks share."""

from aicore.engine import hooks
from aicore.engine.fitting import FitConstructor, FitLoop, FitWrapper
from aicore.engine.log_processor import LogProcessor
from aicore.engine.loops import TrainLoop
from aicore.engine.optimizers import GroupWarmupLR, OptimizerConstructor, OptimWrapper
from aicore.engine.runner import Runner

__all__ = [
    "FitConstructor",
    "FitLoop",
    "FitWrapper",
    "GroupWarmupLR",
    "LogProcessor",
    "OptimWrapper",
    "OptimizerConstructor",
    "Runner",
    "TrainLoop",
    "hooks",
]
