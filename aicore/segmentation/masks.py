"""Mask files: class ids, colours or soft edges, read as one map of class indices.

In memory a class map is H x W uint8: class indices, and :data:`IGNORE` where nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aicore.datasets.masks import COLOURS, DEEP_GREY, MaskFile, Oddity
from aicore.errors import ConfigError, DataError, did_you_mean

IGNORE = 255
"""The label of pixels that count neither in training nor in any metric."""

_MOST_CLASSES = 255
_SHOWN = 3  # wrong values in a message
_MODES_OF_IDS = ("1", "L", "P", *DEEP_GREY)


class MaskFormat:
    """How mask files say which class a pixel has.

    - Class ids (by default): the grey value, or the index into the file's own palette, is the
      index of the class.
    - Colours: with ``palette``, one RGB colour for each class.
    - Soft edges: with ``threshold``, a brighter pixel belongs to the one class of the file: the
      second of two classes, or the one that ``class_from`` finds in the image's path.

    Args:
        classes: Class names in the order of their indices, the background first; 2 to 255.
        palette: One colour (red, green, blue), 0 to 255, for each class; or None.
        threshold: Grey value, 0 to 254, up to which a pixel is background; or None.
        class_from: Regular expression; its first group, searched for in the path of the image
            below the data root, is the name of the class of a file with soft edges.
        ignore: Grey values, or with a palette colours, of pixels that do not count.
        missing: ``error``, or ``background``: an image without a mask file shows nothing but the
            background, the first class.

    Raises:
        ConfigError: The settings contradict each other or are out of range.
    """

    def __init__(
        self,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]] | None = None,
        threshold: int | None = None,
        class_from: str | None = None,
        ignore: Sequence[Any] | None = None,
        missing: str = "error",
    ) -> None:
        self.classes = tuple(classes)
        if ignore is not None and not isinstance(ignore, list | tuple):
            raise _wrong("ignore", ignore, "a list of values, e.g. (255,)")
        if ignore and threshold is not None:
            raise _wrong("ignore", ignore, "None, since mask_format.threshold is set")
        self.palette = palette
        self.threshold = threshold
        self.class_from = _compile(class_from)
        self.ignore = tuple(ignore if ignore is not None else () if palette else (IGNORE,))
        self.missing_is_background = missing == "background"
        if missing not in ("error", "background"):
            raise _wrong("missing", missing, "'error' or 'background'")
        self._check()
        codes = [_code(colour) for colour in (*(palette or ()), *(self.ignore if palette else ()))]
        self._codes = np.array(codes, np.int64)
        self._indices = np.array(
            [*range(len(palette or ())), *[IGNORE] * len(self.ignore)], np.uint8
        )

    def _check(self) -> None:
        count = len(self.classes)
        if not 2 <= count <= _MOST_CLASSES:
            raise ConfigError(
                f"classes holds {count} name(s), {', '.join(self.classes[:3])}: expected 2 to "
                f"{_MOST_CLASSES}, the background first, then the defects."
            )
        if self.palette is not None:
            if self.threshold is not None:
                raise _wrong("palette", self.palette, "None, since mask_format.threshold is set")
            if len(self.palette) != count:
                raise ConfigError(
                    f"mask_format.palette has {len(self.palette)} colours for {count} classes: "
                    f"give one (red, green, blue) for each of {', '.join(self.classes)}."
                )
            colours = [*self.palette, *self.ignore]
            for colour in colours:
                _check_colour(colour)
            if len({_code(colour) for colour in colours}) < len(colours):
                raise ConfigError(
                    "mask_format.palette and ignore hold a colour twice: each has to stand for "
                    "one class."
                )
        if self.threshold is None:
            return
        if type(self.threshold) is not int or not 0 <= self.threshold < 255:
            raise _wrong("threshold", self.threshold, "a grey value, 0 to 254, or None")
        if self.class_from is None and count != 2:
            raise ConfigError(
                f"mask_format.threshold tells two classes apart, but there are {count}: set "
                "mask_format.class_from to a regular expression that finds the class in the "
                "image's path, e.g. '^MT_([^/]+)/'."
            )

    def class_of(self, path: str) -> int | None:
        """Returns which class a mask with soft edges shows, by the path of its image.

        Args:
            path: Relative to the data root, with forward slashes.

        Returns:
            The index; None for a name that is no class, such as ``good``: such a mask has to be
            empty.

        Raises:
            DataError: ``class_from`` finds nothing in the path.
        """
        if self.class_from is None:
            return 1
        match = self.class_from.search(path)
        if match is None or not match[1]:
            raise DataError(
                f"mask_format.class_from {self.class_from.pattern!r} finds no class in {path!r}."
            )
        return self.classes.index(match[1]) if match[1] in self.classes else None

    def read(self, path: str | Path, image: str) -> np.ndarray:
        """Reads a mask file.

        Args:
            path: The mask file.
            image: Path of its image below the data root, for ``class_from``.

        Returns:
            H x W uint8, class indices and :data:`IGNORE`.

        Raises:
            DataError: The file is missing, broken, of a kind that does not fit the format, or has
                a value that is no class.
        """
        return self.decode(MaskFile(path), image)

    def decode(self, file: MaskFile, image: str) -> np.ndarray:
        """Returns what :meth:`read` does for a file that is open; notes down what is odd about it.

        Raises:
            DataError: As in :meth:`read`.
        """
        if self.threshold is not None:
            return self._by_threshold(file, image)
        if self.palette is not None:
            return self._by_colour(file)
        return self._by_id(file)

    def _by_threshold(self, file: MaskFile, image: str) -> np.ndarray:
        inside = file.marked(self.threshold)
        if not inside.any() and file.grey().any():
            file.oddities.add(Oddity.BELOW_THRESHOLD)
        index = self.class_of(image)
        if index is None:
            count = int(inside.sum())
            if count:
                raise DataError(
                    f"mask {file.path!r} marks {count} pixels of a class that is none of "
                    f"{', '.join(self.classes)}: mask_format.class_from finds "
                    f"{self.class_from.search(image)[1]!r} in {image!r}."
                )
            index = 0
        return inside.astype(np.uint8) * np.uint8(index)

    def _by_colour(self, file: MaskFile) -> np.ndarray:
        mode = file.picture.mode
        if mode not in (*COLOURS, "1", "L", "P"):
            raise DataError(
                f"mask {file.path!r} has no colours (mode {mode}), but a palette is set."
            )
        rgb = np.asarray(file.picture.convert("RGB")).astype(np.int64)
        code = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
        order = np.argsort(self._codes)
        place = np.searchsorted(self._codes, code, sorter=order).clip(max=len(order) - 1)
        found = order[place]
        unknown = self._codes[found] != code
        if unknown.any():
            values, counts = np.unique(code[unknown], return_counts=True)
            raise self._outside(file, [_rgb(value) for value in values], counts, "colour")
        return self._indices[found]

    def _by_id(self, file: MaskFile) -> np.ndarray:
        ids = _single_channel(file)
        ignores_a_class = any(value < len(self.classes) for value in self.ignore)
        if not ignores_a_class and (ids.max() < len(self.classes) and ids.min() >= 0):
            return ids.astype(np.uint8)
        ignored = np.isin(ids, self.ignore)
        wrong = ~ignored & ((ids >= len(self.classes)) | (ids < 0))
        if wrong.any():
            values, counts = np.unique(ids[wrong], return_counts=True)
            raise self._outside(file, values.tolist(), counts, "value")
        return np.where(ignored, IGNORE, ids).astype(np.uint8)

    def _outside(
        self, file: MaskFile, values: list[Any], counts: np.ndarray, what: str
    ) -> DataError:
        most = np.argsort(-counts)[:_SHOWN]
        shown = ", ".join(f"{what} {values[i]} in {counts[i]} pixels" for i in most)
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        if what == "colour":
            expected = "a colour of mask_format.palette"
        else:
            expected = f"0 to {len(self.classes) - 1} ({', '.join(self.classes[:10])})"
        ignored = f" or {', '.join(map(str, self.ignore))} for 'ignore'" if self.ignore else ""
        hint = ""
        if what == "value" and (len(values) > 30 or Oddity.LOSSY in file.oddities):
            hint = (
                " So many values look like soft edges (mask_format.threshold = 127) or a "
                "photograph; class ids have to be stored without loss, as PNG."
            )
        return DataError(
            f"mask {file.path!r} has {shown}{more}: expected {expected}{ignored}.{hint}"
        )


def _single_channel(file: MaskFile) -> np.ndarray:
    """Returns the values of a mask of class ids."""
    mode, pixels = file.picture.mode, np.asarray(file.picture)
    if file.is_white_first:
        return pixels == 0
    if mode in _MODES_OF_IDS:
        return pixels
    if mode in (*COLOURS, "LA", "PA"):
        colours = pixels[..., :3] if mode in COLOURS else pixels[..., :1]
        if (colours == colours[..., :1]).all():  # ids, stored as a grey picture of three channels
            return colours[..., 0]
        raise DataError(
            f"mask {file.path!r} has colours: set mask_format.palette to the colour (red, green, "
            "blue) of each class, or store class ids as a PNG of one channel."
        )
    raise DataError(f"mask {file.path!r} has pixels of type {mode}: expected whole numbers.")


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise _wrong("class_from", pattern, f"a regular expression ({error})") from error
    if not compiled.groups:
        raise _wrong("class_from", pattern, "a group around the class, e.g. '^MT_([^/]+)/'")
    return compiled


def _check_colour(colour: Any) -> None:
    is_colour = isinstance(colour, list | tuple) and len(colour) == 3
    if not is_colour or not all(type(v) is int and 0 <= v <= 255 for v in colour):
        raise _wrong("palette or ignore", colour, "colours (red, green, blue) of 0 to 255")


def _code(colour: Sequence[int]) -> int:
    return (colour[0] << 16) | (colour[1] << 8) | colour[2]


def _rgb(code: int) -> tuple[int, int, int]:
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def _wrong(name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"mask_format.{name} = {value!r}: expected {expected}.")


def build_mask_format(classes: Sequence[str], settings: Mapping[str, Any] | None) -> MaskFormat:
    """Builds a format from a config's ``mask_format``.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    known = ("palette", "threshold", "class_from", "ignore", "missing")
    for name in settings or {}:
        if name not in known:
            raise ConfigError(
                f"mask_format has no setting {name!r}.{did_you_mean(name, known)} "
                f"It takes: {', '.join(known)}."
            )
    return MaskFormat(classes, **(settings or {}))


def present_in(class_map: np.ndarray) -> list[int]:
    """Returns the values that occur in a class map (H x W uint8), in ascending order."""
    return np.flatnonzero(np.bincount(class_map.ravel(), minlength=IGNORE + 1)).tolist()
