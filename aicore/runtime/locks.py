"""A lock on a folder: two processes that write into one would mix their files."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from aicore.errors import ConfigError
from aicore.runtime.files import naming

if os.name == "nt":
    import msvcrt
else:
    import fcntl

LOCK_FILE = ".lock"
_POLL = 0.2  # seconds


@contextmanager
def lock_folder(folder: str | Path, wait: bool = False) -> Iterator[None]:
    """Keeps other processes, on this machine or another, from writing into a folder.

    While the lock lasts, the folder holds ``.lock``, which says who has it. The system gives it
    back when the process ends, however it ends; processes that this one forks do not have it.

    Args:
        folder: It exists.
        wait: Whether to wait for another process, instead of refusing.

    Raises:
        ConfigError: Another process holds the lock.
        OSError: The folder cannot be written to.
    """
    file = Path(folder) / LOCK_FILE
    with naming(folder, instead_of=file):
        while (stream := _open_locked(file)) is None:
            if not wait:
                raise ConfigError(_in_use(file))
            time.sleep(_POLL)
    with stream:
        with naming(folder):
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps a file that is open
                file.unlink()


def _open_locked(file: Path) -> FileIO | None:
    """Returns the file, open and locked; None where another process has locked it."""
    while True:
        stream = file.open("a+b", buffering=0)
        if not _try_lock(stream):
            stream.close()
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), file.stat()):
                return stream
        stream.close()  # the one before has just removed it


def _try_lock(stream: FileIO) -> bool:
    try:
        if os.name == "nt":
            stream.seek(2**20)  # beyond what is read
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            # Unlike flock's it is not inherited: data workers may outlive a process that is killed.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # some network drives have no locks
        warnings.warn(f"{stream.name!r} cannot be locked: {error.strerror}", stacklevel=5)
    return True


def _in_use(file: Path) -> str:
    try:
        owner = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # it has just ended
        owner = ""
    return (
        f"{str(file.parent)!r} is in use: {owner or 'another process'} writes into it. Wait for "
        "its end, stop it, or give another folder (--work-dir, --out)."
    )
