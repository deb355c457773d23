"""The one form that all annotation files are read to, and what is wrong with a box."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from aicore.datasets.annotations import is_far_outside
from aicore.errors import DataError
from aicore.runtime.files import MISSING, why_no_file

Corners = tuple[float, float, float, float]


class Box(NamedTuple):
    """One annotated object."""

    number: int | str
    """Which one of its file it is."""
    label: str
    """Class name; empty where it is not known, and of what is to be ignored in every class."""
    corners: Corners = (math.nan,) * 4  # type: ignore[assignment]
    """Left, top, right and bottom edge in pixels: the image's pixels lie between 0 and its size."""
    ignored: bool = False
    """Whether it neither has to be found nor counts as a false alarm (``iscrowd``, difficult)."""
    fault: str = ""
    """Why it could not be read."""

    def labels(self, classes: Collection[str]) -> Collection[str]:
        """Returns the class that the box is of; all of ``classes`` if it is ignored in each."""
        return classes if self.ignored and not self.label else [self.label]


@dataclass
class AnnotatedImage:
    """An image and its boxes."""

    path: Path
    size: tuple[int, int] | None = None
    """Height and width in pixels; None where nothing states them."""
    source: Path = Path()
    """The annotation file."""
    missing: bool = False
    """Whether there is no such file."""
    boxes: list[Box] = field(default_factory=list)
    fault: str = ""
    """Why the annotation file cannot be read."""
    notes: list[str] = field(default_factory=list)
    """What is odd, but does no harm."""
    remarks: list[str] = field(default_factory=list)
    """What a reader passes over because the file says so, a clause for each."""
    id: int | None = None
    """Number of the image in its file."""


@dataclass
class Annotations:
    """What the annotation files of a split hold."""

    source: Path
    """The file, or the folder or list of the images."""
    classes: tuple[str, ...]
    """Names that the files declare, else those that occur, sorted."""
    images: list[AnnotatedImage]
    noun: str
    """What an entry of a file is called: ``object 3``, ``line 3``."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Reason and place of what belongs to no image."""
    has_widths: bool = False
    """Whether the format states a box by its width and height in pixels."""

    def place(self, image: AnnotatedImage, box: Box) -> str:
        """Returns where a box stands: ``labels/a.txt, line 3 (scratch)``."""
        name = f" ({box.label})" if box.label else ""
        return f"{image.source}, {self.noun} {box.number}{name}"

    def names(self) -> list[str]:
        """Returns the class names that occur, sorted."""
        return sorted({box.label for image in self.images for box in image.boxes if box.label})


def read_each(
    images: Sequence[AnnotatedImage], read: Callable[[AnnotatedImage], None]
) -> list[AnnotatedImage]:
    """Reads the annotation file of each image; what is wrong with a file is its image's fault.

    Args:
        images: With their ``source``.
        read: Reads the file into the image; raises :class:`DataError`.
    """
    bar = tqdm(images, "annotations", unit="file", disable=None, leave=False)
    for image in bar:
        reason = why_no_file(image.source)
        if reason == MISSING:
            image.missing = True
        elif reason:
            image.fault = f"{image.source} is no file that can be read: {reason}"
        else:
            try:
                read(image)
            except DataError as error:
                image.fault = str(error).removesuffix(".")
    return list(images)


def to_corners(values: Sequence[object]) -> Corners:
    """Returns four numbers, which may be given as text.

    Raises:
        ValueError: They are not four finite numbers; the message says what they are.
    """
    try:
        numbers = tuple(float(value) for value in values)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"its box is {list(values)!r}, expected four finite numbers")
    return numbers  # type: ignore[return-value]


def fault_of(box: Box, size: tuple[int, int] | None) -> str:
    """Returns why a box cannot be used, a clause; empty for a sound one.

    Args:
        box: The box.
        size: Height and width of its image in pixels; None if they are not known.
    """
    if box.fault:
        return box.fault
    left, top, right, bottom = box.corners
    if right < left or bottom < top:
        return "is inverted: its right or bottom edge comes before its left or top one"
    if right == left or bottom == top:
        return "has no width or no height"
    if is_far_outside(*box.corners, size):
        return "lies far outside the image"
    if size and (left >= size[1] or top >= size[0] or right <= 0 or bottom <= 0):
        return "lies wholly outside the image"
    return ""


def clip(corners: Corners, size: tuple[int, int] | None) -> tuple[Corners, float]:
    """Cuts a box at the border of its image.

    Returns:
        The corners within the image, and by how many pixels the farthest edge lay outside.
    """
    if size is None:
        return corners, 0.0
    left, top, right, bottom = corners
    height, width = size
    outside = max(-left, -top, right - width, bottom - height, 0.0)
    return (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)), outside


def describe(box: Box, size: tuple[int, int] | None) -> str:
    """Returns the coordinates of a box and the size of its image, for messages."""
    if box.fault:
        return ""
    edges = ", ".join(
        f"{name} {value:g}"
        for name, value in zip(("x1", "y1", "x2", "y2"), box.corners, strict=True)
    )
    return f" ({edges}{f'; image {size[1]} x {size[0]}' if size else ''})"
