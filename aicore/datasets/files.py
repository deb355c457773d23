"""Reading list files and folders of a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from aicore.datasets.findings import NOTE, WARNING, Finding
from aicore.errors import DataError
from aicore.runtime.files import MISSING, why_no_file
from aicore.runtime.images import IMAGE_SUFFIXES, NO_IMAGE, describe_others

LIST_SUFFIX = ".txt"

# Pictures that other programs read: in a data set they are there by mistake.
_OTHER_PICTURES = {
    *(".arw", ".avif", ".cr2", ".dcm", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".ico"),
    *(".j2k", ".jp2", ".jpx", ".jxl", ".nef", ".pbm", ".pcx", ".psd", ".raw", ".svg", ".tga"),
}
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def join_path(root: str | Path, path: str | Path = "") -> Path:
    """Returns where a path of a config lies, relative to ``root`` or absolute.

    ``..`` steps back along the path as it is written: beside ``data/tiles`` lies ``data/lists``,
    also where ``data/tiles`` is a link to another disk.
    """
    return Path(os.path.normpath(Path(root).expanduser() / path))


# ---- list files ----


def is_list(split: str | Path) -> bool:
    """Tells whether a split is a list file, not a folder: its name ends in ``.txt``."""
    return PurePath(split).suffix.lower() == LIST_SUFFIX


def read_text(file: Path) -> str:
    """Returns the text of a file in UTF-8.

    Raises:
        DataError: It is in another encoding, or cannot be read.
    """
    reason = why_no_file(file)
    if reason:  # a pipe would be waited for without end
        raise DataError(f"{str(file)!r} cannot be read: {reason}.")
    try:
        data = file.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{str(file)!r} is not a text file in UTF-8: byte {data[error.start]:#04x} in line "
            f"{line} is none; it reads as {_encoding_of(data)}. Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(
            f"{str(file)!r} is not a text file in UTF-8: it holds null bytes; it reads as "
            f"{_encoding_of(data)}. Save it as UTF-8."
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _encoding_of(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        return "UTF-16" if len(data) % 2 == 0 else "no text"
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return "Latin-1 (Windows-1252)"
    return "GBK, or else Latin-1"


def read_lines(file: Path) -> list[str]:
    """Returns the lines of a text file.

    Raises:
        DataError: It is not in UTF-8, or cannot be read.
    """
    return read_text(file).removesuffix("\n").split("\n")


def read_list(file: Path) -> list[tuple[int, str]]:
    """Returns number and text of each line of a list file, without blanks at its ends.

    Empty lines are left out, and a list that does not exist has none.

    Raises:
        DataError: It is not in UTF-8, or cannot be read.
    """
    if why_no_file(file) == MISSING:
        return []
    lines = ((number, line.strip()) for number, line in enumerate(read_lines(file), start=1))
    return [(number, line) for number, line in lines if line]


def find_listed(name: str, place: str, *folders: Path) -> Path:
    r"""Returns the image that a line of a list names.

    Args:
        name: With ``/`` or, as written on Windows, ``\``; with or without its suffix; relative to
            one of the folders, or absolute. A file that has ``\`` in its name wins.
        place: The line, for messages.
        *folders: Where to look, in this order.

    Returns:
        The file; if there is none, where it should be.

    Raises:
        DataError: It is a path of another machine.
    """
    forms = dict.fromkeys((name, name.replace("\\", "/")))
    paths = [join_path(folder, form) for folder in folders for form in forms]
    if len(paths) > 1 or paths[0].suffix.lower() not in IMAGE_SUFFIXES:
        for path in paths:
            if not why_no_file(path):
                return path
            found = None if path.suffix.lower() in IMAGE_SUFFIXES else with_image_suffix(path)
            if found:
                return found
    path = paths[len(forms) - 1]
    parts = PurePath(list(forms)[-1]).parts
    is_drive = os.name != "nt" and _DRIVE.match(name)
    if is_drive or (parts[0] == path.root and not Path(*parts[:3]).exists()):
        raise DataError(
            f"{place}: {name!r} is a path of another machine: there is no "
            f"{parts[0] if is_drive else str(Path(*parts[:3]))!r} here. Write the paths relative "
            f"to {str(folders[0])!r}."
        )
    return path


LABELME_IGNORE = "__ignore__"
"""labelme's own name for what neither has to be found nor counts as a false alarm."""


