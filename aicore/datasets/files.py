"""Reading list files and folders of a data set."""

from __future__ import annotations

from pathlib import Path

from aicore.errors import DataError


def is_hidden(path: Path, folder: Path) -> bool:
    """Tells whether a path below ``folder`` is one of ``._a.png`` or ``.thumbnails/a.png``."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


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
