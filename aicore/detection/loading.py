"""Boxes of a record as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from aicore.errors import DataError
from aicore.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadBoxes(BaseTransform):
    """Sets the boxes of a record of :class:`aicore.DetectionDataset` as arrays.

    A record without ``instances``, such as an image in a demo, stays as it is. In a test pipeline
    it stands behind the transforms of the image: predictions are compared in the original size.

    Required keys: ``instances``, or not; ``faults`` is heeded. Set keys: ``gt_bboxes`` (N x 4
    float32; x1, y1, x2, y2 in pixels), ``gt_bboxes_labels`` (N int64), ``gt_ignore_flags`` (N
    bool).

    Raises:
        DataError: An annotation of the image is faulty, and nobody has looked at the check.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sets the arrays in the record."""
        instances = results.get("instances")
        if instances is None:
            return results
        if results.get("faults"):
            raise DataError(f"{results['img_path']}: {results['faults'][0]}.")
        boxes = [instance["bbox"] for instance in instances]
        results["gt_bboxes"] = np.array(boxes, np.float32).reshape(-1, 4)
        labels = [instance["bbox_label"] for instance in instances]
        results["gt_bboxes_labels"] = np.array(labels, np.int64)
        flags = [instance["ignore_flag"] for instance in instances]
        results["gt_ignore_flags"] = np.array(flags, bool)
        return results

    def __repr__(self) -> str:
        return "LoadBoxes()"
