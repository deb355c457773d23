"""mmdet's own training pipelines of YOLOX, over the records of a data set; for benchmarks.

Both read images in colour: mmdet's mixup takes no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.utils import to_2tuple

_LOAD = (dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True))


def mmdet_yolox(settings: Config, records: Sequence[dict[str, Any]]) -> Callable[[int], Any]:
    """Returns what gives a sample of mmdet's YOLOX pipeline by the index of a record.

    Args:
        settings: The pipeline is for its ``image_size``.
        records: With ``img_path`` and ``instances``.
    """
    from mmdet.datasets import MultiImageMixDataset  # seconds, for which a demo need not wait

    height, width = to_2tuple(settings.image_size)
    mixing = (
        dict(type="Mosaic", img_scale=(width, height), pad_val=114.0),
        _affine(height, width),
        dict(type="MixUp", img_scale=(width, height), ratio_range=(0.8, 1.6), pad_val=114.0),
    )
    pipeline = _scoped([*mixing, *_last_steps(height, width)])
    return MultiImageMixDataset(_Records(records, _LOAD), pipeline).__getitem__


def mmdet_cached_yolox(settings: Config, records: Sequence[dict[str, Any]]) -> Callable[[int], Any]:
    """As :func:`mmdet_yolox`, with mmdet's cached mosaic and mixup of 40 and 20 images."""
    height, width = to_2tuple(settings.image_size)
    mixing = (
        dict(type="CachedMosaic", img_scale=(width, height), pad_val=114.0),
        _affine(height, width),
        dict(type="CachedMixUp", img_scale=(width, height), ratio_range=(0.8, 1.6), pad_val=114.0),
    )
    steps = [*_LOAD, *mixing, *_last_steps(height, width)]
    return _Records(records, steps).__getitem__


class _Records(BaseDataset):
    """A data set of records at hand."""

    def __init__(
        self, records: Sequence[dict[str, Any]], pipeline: Sequence[dict[str, Any]]
    ) -> None:
        self._records = records
        super().__init__(pipeline=_scoped(pipeline))

    def load_data_list(self) -> list[dict[str, Any]]:
        return list(self._records)


def _scoped(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns steps that are looked up in mmdet, whatever the default scope."""
    return [{**step, "_scope_": "mmdet"} for step in steps]


def _affine(height: int, width: int) -> dict[str, Any]:
    border = (-width // 2, -height // 2)  # from the canvas back to the image's size
    return dict(type="RandomAffine", scaling_ratio_range=(0.1, 2), border=border)


def _last_steps(height: int, width: int) -> list[dict[str, Any]]:
    return [
        dict(type="YOLOXHSVRandomAug"),
        dict(type="RandomFlip", prob=0.5),
        dict(type="Resize", scale=(width, height), keep_ratio=True),
        dict(type="Pad", size=(width, height), pad_val=dict(img=(114.0, 114.0, 114.0))),
        dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1), keep_empty=False),
        dict(type="PackDetInputs"),
    ]
