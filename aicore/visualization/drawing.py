"""Drawing on images. Every function returns a new HxWx3 uint8 BGR image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw

from aicore.errors import shown
from aicore.visualization.fonts import font_for

Color = tuple[int, int, int]  # BGR, 0..255

_SMALLEST = 10  # font size in pixels
_HEAT_OPACITY = 0.8  # of the hottest pixels
_GAP = 40  # grey level between pictures


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


def widen(image: np.ndarray, width: int) -> np.ndarray:
    """Returns the image in the middle of one at least ``width`` pixels wide, for text below it."""
    image = to_display(image)
    lacking = max(0, width - image.shape[1])
    sides = ((0, 0), (lacking // 2, lacking - lacking // 2), (0, 0))
    return np.pad(image, sides, constant_values=_GAP)


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
    """Returns the font size, at most ``size``, at which no text is wider; cuts what still is.

    Each text becomes one line, whatever characters a name holds.
    """
    texts = [shown(text).replace("\n", "\\n").replace("\t", "\\t") for text in texts]

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


def draw_heat(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns the image under a heat map, which covers it the more the hotter it is.

    Args:
        image: HxW or HxWx3.
        heat: H x W in [0, 1], scaled to the image where it has another size: 0 leaves the image as
            it is, then comes purple, red in the middle, orange, yellow.
    """
    image = to_display(image)
    height, width = image.shape[:2]
    heat = np.clip(heat, 0, 1).astype(np.float32)
    if heat.shape != (height, width):
        heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.round(heat * 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    opacity = (_HEAT_OPACITY * heat)[..., None]
    return np.round((1 - opacity) * image + opacity * colors).astype(np.uint8)


def draw_heat_bar(image: np.ndarray, ticks: Sequence[tuple[float, str, Color]]) -> np.ndarray:
    """Returns the image with a black strip below: the colours of :func:`draw_heat` over grey.

    Args:
        image: HxW or HxWx3.
        ticks: Places in [0, 1] in ascending order, the texts below them, which shrink until they
            stand apart, and their colours.
    """
    image = to_display(image)
    height, width = image.shape[:2]
    size = max(_SMALLEST, min(round(max(height, width) * 0.05), 28))
    gap = size // 2
    bar = max(width - 2 * gap, 1)
    ends, texts = [place for place, _, _ in ticks], [text for _, text, _ in ticks]
    starts = _tick_starts(ends, texts, size, bar)
    while size > _SMALLEST and any(
        start + font_for(text, size).getlength(text) + gap > following
        for start, text, following in zip(starts, texts, [*starts[1:], width], strict=True)
    ):
        size -= 1
        starts = _tick_starts(ends, texts, size, bar)
    strip = np.zeros((gap + round(2.7 * size), width, 3), np.uint8)
    ramp = np.linspace(0, 1, bar, dtype=np.float32)[None].repeat(size, axis=0)
    strip[gap : gap + size, gap : gap + bar] = draw_heat(np.full(ramp.shape, 128), ramp)
    picture = Image.fromarray(strip[:, :, ::-1])
    draw = ImageDraw.Draw(picture)
    for (place, text, color), start in zip(ticks, starts, strict=True):
        x, y = gap + round(place * (bar - 1)), gap + round(1.25 * size)
        draw.line((x, gap, x, y), fill=color[::-1], width=1 + size // 15)
        draw.text((gap + start, y), text, font=font_for(text, size), fill=color[::-1])
    return np.vstack([image, np.asarray(picture)[:, :, ::-1]])


def _tick_starts(places: Sequence[float], texts: Sequence[str], size: int, bar: int) -> list[float]:
    """Returns where texts begin: at the bar's left end from there on, in its middle around it."""
    pairs = zip(places, texts, strict=True)
    return [place * (bar - font_for(text, size).getlength(text)) for place, text in pairs]


@dataclass(frozen=True)
class Box:
    """A box to draw, with its label."""

    corners: Sequence[float]
    """x1, y1, x2, y2 in pixels of the image."""
    text: str
    color: Color
    dashed: bool = False


def draw_boxes(image: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Returns the image with boxes and their labels, which stay inside it.

    A label stands above its box, or where there is room; one that would hide a label before it is
    left out.

    Args:
        image: HxW or HxWx3.
        boxes: Those whose labels matter most come first.
    """
    image = to_display(image).copy()
    height, width = image.shape[:2]
    far = 2 * max(height, width)  # outside, as all beyond, which OpenCV does not take
    boxes = [replace(box, corners=np.clip(box.corners, -far, far)) for box in boxes]
    thickness = max(1, round(max(height, width) / 300))
    for box in reversed(boxes):
        _draw_edges(image, box, thickness)
    size = max(_SMALLEST + 2, min(round(max(height, width) * 0.03), 24))
    picture = Image.fromarray(image[:, :, ::-1])
    draw, taken = ImageDraw.Draw(picture), []
    for box in boxes:
        fitted, (text,) = _fitted([box.text], size, width - 4)
        font = font_for(text, fitted)
        wide, high = round(font.getlength(text)) + 4, round(fitted * 1.3)
        place = _free_place(box, (wide, high), (width, height), taken)
        if place is not None and text:
            left, top = place
            taken.append((left, top, left + wide, top + high))
            draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=box.color[::-1])
            draw.text((left + 2, top), text, font=font, fill=_readable_on(box.color))
    return np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])


def _draw_edges(image: np.ndarray, box: Box, thickness: int) -> None:
    x1, y1, x2, y2 = (round(float(value)) for value in box.corners)
    if not box.dashed:
        cv2.rectangle(image, (x1, y1), (x2, y2), box.color, thickness)
        return
    dash = 4 * thickness
    for x in range(x1, x2, 2 * dash):
        for y in (y1, y2):
            cv2.line(image, (x, y), (min(x + dash, x2), y), box.color, thickness)
    for y in range(y1, y2, 2 * dash):
        for x in (x1, x2):
            cv2.line(image, (x, y), (x, min(y + dash, y2)), box.color, thickness)


def _free_place(
    box: Box, size: tuple[int, int], image: tuple[int, int], taken: Sequence[tuple[int, ...]]
) -> tuple[int, int] | None:
    """Returns left and top of a label that hides none of those there; None where all do."""
    x1, y1, x2, y2 = (round(float(value)) for value in box.corners)
    (wide, high), (width, height) = size, image
    for x in (x1, x2 - wide):
        left = max(0, min(x, width - wide))
        for top in (y1 - high, y1, y2, y2 - high):
            is_inside = top >= 0 and top + high <= height
            if is_inside and not any(
                left < other[2]
                and left + wide > other[0]
                and top < other[3]
                and top + high > other[1]
                for other in taken
            ):
                return left, top
    return None


def _readable_on(color: Color) -> str:
    blue, green, red = color
    return "black" if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else "white"


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
        padded = np.full((height, image.shape[1] + 4, 3), _GAP, np.uint8)
        padded[: image.shape[0], :-4] = image
        columns.append(padded)
    return np.hstack(columns)[:, :-4]


def tile(images: Sequence[np.ndarray], columns: int, cell: int) -> np.ndarray:
    """Returns the images as a grid, each scaled to fit a square of ``cell`` pixels.

    A row is as high as its highest image: pictures that are wide leave no empty bands.
    """
    fitted = [_fit(image, cell) for image in images]
    rows = [fitted[first : first + columns] for first in range(0, len(fitted), columns)]
    heights = [max(len(image) for image in row) for row in rows]
    grid = np.full((sum(heights) + 4 * len(rows), columns * (cell + 4), 3), _GAP, np.uint8)
    top = 2
    for row, row_height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            height, width = image.shape[:2]
            y = top + (row_height - height) // 2
            x = column * (cell + 4) + 2 + (cell - width) // 2
            grid[y : y + height, x : x + width] = image
        top += row_height + 4
    return grid


def _fit(image: np.ndarray, cell: int) -> np.ndarray:
    image = to_display(image)
    height, width = image.shape[:2]
    scale = cell / max(height, width)
    # A line-scan image can be so narrow that nothing would be left of it.
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
