"""Finds objects in images, from python."""

from __future__ import annotations

from aicore.engine.inferencer import Inferencer


class DetectionInferencer(Inferencer):
    """Finds objects in image files and arrays. See :class:`aicore.engine.inferencer.Inferencer`.

    A prediction is ``{'image', 'inspected', 'pred_boxes'}``; the boxes come by falling score, each
    with its ``class``, ``score`` and ``box`` (x, y, width, height in pixels of the image). The
    config's ``task.score_threshold`` decides which are drawn; all are listed.
    """
