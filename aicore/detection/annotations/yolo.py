"""YOLO's text files, one for each image: a line ``class cx cy w h`` in shares of the image."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import yaml
from tqdm import tqdm

from aicore.datasets.files import read_labels
from aicore.datasets.headers import image_sizes
from aicore.detection.annotations.boxes import AnnotatedImage, Annotations, Box, to_corners
from aicore.detection.annotations.layout import Layout
from aicore.errors import DataError

SUFFIX = ".txt"
NAMES_FILE = "data.yaml"
_DIGITS = 9  # of a share: 1e-5 pixels in an image of 10,000


def read(layout: Layout) -> Annotations:
    """Reads the text file of each image; the images' headers tell their sizes.

    A line with more than five numbers is a polygon, ``class x1 y1 x2 y2 x3 y3 ...``, and becomes
    its bounding box. An image without a file has no objects. The classes are the ``names`` of
    ``data.yaml``, else the lines of ``labels.txt`` or ``classes.txt``, in the root; or of
    ``classes.txt`` among the labels; else those that are asked for.

    Raises:
        DataError: There are no class names.
    """
    paths = layout.find_images()
    files = [layout.annotation_of(path, SUFFIX) for path in paths]
    classes = _classes(layout, files[0].parent)
    sizes = image_sizes(paths)
    images = [
        _read_image(path, file, size, classes)
        for path, file, size in tqdm(
            zip(paths, files, sizes, strict=True),
            "annotations",
            len(paths),
            unit="file",
            disable=None,
            leave=False,
        )
    ]
    return Annotations(layout.source, classes, images, "line")


def _classes(layout: Layout, labels: Path) -> tuple[str, ...]:
    for name in (NAMES_FILE, "data.yml"):
        if (layout.root / name).is_file():
            return _read_names(layout.root / name)
    folders = dict.fromkeys([layout.root, labels, *labels.parents])
    inside = [folder for folder in folders if folder.is_relative_to(layout.root)]
    for file in [layout.root / "labels.txt", *(folder / "classes.txt" for folder in inside)]:
        if file.is_file():
            return tuple(read_labels(file, ""))
    if layout.classes:
        return layout.classes
    raise DataError(
        f"{str(layout.root)!r} has no names of the classes: expected data.yaml with names, or "
        "labels.txt or classes.txt with one name a line, in the order of the indices; or classes = "
        "(...) in the config."
    )


def _read_names(file: Path) -> tuple[str, ...]:
    """Returns the ``names`` of a ``data.yaml``: a list, or names by their indices."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            f"{str(file)!r} is no YAML file: {' '.join(str(error).split())}."
        ) from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not names or not isinstance(names, list):
        raise DataError(
            f"{str(file)!r}: names is {names!r}; expected a list of class names, or one name for "
            "each index from 0 on."
        )
    return tuple(map(str, names))


def _read_image(
    path: Path, file: Path, size: tuple[int, int] | None, classes: tuple[str, ...]
) -> AnnotatedImage:
    if not file.is_file():
        return AnnotatedImage(path, size, file, missing=True)
    image = AnnotatedImage(path, size, file)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        image.fault = f"{file} is no text file that can be read: {error}"
        return image
    # The boxes of an image that cannot be read stay in shares: their number counts, no more.
    height, width = size or (1, 1)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            image.boxes.append(_box(number, line.split(), classes, (width, height)))
    return image


def _box(number: int, columns: list[str], classes: tuple[str, ...], scale: tuple[int, int]) -> Box:
    label, fault = _label(columns[0], classes)
    if fault:
        return Box(number, label, fault=fault)
    if len(columns) != 5 and (len(columns) < 7 or len(columns) % 2 == 0):
        return Box(
            number,
            label,
            fault=f"has {len(columns)} columns, expected 5 (class, centre x and y, width, height), "
            "or a class and the points of a polygon",
        )
    try:
        if len(columns) == 5:
            x, y, w, h = to_corners(columns[1:])
            shares = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        else:
            xs, ys = list(map(float, columns[1::2])), list(map(float, columns[2::2]))
            if not all(map(math.isfinite, [*xs, *ys])):
                raise ValueError("a point of its polygon is no finite number")
            shares = to_corners([min(xs), min(ys), max(xs), max(ys)])
    except ValueError as error:
        return Box(number, label, fault=str(error))
    left, top, right, bottom = shares
    return Box(
        number, label, (left * scale[0], top * scale[1], right * scale[0], bottom * scale[1])
    )


def _label(text: str, classes: tuple[str, ...]) -> tuple[str, str]:
    """Returns the class name of an index, and what is wrong with the index."""
    try:
        index = float(text)  # some tools write 0.0
    except ValueError:
        return "", f"begins with {text!r}, expected the index of a class"
    if not index.is_integer() or not 0 <= index < len(classes):
        return "", f"class index {text} is not among 0..{len(classes) - 1} ({len(classes)} classes)"
    return classes[int(index)], ""


def write(file: Path, image: AnnotatedImage, classes: Sequence[str]) -> None:
    """Writes the text file of an image with its size and sound boxes; empty where it has none."""
    height, width = image.size  # type: ignore[misc]
    lines = []
    for box in image.boxes:
        left, top, right, bottom = box.corners
        shares = (
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        )
        index = classes.index(box.label)
        lines.append(" ".join([str(index), *(f"{share:.{_DIGITS}f}" for share in shares)]))
    file.write_bytes("".join(f"{line}\n" for line in lines).encode())


def names_lines(classes: Sequence[str]) -> list[str]:
    """Returns the lines of a ``data.yaml`` with the class names."""
    quoted = (json.dumps(name, ensure_ascii=False) for name in classes)  # JSON is YAML, too
    return ["names:", *(f"  {index}: {name}" for index, name in enumerate(quoted))]
