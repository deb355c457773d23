"""What the tools call: train, test, infer, and what shows data, logs and models."""

from aicore.apis.browse import browse
from aicore.apis.convert import convert_weights
from aicore.apis.flops import measure_complexity
from aicore.apis.infer import infer
from aicore.apis.logs import plot_logs
from aicore.apis.publish import publish_model
from aicore.apis.setup import open_config
from aicore.apis.test import test
from aicore.apis.train import train

__all__ = [
    "browse",
    "convert_weights",
    "infer",
    "measure_complexity",
    "open_config",
    "plot_logs",
    "publish_model",
    "test",
    "train",
]
