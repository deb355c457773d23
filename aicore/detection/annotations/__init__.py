"""Annotation files of boxes: Pascal VOC, COCO, YOLO and labelme, read to one form."""

from aicore.detection.annotations.boxes import AnnotatedImage, Annotations, Box, clip, fault_of
from aicore.detection.annotations.formats import FORMATS, Format, read_annotations
from aicore.detection.annotations.layout import Layout

__all__ = [
    "FORMATS",
    "AnnotatedImage",
    "Annotations",
    "Box",
    "Format",
    "Layout",
    "clip",
    "fault_of",
    "read_annotations",
]
