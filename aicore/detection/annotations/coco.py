"""COCO's JSON file of boxes (Lin et al., 2014; https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from aicore.datasets.annotations import (
    CocoFile,
    as_bool,
    as_id,
    coco_polygons,
    read_coco,
    stated_size,
)
from aicore.detection.annotations.boxes import (
    AnnotatedImage,
    Annotations,
    Box,
    Corners,
    to_corners,
)
from aicore.detection.annotations.layout import Layout
from aicore.errors import DataError


def read(layout: Layout) -> Annotations:
    """Reads a COCO file: ``bbox`` is left, top, width and height in pixels.

    The classes are its categories in the order of their ids, whatever the gaps between them.

    Raises:
        DataError: The file is not of COCO's form, or two categories have one name.
    """
    return read_file(layout.annotation_file(), layout.image_root)


def read_file(file: Path, image_root: Path) -> Annotations:
    """Reads a COCO file whose ``file_name`` are relative to a folder."""
    coco = read_coco(file)
    _refuse_twins(file, coco)
    images = [
        AnnotatedImage(
            image_root / entry.file_name,
            stated_size(entry.height, entry.width),
            file,
            boxes=[_box(annotation, coco) for annotation in entry.annotations],
            id=entry.id if isinstance(entry.id, int) else None,
        )
        for entry in coco.images
    ]
    reason = f"its image_id is not among the {len(images)} images"
    strays = [(reason, f"{file}, annotation {stray.get('id')}") for stray in coco.strays]
    classes = tuple(dict.fromkeys(coco.categories.values()))
    return Annotations(file, classes, images, "annotation", strays, has_widths=True)


def _box(annotation: dict[str, Any], coco: CocoFile) -> Box:
    number, label = annotation.get("id", "?"), ""
    try:
        label = coco.label_of(annotation)
        corners = _corners(annotation)
    except ValueError as error:
        return Box(number, label, fault=str(error))
    try:
        return Box(number, label, corners, as_bool(annotation.get("iscrowd")))
    except ValueError as error:
        return Box(number, label, fault=f"its iscrowd {error}")


def _corners(annotation: dict[str, Any]) -> Corners:
    """Returns the edges of ``bbox``; without it those around the polygons.

    Raises:
        ValueError: There is neither, or it cannot be used; the message is a clause.
    """
    values = annotation.get("bbox")
    if isinstance(values, list) and values:
        left, top, width, height = to_corners(values)
        return left, top, left + width, top + height
    if not annotation.get("segmentation"):
        raise ValueError("has no bbox")
    if isinstance(annotation["segmentation"], dict):
        raise ValueError("has no bbox, only run lengths")
    # Their size is not known here: fault_of compares the box with it.
    points = np.concatenate(coco_polygons(annotation["segmentation"], None))
    return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())


def _refuse_twins(file: Path, coco: CocoFile) -> None:
    """Raises for two categories of one name; one that nothing uses does no harm.

    Some tools write a category above the classes that has the name of one of them.
    """
    used: set[int | str] = set()
    for image in coco.images:
        for annotation in image.annotations:
            with suppress(ValueError):  # is told as the fault of its box
                used.add(as_id(annotation.get("category_id")))
    seen: dict[str, Any] = {}
    for key, name in coco.categories.items():
        if key not in used:
            continue
        if name in seen:
            raise DataError(
                f"{str(file)!r} has two categories called {name!r}, ids {seen[name]!r} and "
                f"{key!r}: rename one of them, or give their annotations one category_id."
            )
        seen[name] = key


def write(
    file: Path, images: Sequence[AnnotatedImage], names: Sequence[str], classes: Sequence[str]
) -> None:
    """Writes a COCO file.

    Args:
        file: To write; its folder is made.
        images: With their sizes and sound boxes.
        names: Of their files, as ``file_name``.
        classes: Names of the categories, ids from 1.
    """
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    ids = {name: index for index, name in enumerate(classes, start=1)}
    content["categories"] = [{"id": index, "name": name} for name, index in ids.items()]
    for image_id, (image, name) in enumerate(zip(images, names, strict=True), start=1):
        height, width = image.size  # type: ignore[misc]
        content["images"].append(
            {"id": image_id, "file_name": name, "width": width, "height": height}
        )
        for box in image.boxes:
            left, top, right, bottom = box.corners
            content["annotations"].append(
                {
                    # From 1: COCO's evaluation takes an annotation's id of 0 for "no match".
                    "id": len(content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": ids[box.label],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": int(box.ignored),
                }
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
