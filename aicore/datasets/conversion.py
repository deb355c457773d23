"""What converters of annotations share: the summary, the choice of classes, whole or no output."""

from __future__ import annotations

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aicore.datasets.files import read_lines
from aicore.errors import DataError, did_you_mean

_EXAMPLES = 3  # of each reason, in the summary
_NO_LINE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's kinds of control characters and line breaks
_LINE_RULE = "one name a line in UTF-8, without tabs, line breaks and blanks at its ends"


@dataclass
class Summary:
    """What a conversion wrote, and what it left out."""

    unit: str = "areas"
    """What is counted."""
    without: str = "without any area (all background)"
    """What an empty image is."""
    images: int = 0
    empty: int = 0
    """Images without any area."""
    areas: dict[str, int] = field(default_factory=dict)
    """Number of areas (or boxes) of each class."""
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """Places, by the reason for which they were left out."""
    changed: dict[str, list[str]] = field(default_factory=dict)
    """Places, by what was changed there."""
    warnings: list[str] = field(default_factory=list)
    """What is implausible in what was written, a clause each."""
    lost: int = 0
    """Number of places that were left out although they were to be converted."""

    def drop(self, reason: str, place: str, wanted: bool = True) -> None:
        """Notes something that is left out.

        Args:
            reason: A clause.
            place: Where it stands.
            wanted: Whether it was to be converted; not so are other files, and classes that were
                not asked for.
        """
        self.dropped.setdefault(reason, []).append(place)
        self.lost += wanted

    def change(self, what: str, place: str) -> None:
        """Notes something that is not written as it was read."""
        self.changed.setdefault(what, []).append(place)

    def refuse_nothing(self) -> None:
        """Raises if all that was to be converted has been left out.

        Raises:
            DataError: Nothing is left of it: no image, or images without any area.
        """
        if not self.images or (self.lost and self.empty == self.images):
            reasons = "; ".join(self._reasons(self.dropped))
            raise DataError(
                f"nothing was converted, since all of it had to be left out: {reasons}."
            )

    def __str__(self) -> str:
        """Counts, then each reason with a few places."""
        lines = [f"{self.images} images, {self.empty} of them {self.without}"]
        lines += [f"  {name}: {count} {self.unit}" for name, count in self.areas.items()]
        for title, groups in (("changed", self.changed), ("left out", self.dropped)):
            if groups or title == "left out":
                lines.append(f"{title}: {sum(map(len, groups.values()))}")
            lines += [f"  {line}" for line in self._reasons(groups)]
        lines += [f"warning: {text}" for text in self.warnings]
        return "\n".join(lines)

    @staticmethod
    def _reasons(groups: Mapping[str, Sequence[str]]) -> list[str]:
        return [
            f"{len(places)} x {reason}: "
            + ", ".join(places[:_EXAMPLES])
            + (", …" if len(places) > _EXAMPLES else "")
            for reason, places in groups.items()
        ]


def relative_path(image: Path, root: Path) -> str:
    """Returns the path of an image below ``root``, with forward slashes.

    Raises:
        DataError: It does not lie below ``root``.
    """
    try:
        return image.resolve().relative_to(root.resolve()).as_posix()
    except ValueError as error:
        raise DataError(
            f"image {str(image)!r} does not lie below {str(root)!r}: give a folder above all "
            "images as --root."
        ) from error


def choose_classes(asked: Sequence[str] | None, there: Sequence[str], source: Path) -> list[str]:
    """Returns the classes to convert, each once: those asked for, or all.

    Raises:
        DataError: A name that is asked for is not there, or cannot stand in a list.
    """
    for name in asked or ():
        if name not in there:
            raise DataError(
                f"--classes: {str(source)!r} has no class {name!r}.{did_you_mean(name, there)} "
                f"It has: {', '.join(there)}."
            )
    classes = list(dict.fromkeys(there if asked is None else asked))
    unlistable = next((name for name in classes if not _is_line(name)), None)
    if unlistable is not None:
        raise DataError(
            f"{str(source)!r}: the class {unlistable!r} cannot stand in labels.txt, {_LINE_RULE}: "
            "rename it, or choose others with --classes."
        )
    return classes


def refuse_reserved_name(name: str) -> None:
    """Raises if the list of the images would be taken for the list of the classes."""
    if name in ("labels", "classes"):
        raise DataError(
            f"the list of the images cannot be called {name}, which is the list of the classes: "
            "give another --name, e.g. train."
        )


def refuse_to_overwrite(
    files: Sequence[Path], lists: Mapping[Path, Sequence[str]], what: str = "masks"
) -> None:
    """Raises if one of the files is there already, or a list that holds other lines.

    So it does for an image whose name cannot stand in a list.

    Args:
        files: One for each image.
        lists: Lines of each list, of the classes or the images.
        what: The files, for the message.
    """
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        raise DataError(
            f"two images differ in their suffix only: their {what} would be one file, {twice[0]}."
        )
    there = next((file for file in files if file.exists()), None)
    if there:
        raise DataError(f"{str(there)!r} is there already: give another --out.")
    for file, lines in lists.items():
        unlistable = next((line for line in lines if not _is_line(line.lstrip(" "))), None)
        if unlistable is not None:
            raise DataError(
                f"the image {unlistable!r} cannot stand in a list, {_LINE_RULE}: rename it."
            )
        if file.exists() and read_lines(file) != list(lines):
            raise DataError(
                f"{str(file)!r} holds other lines than this conversion would write: give another "
                "--out or --name, or the same --classes."
            )


def _is_line(text: str) -> bool:
    """Tells whether a line of a list gives a text back as it is."""
    odd = any(unicodedata.category(character) in _NO_LINE for character in text)
    return bool(text) and text == text.strip() and not odd


@contextmanager
def write_whole(out: Path) -> Iterator[Path]:
    """Yields a folder to write into, whose files move into ``out`` once all are there.

    Whatever goes wrong before, ``out`` stays as it was.
    """
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=out) as name:
            folder = Path(name)
            yield folder
            for file in sorted(file for file in folder.rglob("*") if file.is_file()):
                target = out / file.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
    finally:
        if is_new and not any(out.iterdir()):
            out.rmdir()


def write_lines(file: Path, lines: Sequence[str]) -> None:
    """Writes a text file, with the same line ends on any system."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(f"{line}\n" for line in lines).encode())
