"""YOLO's text files, one for each image: a line ``class cx cy w h`` in shares of the image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from aicore.datasets.annotations import as_id, check_points, unique_keys
from aicore.datasets.base import unique_classes
from aicore.datasets.files import read_labels, read_text
from aicore.datasets.headers import image_sizes
from aicore.detection.annotations.boxes import (
    AnnotatedImage,
    Annotations,
    Box,
    Corners,
    read_each,
    to_corners,
)
from aicore.detection.annotations.layout import Layout
from aicore.errors import DataError

SUFFIX = ".txt"
NAMES_FILE = "data.yaml"
_DIGITS = 9  # of a share: 1e-5 pixels in an image of 10,000
_BOX = 5  # columns of a class and a box
_TOLERANCE = 0.01  # share of the image by which key points may lie outside their box
_SPREAD = 0.25  # share of a box's longer extent that its key points take at least
_Line = tuple[int, list[str]]
"""Its number and its columns."""


def read(layout: Layout) -> Annotations:
    """Reads the text file of each image; the images' headers tell their sizes.

    A line with more than five numbers is a polygon, ``class x1 y1 x2 y2 x3 y3 ...``, and becomes
    its bounding box; with ``kpt_shape`` in ``data.yaml`` it is a box with key points, which are
    passed over. An image without a file has no objects. The classes are the ``names`` of
    ``data.yaml``, else the lines of ``labels.txt`` or ``classes.txt``, in the root; or of
    ``classes.txt`` among the labels; else those that are asked for.

    Raises:
        DataError: There are no class names, ``data.yaml`` is wrong, or polygons cannot be told
            from boxes with key points.
    """
    paths = layout.find_images()
    images = [
        AnnotatedImage(path, size, layout.annotation_of(path, SUFFIX))
        for path, size in zip(paths, image_sizes(paths), strict=True)
    ]
    data = _read_data_file(layout.root)
    classes = data.names if data else _classes(layout, images[0].source.parent)
    keypoints = data.keypoints if data else None
    lines: dict[Path, list[_Line]] = {}
    read_each(images, lambda image: lines.update({image.source: _read_lines(image.source)}))
    if keypoints is None:
        _refuse_key_points(lines)
    for image in images:
        for number, columns in lines.get(image.source, ()):
            # The boxes of an image that cannot be read stay in shares: their number counts.
            image.boxes.append(_box(number, columns, keypoints or 0, classes, image.size or (1, 1)))
            if keypoints and len(columns) == _BOX + keypoints:
                image.remarks.append("lines with key points, which are passed over")
    return Annotations(layout.source, classes, images, "line")


def _classes(layout: Layout, labels: Path) -> tuple[str, ...]:
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


# ---- data.yaml ----


class _DataFile(NamedTuple):
    """What a ``data.yaml`` says."""

    names: tuple[str, ...]
    keypoints: int | None
    """Numbers of a line's key points, after its box; None: not said, 0: there are none."""


