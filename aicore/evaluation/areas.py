"""Areas of an image as a record holds them: run lengths of a mask, and its connected regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as run_lengths


def encode_mask(mask: np.ndarray) -> str:
    """Returns the run lengths of a binary mask (H x W) as COCO's compressed text."""
    return run_lengths.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


def decode_mask(counts: str, size: Sequence[int]) -> np.ndarray:
    """Returns the mask of :func:`encode_mask`, H x W bool; ``size`` is (height, width)."""
    return run_lengths.decode({"size": list(size), "counts": counts.encode()}).astype(bool)


class Region(NamedTuple):
    """Pixels of a mask that touch at edges or corners."""

    pixels: int
    box: list[int]
    """x, y, width and height in pixels."""
    inside: tuple[np.ndarray, np.ndarray]
    """Rows and columns of its pixels: an index into arrays of the mask's size."""


def connected_regions(mask: np.ndarray) -> Iterator[Region]:
    """Yields the regions of a mask (H x W bool), the largest first."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    for number in sorted(range(1, count), key=lambda n: -statistics[n, cv2.CC_STAT_AREA]):
        *box, pixels = statistics[number].tolist()
        x, y, width, height = box
        rows, columns = np.nonzero(labels[y : y + height, x : x + width] == number)
        yield Region(pixels, box, (rows + y, columns + x))
