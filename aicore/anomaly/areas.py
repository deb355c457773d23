"""Files that say of each pixel yes or no: masks of defects, and regions of interest (ROI).

In memory such an area is H x W uint8, 0 or 1; in a record's truth :data:`IGNORE` stands where
pixels do not count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aicore.datasets.masks import HALF_OF_WHITE, MaskFile

IGNORE = 255
"""The truth of pixels outside the ROI: they count in no figure."""


def read_area(path: str | Path, what: str, threshold: int | None = None) -> np.ndarray:
    """Reads a mask or an ROI.

    Args:
        path: A picture; colour is taken as grey, 16 bits on the scale of 8.
        what: ``mask`` or ``roi``, for the message.
        threshold: Grey value, 0 to 254; brighter pixels belong to the area. None: 0, or half of
            white in a file with soft edges, see :meth:`aicore.datasets.masks.MaskFile.marked`.

    Returns:
        H x W uint8, 1 inside the area, else 0.

    Raises:
        DataError: The file is missing or cannot be read. Not an ImageError: the image itself may
            be sound.
    """
    return MaskFile(path, what).marked(threshold).astype(np.uint8)


def words_of_threshold(threshold: int | None) -> str:
    """Returns the grey value above which a pixel belongs to an area, for a message."""
    if threshold is None:
        return f"0 ({HALF_OF_WHITE} in a file with soft edges)"
    return f"{threshold} (mask_threshold)"
