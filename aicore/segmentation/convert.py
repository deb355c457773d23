"""Annotations of other tools as mask files: COCO's polygons and run lengths, labelme's shapes."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as run_lengths
from tqdm import tqdm

from aicore.datasets.annotations import find_labelme, read_coco, read_labelme, stated_size
from aicore.datasets.conversion import (
    Summary,
    choose_classes,
    refuse_reserved_name,
    refuse_to_overwrite,
    relative_path,
    write_lines,
)
from aicore.errors import DataError
from aicore.runtime.images import write_image
from aicore.segmentation.masks import IGNORE

BACKGROUND = "background"
_CIRCLE_CORNERS = 64


@dataclass(frozen=True)
class Area:
    """One annotated area of an image."""

    label: str | None
    """The class; None for an area that is to be ignored."""
    mask: np.ndarray
    """H x W bool."""


@dataclass
class Annotated:
    """An image and its areas."""

    path: str
    """Of the image, relative to the folder of images, with forward slashes."""
    size: tuple[int, int]
    """Height and width in pixels."""
    shapes: list[dict[str, Any]] = field(default_factory=list)
    """As they stand in the file."""


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
    ``iscrowd`` are ignored (255). Images without an annotation get a mask of background.

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
        size = _size_of(file, entry.file_name, entry.height, entry.width)
        image = Annotated(relative_path(images / entry.file_name, root), size)
        for annotation in entry.annotations:
            place = f"annotation {annotation.get('id')}"
            label = coco.categories.get(annotation.get("category_id"))
            if label is None:
                summary.drop("category_id is not among the categories", place)
            elif label not in known:
                summary.drop(f"class {label!r} is not asked for", place)
            elif not annotation.get("segmentation"):
                summary.drop("has a box, but no segmentation", place)
            else:
                image.shapes.append({**annotation, "label": label, "place": place})
        found.append(image)
    _write(found, _coco_area, known, out, name, summary)
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
    are drawn first, so that a small one on top of them stays visible.

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
        summary.drop(reason, str(path))
    for file in files:
        content = read_labelme(file)
        if content is None:
            summary.drop("is no file of labelme", file.name)
            continue
        size = _size_of(file, content.image.name, content.height, content.width)
        shapes = [
            {**shape, "label": str(shape.get("label", "")), "place": f"{file.name}, shape {number}"}
            for number, shape in enumerate(content.shapes)
        ]
        found.append(Annotated(relative_path(content.image, root), size, shapes))
    labels = sorted({shape["label"] for image in found for shape in image.shapes})
    known = _choose_classes(classes, labels, folder)
    for image in found:
        for shape in [s for s in image.shapes if s["label"] not in known]:
            summary.drop(f"class {shape['label']!r} is not asked for", shape["place"])
            image.shapes.remove(shape)
    _write(found, _labelme_area, known, out, name, summary)
    return summary


def _size_of(file: Path, image: str, height: object, width: object) -> tuple[int, int]:
    """Returns height and width of an image as the file states them."""
    size = stated_size(height, width)
    if size is None:
        raise DataError(
            f"{str(file)!r} states no size of {image!r}: height {height!r}, width {width!r}; "
            "expected whole numbers of pixels above 0."
        )
    return size


def _choose_classes(asked: Sequence[str] | None, there: list[str], source: Path) -> list[str]:
    """Returns the class names without the background."""
    # Some tools have a category of the same name above their classes.
    names = choose_classes(asked, [*there, BACKGROUND], source)
    names = [name for name in names if name != BACKGROUND]
    if len(names) >= IGNORE:
        raise DataError(
            f"{str(source)!r} has {len(names)} classes: a mask holds at most {IGNORE - 1} beside "
            "the background. Choose some with --classes."
        )
    return names


def _write(
    images: list[Annotated],
    area_of: Callable[[dict[str, Any], tuple[int, int]], Area | str],
    classes: list[str],
    out: Path,
    name: str,
    summary: Summary,
) -> None:
    refuse_reserved_name(name)
    images.sort(key=lambda image: image.path)
    files = [out / "masks" / PurePosixPath(image.path).with_suffix(".png") for image in images]
    lists = {
        out / "labels.txt": [BACKGROUND, *classes],
        out / f"{name}.txt": [image.path for image in images],
    }
    refuse_to_overwrite(files, lists)
    summary.areas = dict.fromkeys(classes, 0)
    for image, file in zip(tqdm(images, "masks", unit="image", disable=None), files, strict=True):
        areas = _areas_of(image, area_of, summary)
        mask = np.zeros(image.size, np.uint8)
        for area in sorted(areas, key=lambda area: -area.mask.sum()):
            mask[area.mask] = IGNORE if area.label is None else 1 + classes.index(area.label)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_image(file, mask)
        summary.images += 1
        summary.empty += not areas
        for area in areas:
            if area.label is not None:
                summary.areas[area.label] += 1
    for file, lines in lists.items():
        write_lines(file, lines)


def _areas_of(image: Annotated, area_of: Any, summary: Summary) -> list[Area]:
    areas = []
    for shape in image.shapes:
        try:
            area = area_of(shape, image.size)
        except (KeyError, TypeError, ValueError) as error:
            area = f"cannot be understood ({error})"
        place = f"{shape['place']} ({image.path})"
        if isinstance(area, str):
            summary.drop(area, place)
        elif not area.mask.any():
            summary.drop("covers no pixel of the image", place)
        else:
            areas.append(area)
    return areas


def _coco_area(shape: dict[str, Any], size: tuple[int, int]) -> Area | str:
    """Returns the area of an annotation, or why there is none."""
    label = None if shape.get("iscrowd") else shape["label"]
    segmentation = shape["segmentation"]
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != list(size):
            return "run lengths of another size than the image"
        runs = segmentation
        if isinstance(runs["counts"], list):
            if sum(runs["counts"]) != size[0] * size[1]:
                return "run lengths of another number of pixels than the image"
            runs = run_lengths.frPyObjects(runs, *size)
        return Area(label, run_lengths.decode(runs).astype(bool))
    polygons = [np.asarray(part, np.float64).reshape(-1, 2) for part in segmentation if len(part)]
    return _of_polygons(label, polygons, size)


def _labelme_area(shape: dict[str, Any], size: tuple[int, int]) -> Area | str:
    """Returns the area of a shape, or why there is none."""
    kind, label = shape.get("shape_type") or "polygon", str(shape["label"])
    points = np.asarray(shape.get("points") or [], np.float64).reshape(-1, 2)
    if kind == "polygon" or (kind == "rectangle" and len(points) == 4):
        return _of_polygons(label, [points], size)
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return _of_polygons(label, [np.array(corners)], size)
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        angles = np.linspace(0, 2 * math.pi, _CIRCLE_CORNERS, endpoint=False)
        circle = points[0] + radius * np.column_stack([np.cos(angles), np.sin(angles)])
        return _of_polygons(label, [circle], size)
    if kind == "mask" and len(points) and shape.get("mask"):
        return _of_picture(label, shape["mask"], points[0], size)
    return f"a {kind} of {len(points)} point(s) has no area"


def _of_polygons(
    label: str | None, polygons: list[np.ndarray], size: tuple[int, int]
) -> Area | str:
    polygons = [polygon for polygon in polygons if len(polygon) >= 3]
    if not polygons:
        return "a polygon of fewer than 3 points"
    # COCO's own rasteriser; it takes two points for a box.
    runs = run_lengths.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size)
    return Area(label, run_lengths.decode(run_lengths.merge(runs)).astype(bool))


def _of_picture(label: str, encoded: str, corner: np.ndarray, size: tuple[int, int]) -> Area | str:
    """Returns labelme's small mask, a PNG as base64, put at its place in the image."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return "its mask is no base64 text"
    part = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if part is None:
        return "its mask is no picture"
    left, top = (round(float(value)) for value in corner)
    mask = np.zeros(size, bool)
    rows = slice(max(top, 0), min(top + part.shape[0], size[0]))
    columns = slice(max(left, 0), min(left + part.shape[1], size[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        mask[rows, columns] = (
            part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] > 0
        )
    return Area(label, mask)
