"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a temporary file beside ``path``, which takes its name once all is on the disk.

    Whatever happens in between (an error, a full disk, a killed process, a power cut), ``path``
    holds what it held before, or all of the new content. Only a process that is killed leaves the
    temporary file, ``.<name>.<process>.tmp``, behind.

    Args:
        path: The file to write; its folder exists.

    Yields:
        The temporary file, open for writing bytes.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Writes the new name to the disk too; Windows does so by itself and opens no folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # some network drives cannot; the file itself is written
        os.fsync(descriptor)
    os.close(descriptor)
