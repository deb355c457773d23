"""Finds anomalies in images, from python."""

from __future__ import annotations

from aicore.engine.inferencer import Inferencer


class AnomalyInferencer(Inferencer):
    """Finds anomalies in image files and arrays. See :class:`aicore.engine.inferencer.Inferencer`.

    A prediction is ``{'image', 'inspected', 'prediction', 'pred_distance', 'pred_ng_score',
    'pred_threshold', 'pred_map', 'pred_mask', 'pred_regions'}``, as
    :meth:`aicore.anomaly.task.AnomalyDetection.record` says, the last two only with a threshold;
    the inferencer's ``task.maps(prediction)`` makes arrays of it.
    """
