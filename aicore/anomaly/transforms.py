"""Reading ROIs and masks, and packing an image with what is known of it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData

from aicore.anomaly.areas import IGNORE, read_area, words_of_threshold
from aicore.datasets.files import join_path
from aicore.datasets.headers import fault_of_size
from aicore.errors import DataError
from aicore.registry import TRANSFORMS
from aicore.structures import AnomalyDataSample

_META = ("img_path", "ori_shape", "img_shape", "defect_type")


@TRANSFORMS.register_module()
class LoadROI(BaseTransform):
    """Reads which pixels of an image count.

    A record names its ROI as ``roi_path``. One file for all images counts for records that name
    none too, such as an image in a demo. Without an ROI the record stays as it is, and everything
    counts. An image that cannot be read gets none.

    Required keys: ``ori_shape``; ``roi_path`` and ``not_inspected`` are heeded. Set keys: ``roi``
    (H x W uint8, 1 where pixels count, else 0, in the original size).

    Args:
        roi: As in :class:`aicore.AnomalyDataset`; a template is left to the records.
        data_root: Folder that ``roi`` is relative to.

    Raises:
        DataError: The ROI cannot be read, is empty, or not of its image's size.
    """

    def __init__(self, roi: str | None = None, data_root: str = "") -> None:
        self.file = str(join_path(data_root, roi)) if roi and "{" not in roi else None

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sets ``roi`` in the record."""
        path = results.get("roi_path") or self.file
        if path is None or results.get("not_inspected"):
            return results
        roi = self._area if path == self.file else _read_roi(path)
        _require_size("roi", path, roi, results)
        results["roi"] = roi
        return results

    @cached_property
    def _area(self) -> np.ndarray:
        return _read_roi(self.file)

    def __repr__(self) -> str:
        return f"LoadROI(file={self.file!r})"


@TRANSFORMS.register_module()
class LoadDefectMask(BaseTransform):
    """Reads the mask of a defective image of :class:`aicore.AnomalyDataset`.

    A record without a mask stays as it is. The transform stands behind those of the image:
    distances are compared in the original size.

    Required keys: ``ori_shape``; ``mask_path``, ``mask_threshold`` and ``not_inspected`` are
    heeded. Set keys: ``gt_mask`` (H x W uint8, 1 where defective, else 0).

    Raises:
        DataError: The mask cannot be read, or is not of its image's size.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sets ``gt_mask`` in the record."""
        path = results.get("mask_path")
        if path is None or results.get("not_inspected"):
            return results
        mask = read_area(path, "mask", results["mask_threshold"])
        _require_size("mask", path, mask, results)
        results["gt_mask"] = mask
        return results

    def __repr__(self) -> str:
        return "LoadDefectMask()"


@TRANSFORMS.register_module()
class PackAnomaly(BaseTransform):
    """Makes a tensor of the image, and an :class:`aicore.structures.AnomalyDataSample`.

    Required keys: ``img`` (H x W, or H x W x 3 in BGR order), ``img_path``, ``ori_shape``,
    ``img_shape``; ``defect_type``, ``gt_label``, ``gt_mask`` and ``roi`` where they are known.

    Returns ``inputs`` (C x H x W, of the image's type) and ``data_samples``. Pixels of ``gt_mask``
    outside the ROI are 255, which does not count; a good image has one only if it has an ROI.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Returns ``{'inputs', 'data_samples'}``."""
        image = results["img"]
        channels = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        sample = AnomalyDataSample(metainfo={key: results[key] for key in _META if key in results})
        if "gt_label" in results:
            sample.gt_label = torch.tensor(results["gt_label"], dtype=torch.int64)
        for name, area in (("roi", results.get("roi")), ("gt_mask", _truth(results))):
            if area is not None:
                sample.set_data({name: PixelData(data=torch.from_numpy(area)[None])})
        return {"inputs": torch.from_numpy(np.ascontiguousarray(channels)), "data_samples": sample}

    def __repr__(self) -> str:
        return "PackAnomaly()"


def _truth(results: dict[str, Any]) -> np.ndarray | None:
    """Returns a record's mask with the pixels outside the ROI marked; None if not known."""
    mask, roi = results.get("gt_mask"), results.get("roi")
    if roi is None:
        return mask
    if mask is None and results.get("gt_label") == 0:
        mask = np.zeros_like(roi)
    return None if mask is None else np.where(roi, mask, np.uint8(IGNORE))


def _read_roi(path: str) -> np.ndarray:
    roi = read_area(path, "roi")
    if not roi.any():
        raise DataError(
            f"roi {path!r} has no pixel above {words_of_threshold(None)}, so that nothing would "
            "count."
        )
    return roi


def _require_size(what: str, path: str, area: np.ndarray, results: dict[str, Any]) -> None:
    size = results["ori_shape"]
    fault = fault_of_size(what, path, area.shape, results.get("img_path"), size)
    if fault:
        raise DataError(f"{fault}.")
