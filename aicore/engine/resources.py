"""What a run says when the machine has run out of something."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import torch

from aicore.errors import ResourceError

_SHARED_MEMORY = Path("/dev/shm")
_LOWER = "Lower batch_size, image_size or num_workers in the config, or with --cfg-options."
_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
    r"(?:is killed by signal: ([^.]+)|exited unexpectedly)"
)


@contextmanager
def explain_exhaustion() -> Iterator[None]:
    """Turns the many errors of a machine that has run out of something into one sentence.

    Raises:
        ResourceError: The block ran out of memory, shared memory or open files, or a data worker
            was killed; other errors pass through untouched.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError, cv2.error) as error:
        sentence = exhaustion_sentence(error)
        if sentence is None:
            raise
        raise ResourceError(sentence) from error


def exhaustion_sentence(error: Exception) -> str | None:
    """Returns what ran out and which setting to lower; None for an error of another kind.

    Args:
        error: As it was raised, or as torch's data loader hands it on from a worker: of a general
            type, with the trace of the worker as its text.
    """
    text = str(error)
    number = getattr(error, "errno", None)
    worker = _WORKER.search(text)
    if "shared memory" in text or "Bus error" in text:
        return _shared_memory_sentence()
    if worker is not None:
        return _worker_sentence(*worker.groups())
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
        return "too many open files: raise the limit (ulimit -n 65536), or lower num_workers."
    if isinstance(error, torch.OutOfMemoryError):
        return f"out of memory of the GPU ({_requested(text)}). {_LOWER}"
    # In a trace from a worker only the text tells.
    of_memory = re.search(r"DefaultCPUAllocator|MemoryError|Insufficient memory|bad_alloc", text)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or of_memory:
        return f"out of memory ({_requested(text)}). {_LOWER}"
    return None


def _shared_memory_sentence() -> str:
    size = ""
    if _SHARED_MEMORY.is_dir():
        size = f" ({shutil.disk_usage(_SHARED_MEMORY).total / 2**20:.3g} MB)"
    return (
        f"the shared memory {_SHARED_MEMORY}{size} is too small for the batches that the data "
        "workers hand over. Start the container with --shm-size=1g or more, lower batch_size or "
        "image_size, or set num_workers=0."
    )


def _worker_sentence(pids: str, signal_name: str | None) -> str:
    if signal_name in (None, "Killed"):
        how = "was killed" if signal_name else "ended without a word"
        return f"a data worker (pid {pids}) {how}, as one is that runs out of memory. {_LOWER}"
    return (
        f"a data worker (pid {pids}) crashed: {signal_name}. With num_workers=0 the run shows "
        "where, and needs no workers."
    )


def _requested(text: str) -> str:
    """Returns how much was asked for in vain, where the error tells."""
    found = re.search(r"allocate (\d+ bytes|[\d.]+ [KMGTPE]i?B)", text)
    return f"asked for {found[1]} more" if found else "none is left"
