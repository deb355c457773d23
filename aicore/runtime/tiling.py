"""Dividing a large image into overlapping tiles, and joining what was said of them.

Training, evaluation, demo and the exported model use the same tiles, so that their results agree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """A part of an image, in pixels; ``bottom`` and ``right`` are excluded."""

    top: int
    left: int
    bottom: int
    right: int


def windows(
    height: int, width: int, tile: tuple[int, int], stride: tuple[int, int]
) -> list[Window]:
    """Returns the windows of equal size that cover an image, row by row.

    The last one of a row or column is moved back into the image, so it overlaps its neighbour
    more. Where the image is smaller than a tile, the window has the image's size.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        tile: Height and width of a tile, in pixels.
        stride: Steps down and to the right from one tile to the next, at most the tile's size.
    """
    rows = _starts(height, tile[0], stride[0])
    columns = _starts(width, tile[1], stride[1])
    high, wide = min(tile[0], height), min(tile[1], width)
    return [Window(top, left, top + high, left + wide) for top in rows for left in columns]


def tile_weight(size: tuple[int, int], overlap: tuple[int, int]) -> np.ndarray:
    """Returns how much each pixel of a tile counts where tiles overlap.

    From a tile's edge inwards the weight rises linearly to 1 over the overlap: a pixel is judged
    mostly by the tile in which it has the most surroundings, and no seam shows.

    Args:
        size: Height and width of the tile, in pixels.
        overlap: How many pixels neighbouring tiles share, down and to the right.

    Returns:
        Height x width, float32, in (0, 1].
    """
    down, right = (_ramp(length, shared) for length, shared in zip(size, overlap, strict=True))
    return down[:, None] * right[None, :]


def _starts(length: int, tile: int, stride: int) -> list[int]:
    last = max(length - tile, 0)
    return [*range(0, last, stride), last]


def _ramp(length: int, shared: int) -> np.ndarray:
    position = np.arange(length)
    from_edge = np.minimum(position, length - 1 - position) + 1
    return np.minimum(from_edge / (shared + 1), 1).astype(np.float32)
