"""Annotations of other tools as mask files: COCO's polygons and run lengths, labelme's shapes."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths
from tqdm import tqdm

from aicore.datasets.annotations import (
    LABELME_BACKGROUND,
    agreed_size,
    as_bool,
    check_points,
    coco_polygons,
    find_labelme,
    read_coco,
    read_labelme,
    stated_size,
)
from aicore.datasets.conversion import (
    Summary,
    choose_classes,
    refuse_reserved_name,
    refuse_to_overwrite,
    relative_path,
    write_lines,
    write_whole,
)
from aicore.datasets.files import LABELME_IGNORE
from aicore.datasets.headers import PILLOW_ERRORS, image_size, open_picture
from aicore.errors import DataError
from aicore.evaluation.areas import decode_mask
from aicore.runtime.images import write_image
from aicore.segmentation.masks import IGNORE

BACKGROUND = "background"
_CROWD = "iscrowd"
_VALUES = {BACKGROUND: 0, LABELME_BACKGROUND: 0, LABELME_IGNORE: IGNORE, _CROWD: IGNORE}
"""Names that are no class: the value of their pixels."""
_CIRCLE_CORNERS = 64


@dataclass
class Annotated:
    """An image and its areas."""

    path: str
    """Of the image, relative to the folder of images, with forward slashes."""
    size: tuple[int, int]
    """Height and width in pixels."""
    shapes: list[Shape] = field(default_factory=list)


@dataclass(frozen=True)
class Shape:
    """One annotated area."""

    place: str
    """Where it stands, for the summary."""
    label: str
    """Its class, or one of the names that are none."""
    content: dict[str, Any]
    """As it stands in the file."""


def convert_coco(
    file: Path,
    images: Path,
    root: Path,
    out: Path,
    name: str,
    classes: Sequence[str] | None = None,
) -> Summary:
    """Writes masks for a COCO file of polygons and run lengths.

    Larger areas are drawn first, so that a small one on top of them stays visible. Areas marked
    ``iscrowd`` are ignored (255). Images without an annotation get a mask of background. Images
    whose file has another size than stated are left out.

    Args:
        file: The JSON.
        images: Folder in which its ``file_name`` are found.
        root: Folder that the paths of the result are relative to: ``images`` or one above it.
        out: Folder to write into: ``masks/<path>.png``, ``labels.txt``, and ``<name>.txt``, a list
            of the images.
        name: Of that list, e.g. ``train``.
        classes: Names to take, in their order; by default all categories by their ids. The
            background comes before them.

    Raises:
        DataError: The file is missing or not of COCO's form, or ``out`` cannot be used.
    """
    coco, summary, found = read_coco(file), Summary(), []
    known = _choose_classes(classes, list(coco.categories.values()), file)
    for annotation in coco.strays:
        reason = f"image_id is not among the {len(coco.images)} images"
        summary.drop(reason, f"annotation {annotation.get('id')}")
    for entry in coco.images:
        stated = entry.height, entry.width
        image = _image_of(images / entry.file_name, root, stated, entry.annotations, summary)
        if image is None:
            continue
        for annotation in entry.annotations:
            place = f"annotation {annotation.get('id')} ({image.path})"
            try:
                label = coco.label_of(annotation)
                if label in known and _is_crowd(annotation):
                    label = _CROWD
            except ValueError as error:
                summary.drop(str(error), place)
            else:
                image.shapes.append(Shape(place, label, annotation))
        found.append(image)
    _write(found, _coco_mask, known, out, name, summary)
    return summary


def convert_labelme(
    folder: Path,
    root: Path,
    out: Path,
    name: str,
    classes: Sequence[str] | None = None,
) -> Summary:
    """Writes masks for labelme's JSON files, one for each image.

    Polygons, rectangles, circles and masks are areas; points and lines are left out. Larger areas
    are drawn first, so that a small one on top of them stays visible. What is called
    ``_background_`` draws background, a hole in what lies below it, and ``__ignore__`` 255.

    Args:
        folder: With the JSON files, read to its depth.
        root: Folder that the paths of the result are relative to; the images lie below it.
        out: Folder to write into: ``masks/<path>.png``, ``labels.txt``, and ``<name>.txt``, a list
            of the images.
        name: Of that list, e.g. ``train``.
        classes: Names to take, in their order; by default all labels in sorted order. The
            background comes before them.

    Raises:
        DataError: There is no such file, one is not of labelme's form, or ``out`` cannot be used.
    """
    files, left_out = find_labelme(folder)
    summary, found = Summary(), []
    for path, reason in left_out:
        summary.drop(reason, str(path), wanted=False)
    for file in files:
        content = read_labelme(file)
        if content is None:
            summary.drop("is no file of labelme", file.name, wanted=False)
            continue
        stated = content.height, content.width
        image = _image_of(content.image, root, stated, content.shapes, summary)
        if image is None:
            continue
        for number, shape in enumerate(content.shapes):
            place = f"{file.name}, shape {number} ({image.path})"
            label = shape.get("label")
            label = str(label).strip() if isinstance(label, str | int) else ""
            if label:
                image.shapes.append(Shape(place, label, shape))
            else:
                summary.drop("has no label", place)
        found.append(image)
    labels = sorted({shape.label for image in found for shape in image.shapes})
    known = _choose_classes(classes, labels, folder)
    _write(found, _labelme_mask, known, out, name, summary)
    return summary


def _image_of(
    file: Path,
    root: Path,
    stated: tuple[object, object],
    shapes: Sequence[dict[str, Any]],
    summary: Summary,
) -> Annotated | None:
    """Returns an image, its areas to be filled in; None if its size is not to be had.

    Args:
        file: The image.
        root: As in :func:`convert_coco`.
        stated: Height and width in the annotation.
        shapes: What is annotated in the image.
        summary: Where an image that is left out is noted.
    """
    path = relative_path(file, root)
    try:
        image = Annotated(path, agreed_size(stated_size(*stated), image_size(file)))
    except ValueError as error:
        summary.drop(f"an image: {error}", path, wanted=bool(shapes))
        return None
    if not file.is_file():
        summary.change("the image file does not exist (see --images)", path)
    return image


def _choose_classes(asked: Sequence[str] | None, there: list[str], source: Path) -> list[str]:
    """Returns the class names without the background."""
    # Some tools have a category of the same name above their classes.
    names = choose_classes(asked, [*there, BACKGROUND], source)
    names = [name for name in names if name not in _VALUES]
    if len(names) >= IGNORE:
        raise DataError(
            f"{str(source)!r} has {len(names)} classes: a mask holds at most {IGNORE - 1} beside "
            "the background. Choose some with --classes."
        )
    return names


def _write(
    images: list[Annotated],
    mask_of: Callable[[dict[str, Any], tuple[int, int]], np.ndarray],
    classes: list[str],
    out: Path,
    name: str,
    summary: Summary,
) -> None:
    """Writes all masks, then the lists; nothing if it fails on the way."""
    refuse_reserved_name(name)
    images.sort(key=lambda image: image.path)
    twice = next((a.path for a, b in pairwise(images) if a.path == b.path), None)
    if twice is not None:
        raise DataError(f"{twice} is listed twice: leave one of its annotation files.")
    files = [f"masks/{PurePosixPath(image.path).with_suffix('.png')}" for image in images]
    lists = {
        "labels.txt": [BACKGROUND, *classes],
        f"{name}.txt": [image.path for image in images],
    }
    there = {out / file: lines for file, lines in lists.items()}
    refuse_to_overwrite([out / file for file in files], there)
    values = {**{name: index for index, name in enumerate(classes, start=1)}, **_VALUES}
    summary.areas = dict.fromkeys(classes, 0)
    with write_whole(out) as folder:
        bar = tqdm(images, "masks", unit="image", disable=None)
        for image, file in zip(bar, files, strict=True):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_image(folder / file, _draw(image, mask_of, values, summary))
        summary.refuse_nothing()
        for file, lines in lists.items():
            write_lines(folder / file, lines)


def _draw(
    image: Annotated,
    mask_of: Callable[[dict[str, Any], tuple[int, int]], np.ndarray],
    values: dict[str, int],
    summary: Summary,
) -> np.ndarray:
    """Returns the mask of an image, H x W uint8, and counts its areas."""
    areas = []
    for shape in image.shapes:
        if shape.label not in values:
            reason = f"class {shape.label!r} is not asked for"
            summary.drop(reason, shape.place, wanted=False)
            continue
        try:
            area = mask_of(shape.content, image.size)
            if not area.any():
                raise ValueError("covers no pixel of the image")
        except ValueError as error:
            summary.drop(str(error), shape.place)
        else:
            areas.append((shape.label, area))
            if shape.label in summary.areas:
                summary.areas[shape.label] += 1
            else:
                value = _VALUES[shape.label]
                summary.change(f"called {shape.label}: drawn as {value}, no class", shape.place)
    mask = np.zeros(image.size, np.uint8)
    for label, area in sorted(areas, key=lambda pair: -pair[1].sum()):
        mask[area] = values[label]
    summary.images += 1
    summary.empty += not areas
    return mask


def _is_crowd(annotation: dict[str, Any]) -> bool:
    try:
        return as_bool(annotation.get("iscrowd"))
    except ValueError as error:
        raise ValueError(f"its iscrowd {error}") from error


def _coco_mask(annotation: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Returns the area of an annotation, H x W bool.

    Raises:
        ValueError: There is none; the message is a clause.
    """
    segmentation = annotation.get("segmentation")
    if not segmentation:
        raise ValueError("has a box, but no segmentation")
    if not isinstance(segmentation, dict):
        return _fill(coco_polygons(segmentation, size), size)
    stated = segmentation.get("size")
    if not isinstance(stated, list) or len(stated) != 2 or stated_size(*stated) != size:
        raise ValueError("its run lengths are of another size than the image")
    return decode_mask(segmentation.get("counts"), size)


