"""Finding files below a folder; writing files whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from typing import Any, NamedTuple

TEMPORARY_SUFFIX = ".tmp"

# What the system says of a disk that takes no more; it often names no file.
DISK_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EIO")
    if hasattr(errno, name)
)

FOLDER, MISSING = "a folder", "no such file"
_KINDS = {
    stat.S_IFIFO: "a named pipe, no file",
    stat.S_IFSOCK: "a socket, no file",
    stat.S_IFCHR: "a device, no file",
    stat.S_IFBLK: "a device, no file",
}


class Walk(NamedTuple):
    """What lies below a folder."""

    files: list[Path]
    """Regular files, sorted by path."""
    left_out: list[tuple[Path, str]]
    """What is not among them, and why: ``permission denied``, ``a link to nothing``."""


def walk_files(folder: str | Path) -> Walk:
    """Finds the files below a folder, to its last subfolder; links are followed, none is opened.

    A folder that several links lead to is read once, below its own name if that is below
    ``folder`` too; so loops end. Hidden files and folders (``.thumbnails``, ``._a.png``) are passed
    over without a word. A folder that does not exist is left out as any that cannot be read.

    Args:
        folder: May be a link itself; names need not be UTF-8.

    Returns:
        The files; and folders that cannot be read or were read before, links to nothing, named
        pipes, sockets and devices.
    """
    walk = Walk([], [])
    names: dict[tuple[int, int], Path] = {}
    folders, links = [Path(folder)], []
    while folders or links:
        # Links come last, so that a folder keeps its own name.
        path = folders.pop() if folders else links.pop(0)
        try:
            status = path.stat()
            first = names.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                walk.left_out.append((path, f"a link to {str(first)!r}, which is read already"))
                continue
            with os.scandir(path) as entries:
                visible = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
        except OSError as error:
            walk.left_out.append((path, (error.strerror or str(error)).lower()))
            continue
        for entry in visible:
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:
                is_folder = is_file = False
            if is_folder:
                (links if entry.is_symlink() else folders).append(Path(entry))
            elif is_file:
                walk.files.append(Path(entry))
            else:
                walk.left_out.append((Path(entry), why_no_file(Path(entry))))
    walk.files.sort()
    walk.left_out.sort()
    return walk


def why_no_file(path: Path) -> str:
    """Returns why a path is no regular file, or a link to one; nothing if it is.

    Of a folder, or where there is nothing, it is ``FOLDER`` or ``MISSING``.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else MISSING
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except ValueError:
        return "a name with a null byte"
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), FOLDER)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BufferedWriter]:
    """Opens a temporary file beside ``path``, which takes its name once all is on the disk.

    Whatever happens in between (an error, a full disk, a killed process, a power cut), ``path``
    holds what it held before, or all of the new content. Only a process that is killed leaves the
    temporary file, ``.<name>.<process>.tmp``, behind.

    Args:
        path: The file to write; its folder exists.

    Yields:
        The temporary file, open for writing bytes.

    Raises:
        OSError: The file cannot be written; it names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with naming(path, instead_of=temporary):
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # what ended the writing is told, not this
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: str | Path, instead_of: Path | None = None) -> Iterator[None]:
    """Lets an ``OSError`` name ``path`` where it names no file, as of a full disk.

    Args:
        path: What is being written.
        instead_of: Another file whose name means nothing to the user.
    """
    try:
        yield
    except OSError as error:
        is_nameless = error.filename is None and error.errno in DISK_ERRORS
        if is_nameless or (instead_of and str(error.filename) == str(instead_of)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def as_json(value: Any, indent: int | None = None) -> bytes:
    """Returns a value as JSON in UTF-8 that any reader takes: without NaN and infinity.

    A name that is not UTF-8 (python holds its bytes as surrogates) becomes escapes, which load as
    the same name again.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def _sync_folder(folder: Path) -> None:
    """Writes the new name to the disk too; Windows does so by itself and opens no folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # some network drives cannot; the file itself is written
        os.fsync(descriptor)
    os.close(descriptor)
