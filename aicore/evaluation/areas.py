"""Areas of an image as a record holds them: run lengths of a mask, and its connected regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as run_lengths

_MOST_CHARACTERS = 7  # of a run length: 35 bits


def encode_mask(mask: np.ndarray) -> str:
    """Returns the run lengths of a binary mask (H x W) as COCO's compressed text."""
    return run_lengths.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


def decode_mask(counts: str | Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Returns the mask of run lengths, COCO's text or its list of numbers.

    Unlike pycocotools it takes them from any file: what has other pixels than the mask is refused,
    not written past its end or filled with what the memory held.

    Args:
        counts: Pixels outside and inside by turns, down the columns; or :func:`encode_mask`'s text.
        size: Height and width in pixels.

    Returns:
        H x W bool.

    Raises:
        ValueError: They are no run lengths of such a mask; the message is a clause.
    """
    height, width = size
    runs = _runs_of_text(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list | tuple) or not all(type(run) is int for run in runs):
        raise ValueError("its run lengths are not whole numbers")
    if any(run < 0 for run in runs):
        raise ValueError("one of its run lengths is below 0")
    if sum(runs) != height * width:
        raise ValueError(
            f"its run lengths make {sum(runs)} pixels, but the image has {height * width}"
        )
    is_inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(is_inside, runs).reshape(width, height).T


def _runs_of_text(text: str) -> list[int]:
    """Returns the numbers of COCO's compressed text.

    A character holds 5 bits of a number, lowest first, and whether more follow; the sign is that
    of the last. From the fourth on, a number is the difference to the last but one.
    """
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    ends = codes & 0x20 == 0
    if not len(codes) or codes.min() < 0 or codes.max() > 0x3F or not ends[-1]:
        raise ValueError("its run lengths are no text of COCO")
    starts = np.flatnonzero(np.concatenate(([True], ends[:-1])))
    lengths = np.diff(starts, append=len(codes))
    if lengths.max() > _MOST_CHARACTERS:
        raise ValueError("one of its run lengths is larger than any image")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 0x1F) << shifts, starts)
    is_negative = codes[ends] & 0x10 != 0
    runs -= np.where(is_negative, 1 << 5 * lengths, 0)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs.tolist()


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
