"""COCO's JSON file of boxes (Lin et al., 2014; https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aicore.datasets.annotations import CocoFile, read_coco, stated_size
from aicore.detection.annotations.boxes import AnnotatedImage, Annotations, Box, to_corners
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
            boxes=[_box(annotation, coco.categories) for annotation in entry.annotations],
            id=entry.id if isinstance(entry.id, int) else None,
        )
        for entry in coco.images
    ]
    reason = f"its image_id is not among the {len(images)} images"
    strays = [(reason, f"{file}, annotation {stray.get('id')}") for stray in coco.strays]
    classes = tuple(dict.fromkeys(coco.categories.values()))
    return Annotations(file, classes, images, "annotation", strays)


def _box(annotation: dict[str, Any], categories: dict[Any, str]) -> Box:
    number, category = annotation.get("id", "?"), annotation.get("category_id")
    label = categories.get(category) if isinstance(category, int | str) else None
    if label is None:
        return Box(number, "", fault=f"its category_id {category!r} is not among the categories")
    values = annotation.get("bbox")
    if not isinstance(values, list):
        return Box(number, label, fault="has no bbox")
    try:
        left, top, width, height = to_corners(values)
    except ValueError as error:
        return Box(number, label, fault=str(error))
    corners = left, top, left + width, top + height
    return Box(number, label, corners, bool(annotation.get("iscrowd")))


def _refuse_twins(file: Path, coco: CocoFile) -> None:
    """Raises for two categories of one name; one that nothing uses does no harm.

    Some tools write a category above the classes that has the name of one of them.
    """
    asked = (a.get("category_id") for image in coco.images for a in image.annotations)
    used = {key for key in asked if isinstance(key, int | str)}
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
    file.write_text(json.dumps(content), encoding="utf-8")
