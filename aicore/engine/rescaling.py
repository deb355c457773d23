"""Another size for a batch that is ready for the model: its images and all their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch.nn import functional

from aicore.errors import ConfigError

_SHAPES = ("img_shape", "batch_input_shape", "pad_shape")  # (height, width), perhaps channels
_INSTANCE_FIELDS = ("bboxes", "keypoints", "masks")


def rescale_batch(
    images: torch.Tensor, data_samples: Any, size: tuple[int, int]
) -> tuple[torch.Tensor, Any]:
    """Returns a batch in another size; nothing of what is given is changed.

    What becomes of a label follows from its kind, whichever task it belongs to:

    - ``PixelData``: maps of integers and booleans are labels, each pixel takes the value nearest to
      its centre, so that no new values arise; maps of floating point numbers are measurements
      (depth, probability) and are interpolated like images.
    - ``InstanceData``: ``bboxes`` and ``keypoints``, as tensors of x, y, ..., are scaled; ``masks``
      as tensors (N, height, width) become maps of labels as above; objects with a method
      ``rescale_`` (boxes of mmdet) or ``resize`` (its masks) do it themselves.
    - ``img_shape``, ``batch_input_shape`` and ``pad_shape`` are scaled, and ``scale_factor``
      (width, height) is multiplied, where present.
    - Everything else, such as the label of a class, stays as it is.

    Args:
        images: (N, C, height, width), floating point; the result has its memory format.
        data_samples: One ``BaseDataElement`` an image, of any kind; anything else is returned as
            it is.
        size: The new (height, width) in pixels.

    Raises:
        ConfigError: Boxes, key points or masks of instances are something else than this.
    """
    height, width = images.shape[-2:]
    if size == (height, width):
        return images, data_samples
    if isinstance(data_samples, list | tuple):
        scale = _Scale((height, width), size)
        data_samples = [scale.value(sample) for sample in data_samples]
    return functional.interpolate(images, size, mode="bilinear", align_corners=False), data_samples


class _Scale:
    """From one size of a batch to another."""

    def __init__(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        self.old = old
        self.new = new
        self.y, self.x = (after / before for before, after in zip(old, new, strict=True))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Scales (height, width), and keeps what may follow. An image keeps a pixel at least."""
        height, width, *rest = shape
        return max(1, round(height * self.y)), max(1, round(width * self.x)), *rest

    def value(self, value: Any) -> Any:
        """Scales a data sample, or one field of it."""
        if isinstance(value, PixelData):
            fields = {name: self.map(item) for name, item in value.items()}
        elif isinstance(value, InstanceData):
            fields = {name: self.instances(name, item) for name, item in value.items()}
        elif isinstance(value, BaseDataElement):
            fields = {name: self.value(item) for name, item in value.items()}
        else:
            return value
        return value.new(metainfo=self.metainfo(value.metainfo), **fields)

    def metainfo(self, metainfo: dict[str, Any]) -> dict[str, Any]:
        scaled = dict(metainfo)
        for name in _SHAPES:
            if name in metainfo:
                scaled[name] = self.shape(tuple(metainfo[name]))
        if "scale_factor" in metainfo:
            x, y = metainfo["scale_factor"]
            scaled["scale_factor"] = (x * self.x, y * self.y)
        return scaled

    def instances(self, name: str, value: Any) -> Any:
        """Scales one field of several instances."""
        if hasattr(value, "rescale_"):
            value = value.clone()
            value.rescale_((self.x, self.y))
            return value
        if name not in _INSTANCE_FIELDS:
            return value
        if isinstance(value, np.ndarray):
            return self.instances(name, torch.from_numpy(value)).numpy()
        if isinstance(value, torch.Tensor):
            return self.labels(value) if name == "masks" else self.points(name, value)
        if name == "masks" and hasattr(value, "resize"):
            return value.resize(self.shape((value.height, value.width)))
        raise _cannot_rescale(name, f"of type {type(value).__name__}")

    def points(self, name: str, points: torch.Tensor) -> torch.Tensor:
        """Scales (N, 4) boxes x1, y1, x2, y2 or (N, K, 2) key points x, y."""
        last = 4 if name == "bboxes" else 2
        if points.shape[-1] != last:
            raise _cannot_rescale(name, f"of shape {tuple(points.shape)}")
        points = points * 1.0  # a copy, of floating point
        points[..., 0::2] *= self.x
        points[..., 1::2] *= self.y
        return points

    def map(self, pixels: torch.Tensor | np.ndarray) -> torch.Tensor | np.ndarray:
        """Scales (C, height, width): labels or measurements, by their data type."""
        if isinstance(pixels, np.ndarray):
            return self.map(torch.from_numpy(pixels)).numpy()
        if not pixels.is_floating_point():
            return self.labels(pixels)
        shape = self.shape(pixels.shape[-2:])
        return functional.interpolate(pixels[None], shape, mode="bilinear", align_corners=False)[0]

    def labels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scales (C, height, width) of any data type without new values.

        As torch's ``nearest-exact``, which does not know integers. Its older ``nearest`` takes the
        corner of a pixel for its centre, and so shifts labels against their image.
        """
        height, width = pixels.shape[-2:]
        new_height, new_width = self.shape((height, width))
        rows = _nearest(height, new_height, pixels.device)
        columns = _nearest(width, new_width, pixels.device)
        return pixels[..., rows[:, None], columns]


def _nearest(old: int, new: int, device: torch.device) -> torch.Tensor:
    """Returns for each of ``new`` pixels which of ``old`` lies under its centre."""
    return (2 * torch.arange(new, device=device) + 1) * old // (2 * new)


def _cannot_rescale(name: str, what: str) -> ConfigError:
    return ConfigError(
        f"MultiScaleHook cannot rescale {name} {what}: expected bboxes (N, 4), keypoints (N, K, 2) "
        "or masks (N, height, width), or an object with a method rescale_ (boxes) or resize "
        "(masks). Change the labels, or take the hook out of custom_hooks."
    )
