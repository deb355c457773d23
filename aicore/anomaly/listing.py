"""Which images a split holds, of which type each is, where its mask lies, who is held out."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aicore.datasets.base import require_images
from aicore.datasets.files import (
    find_listed,
    is_list,
    join_path,
    read_lines,
    read_list,
    with_image_suffix,
)
from aicore.datasets.path_template import PathTemplate
from aicore.errors import ConfigError, DataError, did_you_mean
from aicore.runtime.files import Walk, walk_files, why_no_file
from aicore.runtime.images import IMAGE_SUFFIXES, images_among

PARTS = ("all", "fit", "held_out", "test")

_SUFFIX = "(?:{})".format("|".join(map(re.escape, IMAGE_SUFFIXES)))
_PATH_AND_TYPE = re.compile(rf"(.+{_SUFFIX})\s+(\S.*)", re.IGNORECASE)
_SHOWN = 5  # names in a message


class Listed(NamedTuple):
    """An image of a split."""

    path: Path
    type: str
    """As its folder or its list names it."""
    mask: str = ""
    """Relative to the data root, where a csv file names it."""


# ---- types ----


class TypeRule:
    """Tells by its folders which type an image is of, and which types are good.

    Args:
        good: Names of the good types, compared without case.
        type_from: Regular expression whose first group, searched for in an image's path relative
            to the data root, is its type; None: its folders say it, see :meth:`of`.

    Raises:
        ConfigError: ``good`` is empty, or ``type_from`` is no expression with a group.
    """

    def __init__(self, good: str | Sequence[str], type_from: str | None = None) -> None:
        self.good = (good,) if isinstance(good, str) else tuple(good)
        if not self.good:
            raise ConfigError("good = (): expected the names of the good types, e.g. ('good',).")
        self._good = {str(name).casefold() for name in self.good}
        self.pattern = None if type_from is None else _compile(type_from)

    def is_good(self, name: str) -> bool:
        """Tells whether a type is a good one."""
        return name.casefold() in self._good

    def of(self, relative: str, folders: Sequence[str]) -> str:
        """Returns an image's type.

        Args:
            relative: Its path relative to the data root, with forward slashes.
            folders: Names that may be its type: a good one among them is, else the last one.

        Raises:
            DataError: ``type_from`` finds nothing in the path, or there is no folder.
        """
        if self.pattern is not None:
            found = self.pattern.search(relative)
            if found is None or not found[1]:
                raise DataError(
                    f"type_from = {self.pattern.pattern!r} finds no type in {relative!r}."
                )
            return found[1]
        if not folders:
            raise DataError(
                f"{relative!r} lies in no folder that says its type: write it behind the path, "
                "after a tab, or set type_from to a regular expression that finds it in the path."
            )
        return next((name for name in folders if self.is_good(name)), folders[-1])


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"type_from = {pattern!r}: expected a regular expression ({error})."
        ) from error
    if not compiled.groups:
        raise ConfigError(
            f"type_from = {pattern!r}: expected a group around the type, e.g. '^MT_([^/]+)/'."
        )
    return compiled


# ---- images ----


def relative_name(path: Path, root: Path) -> str:
    """Returns an image's path relative to the data root, with forward slashes, if it lies there."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def list_images(
    split: str, root: Path, types: TypeRule, rows: Mapping[str, str] | None = None
) -> tuple[list[Listed], list[tuple[Path, str]]]:
    """Finds the images of a folder, a list file or a csv file, see :class:`AnomalyDataset`.

    Args:
        split: Relative to ``root``.
        root: The data root.
        types: Tells an image's type.
        rows: Which rows of a csv file count: the value that a column has to have.

    Returns:
        The images; and what a folder holds beside them, see :func:`images_among`.

    Raises:
        DataError: There is no image, or a file is not of its form.
    """
    source = join_path(root, split)
    if source.suffix.lower() == ".csv":
        return _from_csv(source, root, rows or {}), []
    walk = Walk([], []) if is_list(split) else images_among(walk_files(source))
    if is_list(split):
        found = [
            _from_line(line, f"{source}, line {number}", root, types)
            for number, line in read_list(source)
        ]
    else:
        own = source.resolve().name  # of "." too
        found = [
            Listed(
                path,
                types.of(
                    relative_name(path, root), (own, *path.relative_to(source).parts[:-1][:1])
                ),
            )
            for path in walk.files
        ]
    require_images(
        len(found),
        source,
        expected=f"a folder, a list file or a csv file with {', '.join(IMAGE_SUFFIXES)}",
        example=f"{source}: good/part_001.png" if is_list(split) else f"{source}/good/part_001.png",
        left_out=walk.left_out,
    )
    return found, walk.left_out


