"""What goes wrong by a user's input: one sentence each, no stack trace.

The tools print an :class:`AicoreError` as it is and exit with 1. Every message says what was
wrong, where (file, key, value), what was expected and what to do.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable

# Unicode's categories: control, format, surrogate, line and paragraph separator.
_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")


class AicoreError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(AicoreError):
    """A config file, an option or a name in it is wrong."""


class DataError(AicoreError):
    """A data set, a list file or an annotation is wrong."""


class ImageError(DataError):
    """An image file is missing, empty, broken or not an image.

    Pickling keeps both attributes, so that they arrive from a data loader's worker. Libraries
    that rebuild an error as ``type(error)(message)`` (MMEngine's registries, torch's data loader)
    keep the message alone, which then stands in ``path``.

    Attributes:
        path: The file, as it was given.
        reason: What is wrong with it and what to do, a clause without a full stop.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str = "") -> None:
        self.path = os.fspath(path)
        self.reason = reason
        super().__init__(self.path, self.reason)

    def __str__(self) -> str:
        return f"Cannot use image {self.path}: {self.reason}." if self.reason else self.path


class CheckpointError(AicoreError):
    """A checkpoint is missing, broken, unsafe or does not fit the model."""


class BrokenCheckpointError(CheckpointError):
    """A checkpoint is truncated or damaged: another one has to do."""


class ResourceError(AicoreError):
    """The machine has run out of memory, of shared memory or of open files."""


def shown(text: str | os.PathLike[str]) -> str:
    """Returns a text as a terminal may show it: what would steer the terminal becomes escapes.

    Names of files and classes may hold any character: control and escape characters, marks that
    turn the direction of writing, bytes that are not UTF-8. Line breaks and tabs stay.
    """
    text = os.fspath(text)
    if text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode("ascii")
        if sign not in "\n\t" and unicodedata.category(sign) in _STEERING
        else sign
        for sign in text
    )


def did_you_mean(name: str, known: Iterable[str], count: int = 3) -> str:
    """Returns `` Did you mean 'a' or 'b'?`` for the known names nearest to ``name``, or ````.

    Case is ignored in the comparison: ``resize`` finds ``Resize``.
    """
    by_lower: dict[str, str] = {}
    for candidate in known:
        by_lower.setdefault(candidate.lower(), candidate)
    near = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)
    if not near:
        return ""
    return f" Did you mean {' or '.join(repr(by_lower[item]) for item in near)}?"
