"""labelme's JSON files, one for each image: shapes of any kind become their bounding boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from aicore.datasets.annotations import (
    LABELME_BACKGROUND,
    LabelmeFile,
    check_points,
    find_labelme,
    read_labelme,
    stated_size,
)
from aicore.datasets.files import LABELME_IGNORE
from aicore.detection.annotations.boxes import AnnotatedImage, Annotations, Box, read_each
from aicore.detection.annotations.layout import Layout
from aicore.detection.annotations.voc import declared_classes
from aicore.errors import DataError

SUFFIX = ".json"
NO_LABELME = "is no file of labelme"


def read(layout: Layout) -> Annotations:
    """Reads the JSON file of each image, found by the image's own name.

    The classes are the lines of ``labels.txt`` in the root, else all names that occur, sorted.
    labelme's own names are none of them: what is called ``_background_`` is no object, and
    ``__ignore__`` is to be ignored in every class.
    """
    images = [
        AnnotatedImage(path, source=layout.annotation_of(path, SUFFIX))
        for path in layout.find_images()
    ]
    annotations = Annotations(layout.source, (), read_each(images, _read_image), "shape")
    annotations.classes = declared_classes(layout.root) or tuple(annotations.names())
    return annotations


def read_folder(folder: Path) -> Annotations:
    """Reads all JSON files below a folder; the images are those that the files name.

    Raises:
        DataError: There is no such file, or one is no JSON file.
    """
    files, left_out = find_labelme(folder)
    annotations = Annotations(folder, (), [], "shape")
    annotations.faults += [(reason, str(path)) for path, reason in left_out]
    for file in files:
        content = read_labelme(file)
        if content is None:
            annotations.faults.append((NO_LABELME, str(file)))
        else:
            annotations.images.append(_take(content, AnnotatedImage(content.image, source=file)))
    annotations.classes = tuple(annotations.names())
    return annotations


def _read_image(image: AnnotatedImage) -> None:
    content = read_labelme(image.source)
    if content is None:
        raise DataError(f"{image.source} {NO_LABELME}")
    _take(content, image)
    if content.image.name != image.path.name:
        image.notes.append(
            f"{image.source}: its imagePath is {content.image.name!r}, but its image is "
            f"{image.path.name!r}"
        )


def _take(content: LabelmeFile, image: AnnotatedImage) -> AnnotatedImage:
    """Puts the size and the boxes of a file into its image."""
    image.size = stated_size(content.height, content.width)
    for number, shape in enumerate(content.shapes):
        if _label(shape) == LABELME_BACKGROUND:
            image.remarks.append(f"shapes called {LABELME_BACKGROUND}, which are no objects")
        else:
            image.boxes.append(_box(number, shape))
    return image


def _label(shape: dict[str, Any]) -> str:
    label = shape.get("label")
    return str(label).strip() if isinstance(label, str | int) else ""


def _box(number: int, shape: dict[str, Any]) -> Box:
    """Returns the bounding box of a shape."""
    label, kind = _label(shape), shape.get("shape_type") or "polygon"
    if not label:
        return Box(number, "", fault="has no label")
    try:
        points = check_points(shape.get("points"), None)
        if len(points) < 2:
            raise ValueError("a point has no box" if len(points) else "has no points")
        low, high = points.min(axis=0), points.max(axis=0)
        if kind == "circle" and len(points) == 2:  # its centre and a point on it
            radius = math.dist(*points)
            low, high = points[0] - radius, points[0] + radius
        # The corners of a mask are its first and last pixel.
        high = high + 1 if kind == "mask" else high
    except ValueError as error:
        return Box(number, label, fault=str(error))
    corners = (*low.tolist(), *high.tolist())
    if label == LABELME_IGNORE:
        return Box(number, "", corners, ignored=True)
    return Box(number, label, corners)
