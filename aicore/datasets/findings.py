"""What there is to say of a data set as a whole, beside the faults and notes of its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")


class Finding(NamedTuple):
    """Something that a data set says of itself: files left out, boxes that are implausible."""

    level: str
    """``error``: makes a training meaningless, which therefore does not begin. ``warning``: is
    implausible. ``note``: worth knowing."""
    text: str
    """A clause with its count, without a full stop: ``6 files are no images (.gif 2, .pgm 4)``."""
    cases: Sequence[str] = ()
    """One text for each place where it was seen."""
