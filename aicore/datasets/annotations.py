"""Reading the annotation files that tasks share, and the rules for single values in them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from aicore.datasets.files import read_text
from aicore.errors import DataError
from aicore.runtime.files import Walk, walk_files
from aicore.runtime.images import pixel_limit

_MAX_SIDE = 1_000_000.0  # in pixels; stands for the side of an image of unknown size
_TRUTH = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "none", "unspecified", ""), False),
}


# ---- values ----


def as_bool(value: object) -> bool:
    """Returns a truth value that may be given as a number or text; False for None and no text.

    Raises:
        ValueError: It is something else; the message is a clause.
    """
    truth = _TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise ValueError(f"is {value!r}, expected 0 or 1")
    return truth


def as_id(value: object) -> int | str:
    """Returns an id in its one form: 1, ``"1"`` and 1.0 are the same; other text stays text.

    Raises:
        ValueError: It is neither a whole number nor text; the message is a clause.
    """
    whole = _as_whole(value)
    if whole is None and not isinstance(value, str):
        raise ValueError(f"is {value!r}, expected a whole number")
    return value if whole is None else whole  # type: ignore[return-value]


def _as_whole(value: object) -> int | None:
    """Returns a number of at most 18 digits: C holds it, and it turns into a fraction and back."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) < 10**18 and value == int(value) else None


def stated_size(height: object, width: object) -> tuple[int, int] | None:
    """Returns height and width as a file states them; None unless both are numbers of pixels."""
    size = _as_whole(height), _as_whole(width)
    return size if all(side and side > 0 for side in size) else None  # type: ignore[return-value]


def wrong_size(stated: tuple[int, int], size: tuple[int, int]) -> str:
    """Returns the sentence on an image of another size than its annotation states.

    Args:
        stated: Height and width in the annotation.
        size: Height and width of the image.
    """
    return (
        f"the annotation is for an image of {stated[1]} x {stated[0]} pixels (width x height), but "
        f"the file has {size[1]} x {size[0]}: what is annotated would lie in the wrong place"
    )


def agreed_size(stated: tuple[int, int] | None, size: tuple[int, int] | None) -> tuple[int, int]:
    """Returns height and width of an image from what its annotation states and its file has.

    Args:
        stated: Height and width in the annotation; None if it states none.
        size: Those of the image file; None if it cannot be read.

    Raises:
        ValueError: The two differ, both are unknown, or the size is no image's; the message is a
            clause.
    """
    if stated and size and stated != size:
        raise ValueError(wrong_size(stated, size))
    agreed = size or stated
    if agreed is None:
        raise ValueError("the annotation states no size, and the image cannot be read")
    if agreed[0] * agreed[1] > pixel_limit():
        raise ValueError(
            f"the annotation states a size of {agreed[1]} x {agreed[0]} pixels, more than any "
            f"image that can be read has ({pixel_limit()} pixels)"
        )
    return agreed


def check_points(points: Any, size: tuple[int, int] | None) -> np.ndarray:
    """Returns points as an array, once they can be handed to OpenCV and pycocotools.

    Args:
        points: Pairs ``[[x, y], ...]``, or one flat list ``[x, y, x, y, ...]``, in pixels.
        size: Height and width of the image in pixels; None if they are not known.

    Returns:
        N x 2 float64, finite and not far outside the image.

    Raises:
        ValueError: They are something else; the message is a clause.
    """
    try:
        array = np.asarray(points, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("its points are not pairs of numbers") from error
    if array.size % 2 or array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 2):
        raise ValueError("its points are not pairs of numbers")
    array = array.reshape(-1, 2)
    if not np.isfinite(array).all():
        raise ValueError("one of its points is no finite number")
    if len(array) and is_far_outside(*array.min(axis=0), *array.max(axis=0), size):
        raise ValueError("lies far outside the image")
    return array


def is_far_outside(
    left: float, top: float, right: float, bottom: float, size: tuple[int, int] | None
) -> bool:
    """Tells whether an edge lies farther outside an image than the image's longer side.

    Such numbers are in other units, or damaged: they are not clipped.
    """
    height, width = size or (_MAX_SIDE, _MAX_SIDE)
    reach = max(height, width)
    return min(left, top) < -reach or right > width + reach or bottom > height + reach


# ---- files ----