def _labelme_mask(shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Returns the area of a shape, H x W bool.

    Raises:
        ValueError: There is none; the message is a clause.
    """
    kind = shape.get("shape_type") or "polygon"
    points = check_points(shape.get("points") or [], size)
    if len(points) >= 3 and (kind == "polygon" or (kind == "rectangle" and len(points) == 4)):
        return _fill([points], size)
    if kind == "polygon":
        raise ValueError("a polygon of fewer than 3 points")
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return _fill([np.array(corners)], size)
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        angles = np.linspace(0, 2 * math.pi, _CIRCLE_CORNERS, endpoint=False)
        circle = points[0] + radius * np.column_stack([np.cos(angles), np.sin(angles)])
        return _fill([circle], size)
    if kind == "mask" and len(points) and shape.get("mask"):
        return _paste(shape["mask"], points[0], size)
    raise ValueError(f"a {kind} of {len(points)} point(s) has no area")


def _fill(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    # COCO's own rasteriser; it takes two points for a box.
    runs = run_lengths.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size)
    return run_lengths.decode(run_lengths.merge(runs)).astype(bool)


def _paste(encoded: object, corner: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns labelme's small mask, a PNG as base64, put at its place in the image."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError("its mask is no base64 text") from error
    try:
        with open_picture(io.BytesIO(data)) as picture:
            is_small = picture.height <= size[0] and picture.width <= size[1]
            part = np.asarray(picture.convert("L")) > 0 if is_small else None
    except PILLOW_ERRORS as error:
        raise ValueError("its mask is no picture, or a damaged one") from error
    if part is None:
        raise ValueError("its mask is larger than the image")
    left, top = np.rint(corner).astype(int).tolist()
    mask = np.zeros(size, bool)
    rows = slice(max(top, 0), min(top + part.shape[0], size[0]))
    columns = slice(max(left, 0), min(left + part.shape[1], size[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        mask[rows, columns] = part[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
    return mask
