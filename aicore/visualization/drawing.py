"""Drawing on images. Every function returns a new HxWx3 uint8 BGR image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from aicore.visualization.fonts import font_for

Color = tuple[int, int, int]  # BGR, 0..255


def to_display(image: np.ndarray) -> np.ndarray:
    """Returns any image as HxWx3 uint8 BGR.

    Args:
        image: HxW, HxWx1 or HxWx3; uint8, uint16 (scaled down) or float in 0..255.
    """
    if image.dtype == np.uint16:
        image = image / 257.0
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image)


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the image with its longer side at least ``size`` pixels, so that text has room."""
    scale = max(1.0, size / max(image.shape[:2]))
    return cv2.resize(to_display(image), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def draw_caption(image: np.ndarray, text: str, color: Color) -> np.ndarray:
    """Returns the image with a black strip below that holds ``text``.

    The picture itself stays free. The text shrinks to the image's width, and is cut with an
    ellipsis where even the smallest size is too wide.
    """
    image = to_display(image)
    height, width = image.shape[:2]
    size = max(10, min(round(max(height, width) * 0.07), 40))
    while size > 10 and font_for(text, size).getlength(text) > width - 6:
        size -= 1
    font = font_for(text, size)
    while len(text) > 1 and font.getlength(text) > width - 6:
        text = text.removesuffix("…")[:-1] + "…"
    strip = Image.new("RGB", (width, round(size * 1.5)))
    ImageDraw.Draw(strip).text((3, round(size * 0.15)), text, font=font, fill=color[::-1])
    return np.vstack([image, np.asarray(strip)[:, :, ::-1]])


def tile(images: Sequence[np.ndarray], columns: int, cell: int) -> np.ndarray:
    """Returns the images as a grid, each scaled to fit a square of ``cell`` pixels."""
    rows = -(-len(images) // columns)
    grid = np.full((rows * (cell + 4), columns * (cell + 4), 3), 40, np.uint8)
    for index, image in enumerate(map(to_display, images)):
        height, width = image.shape[:2]
        scale = cell / max(height, width)
        # A line-scan image can be so narrow that nothing would be left of it.
        size = max(1, round(width * scale)), max(1, round(height * scale))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        small = cv2.resize(image, size, interpolation=interpolation)
        top = index // columns * (cell + 4) + 2 + (cell - small.shape[0]) // 2
        left = index % columns * (cell + 4) + 2 + (cell - small.shape[1]) // 2
        grid[top : top + small.shape[0], left : left + small.shape[1]] = small
    return grid
