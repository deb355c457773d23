"""What is in an image file: whether it can be read, its size and depth, its fingerprints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aicore.errors import ImageError
from aicore.runtime.headers import read_header
from aicore.runtime.images import decode_image, read_bytes, to_channels

THUMBNAIL_SIDE = 32  # pixels


@dataclass(frozen=True)
class Picture:
    """What a check keeps of an image.

    Attributes:
        width: In pixels.
        height: In pixels.
        kind: Depth and colour of the pixels, e.g. ``8-bit grey``; grey stored as RGB is grey.
        bits: Of a grey value, 8 or 16.
        darkest: Smallest grey value, over all channels.
        brightest: Largest grey value.
        is_transparent: Whether a part of it is; what reads the image does not see that.
        pages: Number of pictures in the file, of which the first is read.
        digest: The same for two files with the same pixels, whatever their formats.
        thumbnail: ``THUMBNAIL_SIDE ** 2`` grey values, float32, of mean 0 and length 1, so that
            brightness and contrast do not matter; all 0 for an image of one grey value.
    """

    width: int
    height: int
    kind: str
    bits: int
    darkest: int
    brightest: int
    is_transparent: bool
    pages: int
    digest: bytes
    thumbnail: NDArray[np.float32]


def look_at(path: str) -> Picture | ImageError:
    """Reads an image in full; returns the error for one that cannot be read."""
    try:
        data = read_bytes(path)
        image = decode_image(path, data)
    except ImageError as error:
        return error
    height, width = image.shape[:2]
    blue, green, red = cv2.split(image)
    is_grey = np.array_equal(blue, green) and np.array_equal(green, red)
    digest = hashlib.blake2b(repr((image.shape, image.dtype)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    header = read_header(data)
    bits = 8 * image.itemsize
    return Picture(
        width,
        height,
        f"{bits}-bit {'grey' if is_grey else 'colour'}",
        bits,
        int(image.min()),
        int(image.max()),
        header is not None and header.has_alpha and _is_transparent(data),
        header.pages if header else 1,
        digest.digest(),
        _thumbnail(green if is_grey else to_channels(image, 1)),
    )


def look_at_all(paths: Iterable[str]) -> dict[str, Picture | ImageError]:
    """Reads images with one thread per core; shows a progress bar in a terminal."""
    paths = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = pool.map(look_at, paths)
        bar = tqdm(seen, "reading images", len(paths), disable=None, leave=False, unit="image")
        return dict(zip(paths, bar, strict=True))


def _is_transparent(data: bytes) -> bool:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    has_alpha = image.ndim == 3 and image.shape[2] == 4
    return has_alpha and bool((image[..., 3] < np.iinfo(image.dtype).max).any())


def _thumbnail(grey: NDArray) -> NDArray[np.float32]:
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    length = np.linalg.norm(small)
    return small / length if length > 1e-3 else np.zeros_like(small)
