"""Boxes of a record as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from aicore.datasets.annotations import wrong_size
from aicore.errors import DataError, ImageError
from aicore.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadBoxes(BaseTransform):
    """Sets the boxes of a record of :class:`aicore.DetectionDataset` as arrays.

    A record without ``instances``, such as an image in a demo, stays as it is. In a test pipeline
    it stands behind the transforms of the image: predictions are compared in the original size.

    Required keys: ``instances``, or not; ``faults``, ``left_out``, and the size that the annotation
    states against ``ori_shape`` are heeded. Set keys: ``gt_bboxes`` (N x 4
    float32; x1, y1, x2, y2 in pixels), ``gt_bboxes_labels`` (N int64), ``gt_ignore_flags`` (N
    bool).

    Raises:
        DataError: An annotation of the image is faulty, or made for an image of another size, and
            nobody has looked at the check.
        ImageError: It is made for another size, and the data set leaves faults out: so is the
            image.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sets the arrays in the record."""
        instances = results.get("instances")
        if instances is None:
            return results
        if results.get("faults"):
            raise DataError(f"{results['img_path']}: {results['faults'][0]}.")
        self._check_size(results)
        boxes = [instance["bbox"] for instance in instances]
        results["gt_bboxes"] = np.array(boxes, np.float32).reshape(-1, 4)
        labels = [instance["bbox_label"] for instance in instances]
        results["gt_bboxes_labels"] = np.array(labels, np.int64)
        flags = [instance["ignore_flag"] for instance in instances]
        results["gt_ignore_flags"] = np.array(flags, bool)
        return results

    def _check_size(self, results: dict[str, Any]) -> None:
        stated = results.get("height"), results.get("width")
        size = tuple(results.get("ori_shape", stated))
        if None in stated or size == stated or results.get("not_inspected"):
            return
        sentence = wrong_size(stated, size)
        if results.get("left_out"):
            raise ImageError(results["img_path"], sentence)
        raise DataError(f"{results['img_path']}: {sentence}.")

    def __repr__(self) -> str:
        return "LoadBoxes()"
