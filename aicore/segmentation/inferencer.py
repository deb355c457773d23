"""Segments images, from python."""

from __future__ import annotations

from aicore.engine.inferencer import Inferencer


class SegmentationInferencer(Inferencer):
    """Segments image files and arrays. See :class:`aicore.engine.inferencer.Inferencer`.

    A prediction is ``{'image', 'inspected', 'prediction', 'pred_regions'}``;
    ``prediction`` becomes an array of class indices by :func:`aicore.segmentation.to_class_map`.
    """
