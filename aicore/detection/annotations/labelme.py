"""labelme's JSON files, one for each image: shapes of any kind become their bounding boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aicore.datasets.annotations import LabelmeFile, find_labelme, read_labelme, stated_size
from aicore.detection.annotations.boxes import AnnotatedImage, Annotations, Box, to_corners
from aicore.detection.annotations.layout import Layout
from aicore.detection.annotations.voc import declared_classes
from aicore.errors import DataError

SUFFIX = ".json"
NO_LABELME = "is no file of labelme"


def read(layout: Layout) -> Annotations:
    """Reads the JSON file of each image, found by the image's own name.

    The classes are the lines of ``labels.txt`` in the root, else all names that occur, sorted.
    """
    paths = layout.find_images()
    images = [
        _read_image(path, layout.annotation_of(path, SUFFIX))
        for path in tqdm(paths, "annotations", unit="file", disable=None, leave=False)
    ]
    annotations = Annotations(layout.source, (), images, "shape")
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
            annotations.images.append(_to_image(content.image, file, content))
    annotations.classes = tuple(annotations.names())
    return annotations


def _read_image(path: Path, file: Path) -> AnnotatedImage:
    if not file.is_file():
        return AnnotatedImage(path, source=file, missing=True)
    try:
        content = read_labelme(file)
    except DataError as error:
        return AnnotatedImage(path, source=file, fault=str(error).rstrip("."))
    if content is None:
        return AnnotatedImage(path, source=file, fault=f"{file} {NO_LABELME}")
    image = _to_image(path, file, content)
    if content.image.name != path.name:
        image.notes.append(
            f"{file}: its imagePath is {content.image.name!r}, but its image is {path.name!r}"
        )
    return image


def _to_image(path: Path, file: Path, content: LabelmeFile) -> AnnotatedImage:
    size = stated_size(content.height, content.width)
    boxes = [_box(number, shape) for number, shape in enumerate(content.shapes)]
    return AnnotatedImage(path, size, file, boxes=boxes)


def _box(number: int, shape: dict[str, Any]) -> Box:
    """Returns the bounding box of a shape."""
    label = str(shape.get("label") or "")
    if not label:
        return Box(number, "", fault="has no label")
    kind = shape.get("shape_type") or "polygon"
    try:
        xs, ys = zip(*((float(x), float(y)) for x, y in shape["points"]), strict=True)
        if kind == "circle" and len(xs) == 2:  # its centre and a point on it
            radius = math.dist((xs[0], ys[0]), (xs[1], ys[1]))
            xs, ys = (xs[0] - radius, xs[0] + radius), (ys[0] - radius, ys[0] + radius)
        # The corners of a mask are its first and last pixel.
        more = 1 if kind == "mask" else 0
        corners = to_corners([min(xs), min(ys), max(xs) + more, max(ys) + more])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return Box(number, label, fault=f"cannot be understood ({error})")
    if len(xs) == 1:
        return Box(number, label, fault="a point has no box")
    return Box(number, label, corners)
