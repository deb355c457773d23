"""Reading the annotation files that tasks share: COCO's and labelme's JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aicore.errors import DataError
from aicore.runtime.files import Walk, walk_files


def read_json(file: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{str(file)!r} is no JSON file: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{str(file)!r} holds a {type(content).__name__}, expected an object.")
    return content


def stated_size(height: object, width: object) -> tuple[int, int] | None:
    """Returns height and width as a file states them; None unless both are numbers of pixels."""
    if all(type(side) is int and side > 0 for side in (height, width)):
        return height, width  # type: ignore[return-value]
    return None


# ---- COCO ----


@dataclass
class CocoImage:
    """An image of a COCO file."""

    id: Any
    file_name: str
    """With forward slashes."""
    height: Any
    width: Any
    annotations: list[dict[str, Any]] = field(default_factory=list)
    """As they stand in the file."""


class CocoFile(NamedTuple):
    """A COCO file, sorted by its images."""

    categories: dict[Any, str]
    """Name of each category by its id, in the order of the ids."""
    images: list[CocoImage]
    strays: list[dict[str, Any]]
    """Annotations of images that are not in the file."""


def read_coco(file: Path) -> CocoFile:
    """Reads a COCO file; what its annotations hold is not looked at.

    Raises:
        DataError: The file is not of COCO's form, or two images have one id.
    """
    content = read_json(file)
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise DataError(f"{str(file)!r} is no COCO file: it has no {' and no '.join(missing)}.")
    for key, wanted in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
        _require_keys(file, content, key, wanted)
    _require_keys(file, content, "annotations", ())
    images: dict[Any, CocoImage] = {}
    for entry in content["images"]:
        if entry["id"] in images:
            raise DataError(
                f"{str(file)!r} holds two images of the id {entry['id']!r}: "
                f"{images[entry['id']].file_name!r} and {entry['file_name']!r}. Each needs its own."
            )
        # Some tools write the separators of the system they run on.
        name = str(entry["file_name"]).replace("\\", "/")
        size = entry.get("height"), entry.get("width")
        images[entry["id"]] = CocoImage(entry["id"], name, *size)
    strays = []
    for annotation in content["annotations"]:
        image_id = annotation.get("image_id")
        image = images.get(image_id) if isinstance(image_id, int | str) else None
        (strays if image is None else image.annotations).append(annotation)
    categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    order = sorted(categories, key=lambda key: (isinstance(key, str), key))
    return CocoFile({key: categories[key] for key in order}, list(images.values()), strays)


def _require_keys(file: Path, content: dict[str, Any], key: str, wanted: tuple[str, ...]) -> None:
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
        if wanted and not isinstance(entry["id"], int | str):
            raise DataError(
                f"{str(file)!r}: entry {number} of {key!r} has the id {entry['id']!r}; expected a "
                "whole number."
            )


# ---- labelme ----


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
        DataError: It is no JSON file.
    """
    content = read_json(file)
    shapes = content.get("shapes")
    if not content.get("imagePath") or not isinstance(shapes, list):
        return None
    # labelme writes the separators of the system it ran on.
    image = file.parent / str(content["imagePath"]).replace("\\", "/")
    shapes = [shape if isinstance(shape, dict) else {} for shape in shapes]
    return LabelmeFile(image, content.get("imageHeight"), content.get("imageWidth"), shapes)
