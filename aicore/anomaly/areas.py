"""Files that say of each pixel yes or no: masks of defects, and regions of interest (ROI).

In memory such an area is H x W uint8, 0 or 1; in a record's truth :data:`IGNORE` stands where
pixels do not count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aicore.errors import DataError, ImageError
from aicore.runtime.images import read_image, to_eight_bit_scale

IGNORE = 255
"""The truth of pixels outside the ROI: they count in no figure."""


def read_area(path: str | Path, what: str, threshold: int = 0) -> np.ndarray:
    """Reads a mask or an ROI.

    Args:
        path: A picture; colour is taken as grey, 16 bits on the scale of 8.
        what: ``mask`` or ``roi``, for the message.
        threshold: Grey value, 0 to 254; brighter pixels belong to the area.

    Returns:
        H x W uint8, 1 inside the area, else 0.

    Raises:
        DataError: The file is missing or cannot be read. Not an ImageError: the image itself may
            be sound.
    """
    try:
        pixels = read_image(path, channels=1)
    except ImageError as error:
        if not Path(path).exists():
            raise DataError(f"{what} {str(path)!r} does not exist.") from error
        raise DataError(f"{what} {str(path)!r} cannot be read: {error.reason}.") from error
    return (to_eight_bit_scale(pixels) > threshold).astype(np.uint8)
