"""Damage to a checkpoint's bytes, which torch.load does not look for."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from aicore.errors import BrokenCheckpointError

# What a damaged file makes its readers stumble over.
READ_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)
_WEIGHTS, _METADATA = "weights_sha256", "metadata_sha256"


def broken(path: Path, reason: str) -> BrokenCheckpointError:
    """Returns the error for a file that cannot be read."""
    size = path.stat().st_size
    return BrokenCheckpointError(
        f"checkpoint {str(path)!r} ({size} bytes) cannot be read, it is broken or not a "
        f"checkpoint: {reason}."
    )


def _damaged(path: Path, what: str) -> BrokenCheckpointError:
    return BrokenCheckpointError(
        f"checkpoint {str(path)!r} is damaged: {what} is not what its checksum says. Copy the file "
        "again, or take another one."
    )


def first_sentence(error: Exception) -> str:
    """Returns what an error of a reader says, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0].rstrip(".")[:200]


def require_intact_archive(path: Path) -> None:
    """Compares each record of an archive by ``torch.save`` with its CRC-32.

    A file of torch before 1.6 is no archive and has no checksums.

    Raises:
        BrokenCheckpointError: A record is damaged, the file is no archive, or records are packed,
            so that a small file could fill the memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
            total = sum(record.file_size for record in records)
            if packed or total > path.stat().st_size:
                raise BrokenCheckpointError(
                    f"checkpoint {str(path)!r} is packed or damaged: its records would fill "
                    f"{total / 1e9:.3g} GB, and are not unpacked. torch.save packs nothing: take "
                    "the file that it wrote."
                )
            record = archive.testzip()
            # Of a folder's content torch's reader reads nothing, and leaves memory as it is.
            record = record or next((r.filename for r in records if r.external_attr & 0x10), None)
    except READ_FAILURES as error:
        raise broken(path, first_sentence(error)) from error
    if record is not None:
        raise _damaged(path, f"its record {record!r}")


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """Returns the SHA-256 of weights (contiguous, of one device) as safetensors."""
    return hashlib.sha256(safetensors.torch.save(weights)).hexdigest()


def checksums(weights: dict[str, torch.Tensor], texts: Mapping[str, str]) -> dict[str, str]:
    """Returns what a ``.safetensors`` file's metadata says of the weights and of the rest of it.

    Args:
        weights: The weights.
        texts: The rest of the metadata.
    """
    rest = {key: text for key, text in texts.items() if key not in (_WEIGHTS, _METADATA)}
    described = json.dumps(rest, sort_keys=True, allow_nan=False).encode()
    return {
        _WEIGHTS: json.dumps(weights_digest(weights)),
        _METADATA: json.dumps(hashlib.sha256(described).hexdigest()),
    }


def require_intact_tensors(
    path: Path, weights: dict[str, torch.Tensor], texts: Mapping[str, str]
) -> None:
    """Compares what a ``.safetensors`` file holds with the checksums in it, where it has them.

    Raises:
        BrokenCheckpointError: It is something else.
    """
    if not {_WEIGHTS, _METADATA} & texts.keys():
        return
    for key, expected in checksums(weights, texts).items():
        if texts.get(key, expected) != expected:
            raise _damaged(path, "its weights" if key == _WEIGHTS else "its metadata")