class _TextLoader(yaml.BaseLoader):
    """Reads every scalar as the text it is (``no``, ``1``); no key twice, no alias.

    Aliases of aliases are a file of a few lines that holds billions of names.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias (*name), which is not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return unique_keys(Path(self.name), self.construct_pairs(node, deep))


def _read_data_file(root: Path) -> _DataFile | None:
    """Returns what ``data.yaml`` or ``data.yml`` says; None where there is none."""
    file = next((root / n for n in (NAMES_FILE, "data.yml") if (root / n).is_file()), None)
    if file is None:
        return None
    text = read_text(file)
    try:
        loader = _TextLoader(text)
        loader.name = str(file)  # for its messages
        content = loader.get_single_data()
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise DataError(
            f"{str(file)!r} is no YAML file: {' '.join(str(error).split())}."
        ) from error
    content = content if isinstance(content, dict) else {}
    names = _names(file, content.get("names"))
    count = content.get("nc", str(len(names)))
    if count != str(len(names)):
        raise DataError(
            f"{str(file)!r}: nc is {count}, but names holds {len(names)}: both have to agree."
        )
    return _DataFile(names, _keypoints(file, content.get("kpt_shape")))


def _names(file: Path, names: Any) -> tuple[str, ...]:
    """Returns the names of a list, or of a mapping by their indices."""
    listed = names
    if isinstance(names, dict):
        by_id = {as_id(key): name for key, name in names.items() if isinstance(key, str)}
        whole = by_id.keys() == set(range(len(names)))
        listed = [by_id[index] for index in range(len(names))] if whole else None
    if not listed or not isinstance(listed, list) or not all(map(_is_name, listed)):
        raise DataError(
            f"{str(file)!r}: names is {names!r}; expected a list of class names, or one name for "
            "each index from 0 on."
        )
    return unique_classes((name.strip() for name in listed), f"{str(file)!r}: names")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _keypoints(file: Path, shape: Any) -> int | None:
    """Returns how many numbers the key points of a line are, by ``kpt_shape``."""
    if shape is None:
        return None
    sides = [as_id(side) for side in shape] if isinstance(shape, list) else []
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 0 for side in sides):
        raise DataError(
            f"{str(file)!r}: kpt_shape is {shape!r}; expected the number of key points and that of "
            "the numbers of each, e.g. [4, 2]."
        )
    return sides[0] * sides[1]


# ---- lines ----


def _read_lines(file: Path) -> list[_Line]:
    lines = enumerate(read_text(file).splitlines(), start=1)
    return [(number, line.split()) for number, line in lines if line.strip()]


def _box(
    number: int,
    columns: list[str],
    keypoints: int,
    classes: tuple[str, ...],
    scale: tuple[int, int],
) -> Box:
    label, fault = _label(columns[0], classes)
    if fault:
        return Box(number, label, fault=fault)
    try:
        left, top, right, bottom = _edges(columns, keypoints)
    except ValueError as error:
        return Box(number, label, fault=str(error))
    height, width = scale
    return Box(number, label, (left * width, top * height, right * width, bottom * height))


def _edges(columns: list[str], keypoints: int) -> Corners:
    """Returns left, top, right and bottom edge in shares of the image.

    Raises:
        ValueError: The line is no box, and no polygon; the message is a clause.
    """
    count = len(columns)
    if count in (_BOX, _BOX + keypoints):
        x, y, width, height = to_corners(columns[1:_BOX])
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if keypoints:
        raise ValueError(
            f"has {count} columns, expected {_BOX + keypoints} (class, centre x and y, width, "
            "height, key points)"
        )
    if count < 7 or count % 2 == 0:
        sixth = "; is the sixth a confidence?" if count == 6 else ""
        raise ValueError(
            f"has {count} columns, expected {_BOX} (class, centre x and y, width, height), or a "
            f"class and the points of a polygon{sixth}"
        )
    points = check_points(columns[1:], (1, 1))
    return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())


def _refuse_key_points(lines: dict[Path, list[_Line]]) -> None:
    """Raises where all polygons may be boxes with key points: taken for polygons, they are wrong.

    Raises:
        DataError: Each is as long as the others, and begins with a box around its points.
    """
    longer = [
        (file, number, columns)
        for file, found in lines.items()
        for number, columns in found
        if len(columns) > _BOX + 1
    ]
    if len({len(columns) for _, _, columns in longer}) != 1:
        return
    shapes = {_pose_of(columns) for _, _, columns in longer}
    if len(shapes) == 1 and None not in shapes:
        (shape,) = shapes
        file, number, columns = longer[0]
        raise DataError(
            f"{str(file)!r}, line {number}: its {len(columns)} columns may be a box and key points "
            f"or a polygon. Write beside the names in {NAMES_FILE}, for key points kpt_shape: "
            f"{list(shape)}, for polygons kpt_shape: [0, 0]."
        )


def _pose_of(columns: list[str]) -> tuple[int, int] | None:
    """Returns the number of key points, and of the numbers of each, that a line may hold."""
    try:
        box = check_points(columns[1:_BOX], (1, 1))
        numbers = np.array(columns[_BOX:], np.float64)
    except ValueError:
        return None
    low, high = box[0] - box[1] / 2, box[0] + box[1] / 2
    if (box[1] <= 0).any() or (low < -_TOLERANCE).any() or (high > 1 + _TOLERANCE).any():
        return None
    for each in (2, 3):
        if len(numbers) % each:
            continue
        points = numbers.reshape(-1, each)
        if each == 3:  # the third says whether the point is seen: 0 not at all
            if not np.isin(points[:, 2], (0, 1, 2)).all():
                continue
            points = points[points[:, 2] > 0]
        points = points[:, :2]
        inside = ((points >= low - _TOLERANCE) & (points <= high + _TOLERANCE)).all()
        # The corners of a small polygon lie closer together.
        spread = np.ptp(points, axis=0) / box[1] if len(points) > 1 else np.ones(2)
        if inside and spread.max() >= _SPREAD:
            return len(numbers) // each, each
    return None


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
