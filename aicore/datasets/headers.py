"""What an image file says of itself before its pixels: fast, for checks of whole data sets."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image
from tqdm import tqdm

from aicore.runtime.files import why_no_file

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_TIFF_SIZE = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
_LIMIT_LOCK = threading.Lock()

PILLOW_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error)
"""What Pillow raises of files that are damaged, or no pictures."""


def open_picture(path: str | Path | BinaryIO) -> Image.Image:
    """Opens a picture of any size, without its pixels; Pillow's limit would stop line scans.

    Whoever decodes it compares its size first, see :func:`aicore.runtime.images.check_pixels`.
    """
    with _LIMIT_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Returns height and width of an image as it is shown, from its header; None if unreadable."""
    if why_no_file(Path(path)):  # a pipe would be waited for
        return None
    try:
        with open_picture(path) as image:
            width, height = image.size
            if image.format == "TIFF":  # Pillow's newer versions give the turned size
                width, height = (image.tag_v2[tag] for tag in _TIFF_SIZE)
            # OpenCV, which reads the pixels, does not turn a webp.
            turned = image.format != "WEBP" and (
                image.getexif().get(ExifTags.Base.Orientation) in _TURNED
            )
            return (width, height) if turned else (height, width)
    except PILLOW_ERRORS:
        return None


def image_sizes(paths: Sequence[str | Path]) -> list[tuple[int, int] | None]:
    """Returns :func:`image_size` of many files, several read at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = pool.map(image_size, paths)
        return list(tqdm(sizes, "image sizes", len(paths), disable=None, leave=False))


def fault_of_size(
    what: str, path: str | Path, size: Sequence[int], image: str | None, image_size: Sequence[int]
) -> str:
    """Returns the sentence on a mask that is not of its image's size, or is the image itself.

    Args:
        what: The mask's name, e.g. ``mask`` or ``roi``.
        path: Its file.
        size: Its height and width in pixels.
        image: The image file; None for an array.
        image_size: The image's height and width in pixels.

    Returns:
        A clause; empty if there is nothing wrong.
    """
    if image and Path(path) == Path(image):
        return f"{what} {str(path)!r} is the image itself: name another file"
    if tuple(size) == tuple(image_size):
        return ""
    (high, wide), (height, width) = size, image_size
    return (
        f"{what} {str(path)!r} is {wide} x {high} pixels (width x height), but its image "
        f"{repr(image) if image else '(an array)'} {width} x {height}: both have to agree"
    )
