"""Parameter groups, their warm-up, and the update itself.

timm's optimisers are registered by :mod:`aicore.engine.optimizers.timm`, which is imported when
the first of them is looked up.
"""

from aicore.engine.optimizers.constructor import OptimizerConstructor
from aicore.engine.optimizers.warmup import GroupWarmupLR
from aicore.engine.optimizers.wrapper import OptimWrapper

__all__ = ["GroupWarmupLR", "OptimWrapper", "OptimizerConstructor"]
