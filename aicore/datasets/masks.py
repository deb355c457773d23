"""Mask files of all tasks: read in one way, and what is odd about how they are stored.

A file marks the same pixels in every task: black and white count by colour whatever the order of
the file's palette, and soft edges are cut at half of white.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence, Set
from enum import Enum
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aicore.datasets.findings import NOTE, WARNING, Finding
from aicore.datasets.headers import PILLOW_ERRORS, open_picture
from aicore.errors import DataError, ImageError
from aicore.runtime.damage import find_damage
from aicore.runtime.headers import read_header
from aicore.runtime.images import check_pixels, read_bytes

HALF_OF_WHITE = 127
"""Grey value up to which a pixel of a mask with soft edges is not marked."""

DEEP_GREY = ("I", "I;16", "I;16B")
"""Pillow's modes of one channel of more than 8 bits."""
COLOURS = ("RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes of several channels of colour."""
_OTHERS_AS_GREY = ("1", "L", "P", "LA", "PA")
_LOSSY_FORMATS = ("JPEG", "MPO", "JPEG2000")
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_FEW_GREYS = 8  # as many values may be kinds of defects; more are the shades of an edge
_HALF_OF_DEEP_WHITE = 32767
_BLACK, _WHITE = [0, 0, 0], [255, 255, 255]
_SHADES = slice(32, 224)  # neither black nor white, nor what JPEG makes of them
_GREYS_OF_A_PHOTOGRAPH = 30


class Oddity(Enum):
    """Something to know of a mask file: the level of its finding, and the clause on several."""

    LOSSY = (
        WARNING,
        "are stored lossily (JPEG, WebP), which changes values and softens edges: store masks as "
        "PNG",
    )
    PAGES = WARNING, "hold several pages, of which the first is read"
    HALF_TRANSPARENT = WARNING, "are half transparent: only their colours are read, not the alpha"
    ALPHA_ONLY = (
        WARNING,
        "have one colour and differ in their alpha channel alone, which is not read: store what "
        "is marked as grey values",
    )
    WHITE_FIRST = NOTE, "have a palette that lists white before black: white is what is marked"
    SOFT = (
        WARNING,
        f"have soft edges: what is brighter than {HALF_OF_WHITE}, half of white, is marked",
    )
    GREYS = NOTE, "hold several grey values above 0: all of them are marked"
    DARK = (
        WARNING,
        "hold values of 16 bits, but none above half of their white, 65535: scale them to it, or "
        "to 8 bits",
    )
    BELOW_THRESHOLD = (
        WARNING,
        "mark nothing: they hold grey values above 0, but none above the threshold",
    )
    PHOTOGRAPH = (
        WARNING,
        "look like photographs, not masks: most of their pixels are neither black nor white",
    )


class MaskFile:
    """A mask file as it is stored.

    Args:
        path: The file.
        what: ``mask`` or ``roi``, for messages.

    Attributes:
        picture: Its pixels, turned as its EXIF data say.
        oddities: What is odd about it, as far as was looked at.
        is_white_first: Whether it is black and white, with a palette that lists white first, so
            that its values say the opposite of its colours.

    Raises:
        DataError: The file is missing, cannot be read, or has more pixels than the limit. Not an
            ImageError: the image itself may be sound.
    """

    def __init__(self, path: str | Path, what: str = "mask") -> None:
        self.path, self.what = str(path), what
        self.oddities: set[Oddity] = set()
        try:
            data = read_bytes(path)
            damage = find_damage(data, read_header(data))
            if damage:
                raise ImageError(path, f"it is damaged: {damage}; copy it again")
            with open_picture(io.BytesIO(data)) as picture:
                check_pixels(path, *picture.size)
                if getattr(picture, "n_frames", 1) > 1:
                    self.oddities.add(Oddity.PAGES)
                picture.load()
                if _is_lossy(picture, data):
                    self.oddities.add(Oddity.LOSSY)
                ImageOps.exif_transpose(picture, in_place=True)
                self.picture = picture
        except ImageError as error:
            if not Path(path).exists():
                raise DataError(f"{what} {self.path!r} does not exist.") from error
            raise self._unreadable(error.reason) from error
        except UnidentifiedImageError as error:
            raise self._unreadable("it is not an image") from error
        except PILLOW_ERRORS as error:
            raise self._unreadable(f"it is damaged: {error}".splitlines()[0]) from error
        self.is_white_first = self._is_white_first()
        if self.is_white_first:
            self.oddities.add(Oddity.WHITE_FIRST)
        self._look_at_alpha()

    def _unreadable(self, reason: str) -> DataError:
        return DataError(f"{self.what} {self.path!r} cannot be read: {reason.rstrip('.')}.")

    def _look_at_alpha(self) -> None:
        if "A" not in self.picture.getbands():
            return
        *colours, alpha = self.picture.getextrema()
        if alpha[0] < alpha[1] and all(low == high for low, high in colours):
            self.oddities.add(Oddity.ALPHA_ONLY)
        elif np.isin(np.asarray(self.picture.getchannel("A")), (0, 255), invert=True).any():
            self.oddities.add(Oddity.HALF_TRANSPARENT)

    def _is_white_first(self) -> bool:
        if self.picture.mode != "P":
            return False
        colours = np.reshape(self.picture.getpalette() or [], (-1, 3)).tolist()
        is_inverted = colours[:1] == [_WHITE] and all(c == _BLACK for c in colours[1:])
        is_inverted &= len(colours) > 1
        return is_inverted and np.asarray(self.picture).max() <= 1

    def grey(self) -> np.ndarray:
        """Returns H x W grey values on the scale of 8 bits, uint8 or float32.

        Values of 16 bits up to 255 are taken as they are; with larger ones, 65535 is white.

        Raises:
            DataError: The pixels are fractions, or of another kind that has no such scale.
        """
        picture = self.picture
        if picture.mode in (*COLOURS, *_OTHERS_AS_GREY):
            return np.asarray(picture.convert("L"))
        values = np.asarray(picture)
        if picture.mode not in DEEP_GREY or values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"{self.what} {self.path!r} has values from {values.min():g} to {values.max():g} "
                f"(pixels of type {picture.mode}): expected grey values of 8 bits, 0 to 255, or of "
                "16 bits. Scale it to them."
            )
        if values.max() <= 255:
            return values.astype(np.uint8)
        if values.max() <= _HALF_OF_DEEP_WHITE:
            self.oddities.add(Oddity.DARK)
        return values.astype(np.float32) * np.float32(255 / 65535)

    def marked(self, threshold: int | None = None) -> np.ndarray:
        """Returns which pixels the file marks: H x W bool.

        Args:
            threshold: Grey value, 0 to 254, above which a pixel is marked. None: 0; but
                :data:`HALF_OF_WHITE` in a file that is stored lossily, or has the many grey values
                of soft edges.

        Raises:
            DataError: As :meth:`grey`.
        """
        grey = self.grey()
        counts = np.bincount(grey.astype(np.uint8).ravel(), minlength=256)
        present = np.flatnonzero(counts)
        if len(present) > _GREYS_OF_A_PHOTOGRAPH and counts[_SHADES].sum() > grey.size / 2:
            self.oddities.add(Oddity.PHOTOGRAPH)
        if threshold is not None:
            return grey > threshold
        is_soft = len(present) > _FEW_GREYS and present[-1] > HALF_OF_WHITE
        if is_soft:
            self.oddities.add(Oddity.SOFT)
        if is_soft or Oddity.LOSSY in self.oddities:
            return grey > HALF_OF_WHITE
        if np.count_nonzero(present) > 1:
            self.oddities.add(Oddity.GREYS)
        return grey > 0


def _is_lossy(picture: Image.Image, data: bytes) -> bool:
    if picture.format == "WEBP":
        return b"VP8 " in data  # "VP8L" stands before pixels without loss
    return picture.format in _LOSSY_FORMATS or picture.info.get("compression") in _LOSSY_TIFF


def findings_of_files(oddities: Mapping[str, Set[Oddity]], what: str = "mask") -> list[Finding]:
    """Returns a finding for each oddity, with the files that have it.

    Args:
        oddities: By the path of each file.
        what: ``mask`` or ``roi``.
    """
    found = []
    for oddity in Oddity:
        level, clause = oddity.value
        paths = [path for path, odd in oddities.items() if oddity in odd]
        if paths:
            found.append(Finding(level, f"{len(paths)} of {len(oddities)} {what}s {clause}", paths))
    return found


def findings_of_sameness(digests: Sequence[bytes]) -> list[Finding]:
    """Returns a finding if all masks are the same.

    Args:
        digests: Of each mask that marks something.
    """
    if len(digests) < 3 or len(set(digests)) > 1:
        return []
    return [Finding(NOTE, f"all {len(digests)} masks that mark something are the same")]
