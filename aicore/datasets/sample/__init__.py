"""The embedded sample data: pictures of machined parts with defects, drawn from a seed."""

from aicore.datasets.sample.layouts import make_sample
from aicore.datasets.sample.part import CLASSES, DEFECTS, Part, draw_part

__all__ = ["CLASSES", "DEFECTS", "Part", "draw_part", "make_sample"]