def _from_line(line: str, place: str, root: Path, types: TypeRule) -> Listed:
    both = _PATH_AND_TYPE.fullmatch(line)
    if "\t" in line:
        name, _, kind = line.rpartition("\t")
    elif both:
        name, kind = both[1], both[2]
    elif (
        " " in line
        and not line.lower().endswith(IMAGE_SUFFIXES)
        and why_no_file(find_listed(line, place, root))
    ):
        name, _, kind = line.rpartition(" ")
    else:
        name, kind = line, ""
    path, kind = find_listed(name.strip(), place, root), kind.strip()
    if kind:
        return Listed(path, kind)
    relative = relative_name(path, root)
    parents = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else path.parts[-2:-1]
    return Listed(path, types.of(relative, parents))


def _from_csv(file: Path, root: Path, wanted: Mapping[str, str]) -> list[Listed]:
    if not file.is_file():
        raise DataError(f"{str(file)!r} does not exist. Set data_root (and train, val, test).")
    table = csv.DictReader(read_lines(file))
    columns = [name or "" for name in table.fieldnames or ()]
    for name in ("image", "label", *wanted):
        if name not in columns:
            raise DataError(
                f"{str(file)!r} has no column {name!r}.{did_you_mean(name, columns)} "
                f"It has: {', '.join(columns)}."
            )
    rows = list(table)
    chosen = [row for row in rows if all(row[name] == str(v) for name, v in wanted.items())]
    if not chosen:
        values = {name: sorted({str(row[name]) for row in rows}) for name in wanted}
        there = "; ".join(f"{name}: {', '.join(v[:_SHOWN])}" for name, v in values.items())
        raise DataError(
            f"{str(file)!r}: rows = {dict(wanted)!r} takes none of its {len(rows)} rows. "
            f"What is there: {there or 'nothing'}."
        )
    for row in chosen:
        if not row["image"] or not row["label"]:
            raise DataError(f"{str(file)!r} has a row without image or label: {dict(row)!r}.")
    return [
        Listed(
            find_listed(row["image"].strip(), str(file), root),
            row["label"].strip(),
            (row.get("mask") or "").strip(),
        )
        for row in chosen
    ]


# ---- masks and ROIs ----


@dataclass(frozen=True)
class AreaTemplate(PathTemplate):
    """Where the mask or the ROI of an image lies; ``{type}`` stands for the image's type.

    Raises:
        ConfigError: The template has other names in braces, or none.
    """

    names: tuple[str, ...] = ("path", "folder", "name", "type")

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{" not in self.template:
            raise ConfigError(
                f"{self.setting} = {self.template!r}: expected a path with {{path}}, {{folder}}, "
                "{name} or {type} of the image, e.g. 'ground_truth/{type}/{name}_mask.png'."
            )

    def find(self, image: Path, kind: str) -> Path | None:
        """Returns the file that belongs to an image, maybe with another suffix; None if none."""
        path = self.of(image, type=kind)
        if path.is_file():
            return path if path != image else None
        stem = path.with_suffix("")
        # A file of the image's own name is told from it by its suffix alone.
        return with_image_suffix(stem) if stem != image.with_suffix("") else None

    def among(self, listed: Sequence[Listed]) -> set[Path]:
        """Returns those of the files that belong to one of the others: they are no images."""
        by_stem: dict[Path, list[Path]] = {}
        for item in listed:
            by_stem.setdefault(item.path.with_suffix(""), []).append(item.path)
        found: set[Path] = set()
        for item in listed:
            path = self.of(item.path, type=item.type)
            same = by_stem.get(path.with_suffix(""), [])
            if path in same or path.with_suffix("") == item.path.with_suffix(""):
                same = [path] if path in same and path != item.path else []
            found.update(same)
        return found


# ---- division of the good images ----


def divide(names: Sequence[str], test_share: float, held_out: float, seed: int) -> dict[str, str]:
    """Deals good images to ``test``, ``held_out`` and ``fit`` by a hash of their names.

    The same names give the same parts, in whatever order; few change theirs when others are added.

    Args:
        names: Paths relative to the data root.
        test_share: Share in [0, 1) of all.
        held_out: Share in [0, 1) of those that are left.
        seed: Of the hash.

    Returns:
        The part of each name. A share above 0 gets at least one of two names or more.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    test = _count(len(order), test_share)
    held = _count(len(order) - test, held_out)
    parts = ["test"] * test + ["held_out"] * held + ["fit"] * (len(order) - test - held)
    return dict(zip(order, parts, strict=True))


def _count(total: int, share: float) -> int:
    return min(max(round(share * total), 1), total - 1) if share and total > 1 else 0
