"""What the evaluation of all tasks shares."""

from aicore.evaluation.evaluator import Evaluator

__all__ = ["Evaluator"]