def read_json(file: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Raises:
        DataError: The file cannot be read, holds something else, or one key twice.
    """
    text = read_text(file)
    try:
        content = json.loads(text, object_pairs_hook=partial(unique_keys, file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{str(file)!r} is no JSON file: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{str(file)!r} holds a {type(content).__name__}, expected an object.")
    return content


def unique_keys(file: Path, pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Returns the pairs of an object in a file as a dict.

    Raises:
        DataError: A key stands twice: of two values one would be lost.
    """
    content: dict[Any, Any] = {}
    for key, value in pairs:
        if key in content:
            raise DataError(f"{str(file)!r} holds the key {key!r} twice in one object: remove one.")
        content[key] = value
    return content


# ---- COCO ----


@dataclass
class CocoImage:
    """An image of a COCO file."""

    id: int | str
    file_name: str
    """With forward slashes."""
    height: Any
    width: Any
    annotations: list[dict[str, Any]] = field(default_factory=list)
    """As they stand in the file."""


class CocoFile(NamedTuple):
    """A COCO file, sorted by its images."""

    categories: dict[int | str, str]
    """Name of each category by its id, in the order of the ids."""
    images: list[CocoImage]
    strays: list[dict[str, Any]]
    """Annotations of images that are not in the file."""

    def label_of(self, annotation: dict[str, Any]) -> str:
        """Returns the class name of an annotation.

        Raises:
            ValueError: Its ``category_id`` is none of the file's; the message is a clause.
        """
        category = annotation.get("category_id")
        try:
            return self.categories[as_id(category)]
        except (KeyError, ValueError) as error:
            raise ValueError(f"its category_id {category!r} is not among the categories") from error


def read_coco(file: Path) -> CocoFile:
    """Reads a COCO file; what its annotations hold is not looked at.

    Raises:
        DataError: The file is not of COCO's form; two images or two categories have one id; an
            image is listed twice.
    """
    content = read_json(file)
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise DataError(f"{str(file)!r} is no COCO file: it has no {' and no '.join(missing)}.")
    images = {
        key: CocoImage(
            key,
            # Some tools write the separators of the system they run on. One image has one name.
            PurePosixPath(str(entry["file_name"]).replace("\\", "/")).as_posix(),
            entry.get("height"),
            entry.get("width"),
        )
        for key, entry in _by_id(file, content, "images", "file_name").items()
    }
    _refuse_repeated(file, (image.file_name for image in images.values()))
    strays = []
    for annotation in _objects(file, content, "annotations", ()):
        try:
            images[as_id(annotation.get("image_id"))].annotations.append(annotation)
        except (KeyError, ValueError):
            strays.append(annotation)
    named = _by_id(file, content, "categories", "name")
    order = sorted(named, key=lambda key: (isinstance(key, str), key))
    return CocoFile({key: str(named[key]["name"]) for key in order}, [*images.values()], strays)


def coco_polygons(segmentation: Any, size: tuple[int, int] | None) -> list[np.ndarray]:
    """Returns the polygons of a ``segmentation``; one flat list of numbers is one polygon.

    Args:
        segmentation: As it stands in the file, a list.
        size: Height and width of the image in pixels; None if they are not known.

    Returns:
        Each N x 2 float64, as :func:`check_points` gives them; none of fewer than three points.

    Raises:
        ValueError: They are no polygons; the message is a clause.
    """
    if not isinstance(segmentation, list):
        raise ValueError(f"its segmentation is a {type(segmentation).__name__}, expected polygons")
    flat = bool(segmentation) and not isinstance(segmentation[0], list | dict)
    parts = [check_points(part, size) for part in ([segmentation] if flat else segmentation)]
    polygons = [part for part in parts if len(part) >= 3]
    if not polygons:
        raise ValueError("a polygon of fewer than 3 points")
    return polygons


def _by_id(
    file: Path, content: dict[str, Any], key: str, name: str
) -> dict[int | str, dict[str, Any]]:
    """Returns the entries of a list by their ids, of which each has its own."""
    entries: dict[int | str, dict[str, Any]] = {}
    for number, entry in enumerate(_objects(file, content, key, ("id", name))):
        try:
            entry_id = as_id(entry["id"])
        except ValueError as error:
            raise DataError(
                f"{str(file)!r}: entry {number} of {key!r} has the id {entry['id']!r}; expected a "
                "whole number."
            ) from error
        if entry_id in entries and (key, entry[name]) != ("categories", entries[entry_id][name]):
            raise DataError(
                f"{str(file)!r} holds two {key} of the id {entry_id!r}: "
                f"{entries[entry_id][name]!r} and {entry[name]!r}. Each needs its own."
            )
        entries[entry_id] = entry
    return entries


def _objects(
    file: Path, content: dict[str, Any], key: str, wanted: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Returns a list of objects, each of which has the keys that are wanted."""
    entries = content[key]
    if not isinstance(entries, list):
        raise DataError(
            f"{str(file)!r}: {key!r} is a {type(entries).__name__}, expected a list of objects."
        )
    for number, entry in enumerate(entries):
        lacking = [name for name in wanted if not isinstance(entry, dict) or name not in entry]
        if lacking or not isinstance(entry, dict):
            what = f"has no {' and no '.join(lacking)}" if lacking else f"is {entry!r}"
            raise DataError(f"{str(file)!r}: entry {number} of {key!r} {what}.")
    return entries


def _refuse_repeated(file: Path, names: Iterable[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(
            f"{str(file)!r}: {twice} is listed twice in 'images': give all its annotations one "
            "image_id, and remove the other entry."
        )


# ---- labelme ----

LABELME_BACKGROUND = "_background_"
"""labelme's own name for what is no object."""


@dataclass
class LabelmeFile:
    """One of labelme's files."""

    image: Path
    """The image file that it names."""
    height: Any
    width: Any
    shapes: list[dict[str, Any]]
    """As they stand in the file."""


def find_labelme(folder: Path) -> Walk:
    """Finds the JSON files below a folder, to its last subfolder.

    Raises:
        DataError: There is none.
    """
    walk = walk_files(folder)
    files = [file for file in walk.files if file.suffix.lower() == ".json"]
    if not files:
        reasons = "".join(f" ({str(path)!r}: {reason})" for path, reason in walk.left_out[:1])
        raise DataError(f"{str(folder)!r} holds no .json file of labelme{reasons}.")
    return Walk(files, walk.left_out)


def read_labelme(file: Path) -> LabelmeFile | None:
    """Reads one of labelme's files; None for a JSON file of something else.

    Raises:
        DataError: It is no JSON file, or names no image.
    """
    content = read_json(file)
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        return None
    name = content.get("imagePath")
    if not isinstance(name, str) or not name:
        raise DataError(
            f"{str(file)!r}: its imagePath is {name!r}, expected the path of its image."
        )
    # labelme writes the separators of the system it ran on.
    image = file.parent / name.replace("\\", "/")
    shapes = [shape if isinstance(shape, dict) else {} for shape in shapes]
    return LabelmeFile(image, content.get("imageHeight"), content.get("imageWidth"), shapes)
