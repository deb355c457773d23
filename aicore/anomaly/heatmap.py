"""Maps of distances: small enough for a record, and as a scale that is the same for all images."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

_SIDE = 64  # pixels at most of a packed map
_LEVELS = 1023  # of a packed map: text of 7 KB at most; 65535 would take 11 KB and show no more


def ng_score(distance: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the NG scores of distances: in [0, 1], 0.5 at the threshold.

    Args:
        distance: Any shape, 0 or more.
        threshold: The distance from which a pixel or an image is NG, more than 0.
    """
    squared = distance.astype(np.float64) ** 2
    return squared / (squared + threshold**2)


def pack_map(distances: np.ndarray) -> dict[str, Any]:
    """Returns a map of distances made small, ready for JSON.

    Args:
        distances: H x W, 0 or more.

    Returns:
        ``size`` (height and width, 64 at most, each pixel the mean of those it stands for),
        ``max``, and ``levels``: the distances as 0..1023, linear on [0, max]; uint16, first the
        low bytes, then the high ones, by zlib and base64.
    """
    height, width = distances.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = cv2.resize(distances.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    largest = float(small.max())
    levels = np.round(small * (_LEVELS / largest if largest > 0 else 0)).astype("<u2")
    planes = np.ascontiguousarray(levels).view(np.uint8).reshape(-1, 2).T.tobytes()
    text = base64.b64encode(zlib.compress(planes, 9)).decode()
    return {"size": list(size), "max": round(largest, 6), "levels": text}


def unpack_map(packed: dict[str, Any], size: Sequence[int]) -> np.ndarray:
    """Returns the map of :func:`pack_map` in a size (height, width): H x W float32."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["levels"])), np.uint8)
    levels = np.ascontiguousarray(planes.reshape(2, -1).T).view("<u2").reshape(packed["size"])
    small = levels.astype(np.float32) * np.float32(packed["max"] / _LEVELS)
    height, width = size
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def score_map(packed: dict[str, Any], mask: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the NG score of each pixel.

    Args:
        packed: What :func:`pack_map` returned.
        mask: H x W bool, the pixels at or above the threshold. The packed map is too coarse to
            tell them at their edge.
        threshold: The distance from which a pixel is NG.

    Returns:
        H x W uint16: the score times 65535; from 32768 on exactly where the mask is.
    """
    scores = ng_score(unpack_map(packed, mask.shape), threshold)
    levels = np.round(scores * 65535).astype(np.uint16)
    return np.where(mask, np.maximum(levels, 32768), np.minimum(levels, 32767))
