"""What the tools call: train, test, infer."""

from aicore.apis.infer import infer
from aicore.apis.setup import open_config
from aicore.apis.test import test
from aicore.apis.train import train

__all__ = ["infer", "open_config", "test", "train"]
