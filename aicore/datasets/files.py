"""Reading list files and folders of a data set."""

from __future__ import annotations

import os
from pathlib import Path

from aicore.errors import DataError
from aicore.runtime.images import IMAGE_SUFFIXES


def join_path(root: str | Path, path: str | Path = "") -> Path:
    """Returns where a path of a config lies, relative to ``root`` or absolute.

    ``..`` steps back along the path as it is written: beside ``data/tiles`` lies ``data/lists``,
    also where ``data/tiles`` is a link to another disk.
    """
    return Path(os.path.normpath(Path(root).expanduser() / path))


def read_lines(file: Path) -> list[str]:
    """Returns the lines of a text file.

    Raises:
        DataError: It is not in UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{str(file)!r} is not a text file in UTF-8: {error}.") from error


def read_labels(file: Path, what: str) -> list[str]:
    """Returns the class names of a ``labels.txt``, one a line in the order of their indices.

    Args:
        file: The ``labels.txt``.
        what: What needs it, for the message where it is missing: ``a list file``.

    Raises:
        DataError: There is no such file.
    """
    if not file.is_file():
        raise DataError(
            f"{str(file)!r} does not exist: {what} needs labels.txt there, one class name a line "
            "in the order of their indices, or classes = (...) in the config."
        )
    return [line.strip() for line in read_lines(file) if line.strip()]


def with_image_suffix(path: Path) -> Path | None:
    """Returns the image that a path without its suffix stands for; None if there is none."""
    suffixes = [*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)]
    candidates = (path.with_name(path.name + suffix) for suffix in suffixes)
    return next((file for file in candidates if file.is_file()), None)


def relative_below(path: Path, folder: Path) -> Path:
    """Returns a path relative to a folder, either of which may be absolute, or a link.

    Raises:
        ValueError: The path does not lie below the folder.
    """
    for form in (Path, Path.absolute, Path.resolve):
        if form(path).is_relative_to(form(folder)):
            return form(path).relative_to(form(folder))
    raise ValueError(f"{path} does not lie below {folder}")
