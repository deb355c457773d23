"""Writing a checkpoint, whole or not at all, and the names of a training's checkpoints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import torch

from aicore.errors import CheckpointError
from aicore.runtime.files import atomic_write


def write_checkpoint(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Writes a checkpoint; the file appears whole, or what was there before stays.

    Args:
        path: A ``.pth`` file.
        checkpoint: Tensors and plain values.

    Raises:
        CheckpointError: The disk is full, or the file cannot be written for another reason.
    """
    path = Path(path)
    try:
        with atomic_write(path) as stream:
            torch.save(checkpoint, stream)
    except (OSError, RuntimeError) as error:
        # torch's writer stumbles over an OSError of the stream and raises another error.
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be written: {reason.strerror} "
            f"({shutil.disk_usage(path.parent).free // 2**20} MB free). The earlier checkpoints "
            "are as they were: make room and go on with --resume."
        ) from error


def checkpoints_in(folder: str | Path) -> list[Path]:
    """Returns the checkpoints that a training in ``folder`` can be resumed from, newest first."""
    files = [file for file in Path(folder).glob("epoch_*.pth") if position_of(file)]
    return sorted(files, key=position_of, reverse=True)


def position_of(file: Path) -> tuple[int, int] | None:
    """Returns what a checkpoint's name says: finished epochs, and iterations of the next.

    ``epoch_3.pth`` and ``best_accuracy_epoch_3.pth`` are (3, 0), ``epoch_3_iter_20.pth`` is
    (3, 20); None for another name.
    """
    found = re.search(r"epoch_(\d+)(?:_iter_(\d+))?$", file.stem)
    return (int(found[1]), int(found[2] or 0)) if found else None
