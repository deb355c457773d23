"""What an image file says of itself before its pixels: fast, for checks of whole data sets."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import ExifTags, Image
from tqdm import tqdm

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_TIFF_SIZE = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
_LIMIT_LOCK = threading.Lock()


def open_picture(path: str | Path) -> Image.Image:
    """Opens a picture of any size; Pillow's limit, for files of strangers, stops line scans."""
    with _LIMIT_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Returns height and width of an image as it is shown, from its header; None if unreadable."""
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
    except (OSError, SyntaxError, ValueError):
        return None


def image_sizes(paths: Sequence[str | Path]) -> list[tuple[int, int] | None]:
    """Returns :func:`image_size` of many files, several read at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = pool.map(image_size, paths)
        return list(tqdm(sizes, "image sizes", len(paths), disable=None, leave=False))