def read_labels(file: Path, what: str) -> list[str]:
    """Returns the class names of a ``labels.txt``, one a line in the order of their indices.

    labelme's ``__ignore__``, which it lists there too, is no class and has no index.

    Args:
        file: The ``labels.txt``.
        what: What needs it, for the message where it is missing: ``a list file``.

    Raises:
        DataError: There is no such file, or a name stands there twice.
    """
    if not file.is_file():
        raise DataError(
            f"{str(file)!r} does not exist: {what} needs labels.txt there, one class name a line "
            "in the order of their indices, or classes = (...) in the config."
        )
    places: dict[str, int] = {}
    for number, name in read_list(file):
        if name in places:
            raise DataError(
                f"{str(file)!r}: lines {places[name]} and {number} both name the class {name!r}; "
                "each class has one line, the index of which is its own."
            )
        places[name] = number
    return [name for name in places if name != LABELME_IGNORE]


# ---- paths ----


def with_image_suffix(path: Path) -> Path | None:
    """Returns the image that a path without its suffix stands for; None if there is none."""
    suffixes = [*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)]
    candidates = (path.with_name(path.name + suffix) for suffix in suffixes)
    return next((file for file in candidates if not why_no_file(file)), None)


def without_suffix(path: Path) -> Path:
    """Returns a path without the suffix of an image; a name such as ``part.7`` stays whole."""
    return path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path


def relative_below(path: Path, folder: Path) -> Path:
    """Returns a path relative to a folder, either of which may be absolute, or a link.

    Raises:
        ValueError: The path does not lie below the folder.
    """
    for form in (Path, Path.absolute, Path.resolve):
        if form(path).is_relative_to(form(folder)):
            return form(path).relative_to(form(folder))
    raise ValueError(f"{path} does not lie below {folder}")


# ---- what is not taken ----


def findings_of(left_out: Sequence[tuple[Path, str]]) -> list[Finding]:
    """Returns what there is to say of files that a data set passes over.

    Args:
        left_out: Of a walk, after :func:`aicore.runtime.images.images_among`.
    """
    others = [path for path, reason in left_out if reason == NO_IMAGE]
    pictures = [path for path in others if path.suffix.lower() in _OTHER_PICTURES]
    rest = [path for path in others if path.suffix.lower() not in _OTHER_PICTURES]
    findings = [
        Finding(
            level,
            f"{describe_others(paths)}: only {' '.join(IMAGE_SUFFIXES)} are read",
            list(map(str, paths)),
        )
        for level, paths in ((WARNING, pictures), (NOTE, rest))
        if paths
    ]
    closed = [f"{path}: {reason}" for path, reason in left_out if reason != NO_IMAGE]
    if closed:
        text = f"left out, for they cannot be read or were read before: {len(closed)}"
        findings.append(Finding(WARNING, text, closed))
    return findings


def finding_of_strays(what: str, files: Sequence[Path], without: int) -> list[Finding]:
    """Returns what there is to say of files that belong to no image, e.g. by a slip in a name.

    Args:
        what: Such a file's name, e.g. ``mask``.
        files: The files.
        without: Number of images that have no such file, and are taken for free of defects.
    """
    if not files:
        return []
    belong = "file belongs" if len(files) == 1 else "files belong"
    text = f"{len(files)} {what} {belong} to no image"
    if without:
        text += f"; images without one, which count as free of objects or defects: {without}"
    return [Finding(WARNING if without else NOTE, text, list(map(str, files)))]
