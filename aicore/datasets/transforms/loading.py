"""The step that reads an image into a record, the same for every task."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from aicore.errors import ConfigError, DataError, ImageError
from aicore.registry import TRANSFORMS
from aicore.runtime.images import read_image, to_channels, to_eight_bit_scale

_NOT_INSPECTED_SIZE = 32


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Reads an 8- or 16-bit image of one or three channels.

    An 8-bit image stays uint8. A 16-bit image becomes float32 on the same scale, 0 to 255, with
    every grey level kept apart: one ``mean`` and ``std`` and each augmentation means the same for
    both depths.

    A record that already has ``img``, an array (HxW, HxWx1 or HxWx3 in BGR order; uint8, uint16 or
    float on the scale 0 to 255), is converted likewise, without reading. A record with
    ``not_inspected``, the reason why its image cannot be read, gets a small black image, so that
    it keeps its place in the batch.

    Required keys: ``img_path`` or ``img``; ``not_inspected`` is heeded. Set keys: ``img``
    (HxW for one channel, HxWx3 in BGR order for three), ``img_shape``, ``ori_shape`` (height and
    width in pixels), ``img_path`` (None for an array that came without).

    Args:
        in_channels: Channels of the image for the model, 1 or 3, whatever the file has.
        white_level: The grey value of white in a 16-bit file, 1 to 65535: 4095 for a camera of
            12 bits.

    Raises:
        ConfigError: An argument is outside its values.
        ImageError: The file cannot be read, or is too large for the memory.
        DataError: An image is brighter than ``white_level``, or an array is not an image.
    """

    def __init__(self, in_channels: int = 3, white_level: int = 65535) -> None:
        if in_channels not in (1, 3):
            raise ConfigError(f"aicore.LoadImage: in_channels is {in_channels!r}; expected 1 or 3.")
        if not isinstance(white_level, int) or not 1 <= white_level <= 65535:
            raise ConfigError(
                f"aicore.LoadImage: white_level is {white_level!r}; expected the grey value of "
                f"white in a 16-bit file, an integer of 1 to 65535."
            )
        self.in_channels = in_channels
        self.white_level = white_level

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sets ``img``, ``img_shape`` and ``ori_shape`` in the record."""
        if results.get("not_inspected"):
            size = (_NOT_INSPECTED_SIZE, _NOT_INSPECTED_SIZE)
            image = np.zeros(size if self.in_channels == 1 else (*size, 3), np.uint8)
        elif "img" in results:
            image = np.ascontiguousarray(to_channels(results["img"], self.in_channels))
            image = self._to_scale(image, results.setdefault("img_path", None))
        else:
            path = results["img_path"]
            try:
                image = self._to_scale(read_image(path, self.in_channels), path)
            except MemoryError as error:  # costs this image, not the run
                reason = "there is not enough memory for it; cut it into smaller images"
                raise ImageError(path, reason) from error
        results["img"] = image
        results["img_shape"] = image.shape[:2]
        results["ori_shape"] = image.shape[:2]
        return results

    def _to_scale(self, image: np.ndarray, path: str | None) -> np.ndarray:
        if image.dtype == np.uint16 and image.max() > self.white_level:
            raise DataError(
                f"{path or 'An image array'} has the grey value {image.max()}, but "
                f"aicore.LoadImage has white_level={self.white_level}: set it to the value of "
                f"white in your 16-bit images (4095 for 12 bits, 65535 for 16)."
            )
        return to_eight_bit_scale(image, self.white_level)

    def __repr__(self) -> str:
        return f"LoadImage(in_channels={self.in_channels}, white_level={self.white_level})"
