"""Drawing on images. Every function returns a new HxWx3 uint8 BGR image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from aicore.visualization.fonts import font_for

Color = tuple[int, int, int]  # BGR, 0..255

_SMALLEST = 10  # font size in pixels


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
    size = max(_SMALLEST, min(round(max(height, width) * 0.07), 40))
    size, (text,) = _fitted([text], size, width - 6)
    strip = Image.new("RGB", (width, round(size * 1.5)))
    place = 3, round(size * 0.15)
    ImageDraw.Draw(strip).text(place, text, font=font_for(text, size), fill=color[::-1])
    return np.vstack([image, np.asarray(strip)[:, :, ::-1]])


def _fitted(texts: Sequence[str], size: int, width: int) -> tuple[int, list[str]]:
    """Returns the font size, at most ``size``, at which no text is wider; cuts what still is."""

    def too_wide(text: str) -> bool:
        return font_for(text, size).getlength(text) > width

    while size > _SMALLEST and any(map(too_wide, texts)):
        size -= 1
    fitted = []
    for text in texts:
        while len(text) > 1 and too_wide(text):
            text = text.removesuffix("…")[:-1] + "…"
        fitted.append(text)
    return size, fitted


def class_color(index: int) -> Color:
    """Returns a colour for a class; classes close to each other in number differ most."""
    hue = (index * 0.618034 + 0.9) % 1.0  # the golden ratio spreads any number of them evenly
    value = 255 if index % 2 else 215
    pixel = np.uint8([[[round(hue * 179), 230, value]]])
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def draw_areas(
    image: np.ndarray, areas: Sequence[tuple[np.ndarray, Color]], opacity: float = 0.4
) -> np.ndarray:
    """Returns the image with areas tinted, and a contour around each of their regions.

    Args:
        image: HxW or HxWx3.
        areas: Masks (bool, scaled to the image where they have another size) and their colours.
        opacity: Of the tint, 0..1; the contour is opaque.
    """
    image = to_display(image).copy()
    height, width = image.shape[:2]
    thickness = max(1, round(max(height, width) / 400))
    for mask, color in areas:
        mask = mask.astype(np.uint8)
        if mask.shape != (height, width):
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        inside = mask > 0
        image[inside] = np.round((1 - opacity) * image[inside] + opacity * np.array(color))
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, color, thickness)
    return image


def draw_legend(image: np.ndarray, entries: Sequence[tuple[str, Color | None]]) -> np.ndarray:
    """Returns the image with a black strip below: a square of its colour before each text.

    An entry without a colour is text alone. What does not fit into a line goes to the next one; a
    text wider than the image shrinks, and is cut where that is not enough.
    """
    image = to_display(image)
    height, width = image.shape[:2]
    size = max(_SMALLEST, min(round(max(height, width) * 0.05), 28))
    size, texts = _fitted([text for text, _ in entries], size, width - 3 * size)
    line, gap = round(size * 1.5), size // 2
    places, x, row = [], gap, 0
    for text, (_, color) in zip(texts, entries, strict=True):
        square = 0 if color is None else size + gap // 2
        needed = square + round(font_for(text, size).getlength(text)) + 2 * gap
        if x > gap and x + needed > width:
            x, row = gap, row + 1
        places.append((text, color, square, x, row))
        x += needed
    strip = Image.new("RGB", (width, (row + 1) * line if entries else 0))
    draw = ImageDraw.Draw(strip)
    for text, color, square, left, row in places:
        if color is not None:
            top = row * line + (line - size) // 2
            draw.rectangle((left, top, left + size - 2, top + size - 2), fill=color[::-1])
        draw.text((left + square, row * line), text, font=font_for(text, size), fill="white")
    return np.vstack([image, np.asarray(strip)[:, :, ::-1]])


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns images next to each other, aligned at the top, with a gap between them."""
    images = [to_display(image) for image in images]
    height = max(image.shape[0] for image in images)
    columns = []
    for image in images:
        padded = np.full((height, image.shape[1] + 4, 3), 40, np.uint8)
        padded[: image.shape[0], :-4] = image
        columns.append(padded)
    return np.hstack(columns)[:, :-4]


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
