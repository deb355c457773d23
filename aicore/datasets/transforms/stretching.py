"""The step that brings an image to the network's size, whatever its shape."""

from __future__ import annotations

from typing import Any

from mmcv.transforms import BaseTransform

from aicore.datasets.transforms.arguments import check_size
from aicore.registry import TRANSFORMS
from aicore.runtime.letterbox import stretch


@TRANSFORMS.register_module()
class Stretch(BaseTransform):
    """Resizes the image to ``size``; see :func:`aicore.runtime.letterbox.stretch`.

    Required keys: ``img``. Set keys: ``img`` and ``img_shape``.

    Args:
        size: Height and width in pixels.

    Raises:
        ConfigError: ``size`` is not two whole numbers of at least 1.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = check_size("Stretch", size)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resizes the record's image."""
        results["img"] = stretch(results["img"], self.size)
        results["img_shape"] = self.size
        return results

    def __repr__(self) -> str:
        return f"Stretch(size={self.size})"
