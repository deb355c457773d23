"""Dividing a folder of labelled images into train, val and test: seeded, stratified, by group.

Source of the idea of serving the split in greatest need first: Sechidis et al., "On the
stratification of multi-label data", 2011.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aicore.errors import DataError, did_you_mean
from aicore.runtime.images import describe_left_out, find_images

SPLITS = ("train", "val", "test")
_EXAMPLES = 3


@dataclass(frozen=True)
class Item:
    """An image to put into a split.

    Attributes:
        path: Relative to the folder of images, with forward slashes.
        label: Class name.
        group: Images of one group, e.g. of one part, stay in one split.
    """

    path: str
    label: str
    group: str


def find_items(
    root: Path,
    label_from: re.Pattern[str] | None = None,
    group_from: re.Pattern[str] | None = None,
    include: str | None = None,
) -> tuple[list[Item], str]:
    """Finds the images below a folder with their class and group, sorted by path.

    Args:
        root: Folder of images.
        label_from: Its first group, searched for in an image's path relative to ``root``, is the
            class; by default the path's first folder is.
        group_from: As ``label_from``, for the group; by default each image is its own.
        include: Glob that the path has to match from its right end, e.g. ``*.jpg``.

    Returns:
        The images; and a clause on what else the folder holds, empty if there is nothing to say.

    Raises:
        DataError: The folder is missing or holds no image that ``include`` takes, or a pattern
            does not match an image.
    """
    if not root.is_dir():
        near = [folder.name for folder in root.parent.glob("*/")]
        raise DataError(f"{str(root)!r} is not a folder.{did_you_mean(root.name, near)}")
    walk = find_images(root)
    found = [path.relative_to(root).as_posix() for path in walk.files]
    paths = sorted(path for path in found if include is None or PurePosixPath(path).match(include))
    if not paths:
        raise DataError(
            f"--include {include!r} takes none of the {len(found)} images in {str(root)!r}; the "
            f"first is {found[0]!r}."
        )
    if label_from is None:
        labels = _first_folders(root, paths)
    else:
        labels = _captures("--label-from", label_from, paths)
    groups = paths if group_from is None else _captures("--group-from", group_from, paths)
    return list(map(Item, paths, labels, groups)), describe_left_out(walk.left_out)


def split_items(items: list[Item], shares: dict[str, float], seed: int) -> dict[str, list[Item]]:
    """Divides images so that each class has about the same shares, and no group is torn.

    The groups are shuffled, and come largest first. Each goes to the split that lacks most of
    what the group holds. A class with at least as many groups as there are splits aims at one
    group or more in each, whatever the shares.

    Args:
        items: The images; their order does not matter.
        shares: Share in (0, 1) of each split; they add up to 1. The first wins ties.
        seed: Of the shuffling.

    Returns:
        The images of each split, sorted by path.

    Raises:
        DataError: A split would be empty.
    """
    groups: dict[str, Counter[str]] = {}
    for item in sorted(items, key=lambda item: item.path):
        groups.setdefault(item.group, Counter())[item.label] += 1
    totals = Counter(item.label for item in items)
    groups_of = Counter(label for counts in groups.values() for label in counts)
    needs = _targets(totals, groups_of, shares)
    order = list(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -groups[group].total())
    chosen: dict[str, str] = {}
    for group in order:
        counts = groups[group]
        # In shares of a class, so that a rare one counts as much as a common one.
        lack = {
            split: sum(counts[label] * need[label] / totals[label] for label in counts)
            for split, need in needs.items()
        }
        chosen[group] = max(lack, key=lack.__getitem__)
        needs[chosen[group]].subtract(counts)
    splits: dict[str, list[Item]] = {name: [] for name in shares}
    for item in sorted(items, key=lambda item: item.path):
        splits[chosen[item.group]].append(item)
    for name, part in splits.items():
        if not part:
            raise DataError(
                f"{name} would be empty: {len(items)} images in {len(groups)} groups are too few "
                f"for {' '.join(f'{split} {share:.0%}' for split, share in shares.items())}."
            )
    return splits


def doubts(splits: dict[str, list[Item]]) -> list[str]:
    """Returns a sentence for each class that a split lacks, and for images that may be masks."""
    items = [item for part in splits.values() for item in part]
    sentences = []
    for label in sorted({item.label for item in items}):
        without = [n for n, part in splits.items() if all(item.label != label for item in part)]
        if without:
            groups = len({item.group for item in items if item.label == label})
            sentences.append(
                f"class {label!r} has no image in {' and '.join(without)}: its images make "
                f"{groups} group{'s' * (groups != 1)} for {len(splits)} splits."
            )
    stems = Counter(PurePosixPath(item.path).with_suffix("") for item in items)
    stem, most = stems.most_common(1)[0]
    if most > 1:
        sentences.append(
            f"{sum(count > 1 for count in stems.values())} images share folder and name with "
            f"another and differ in the suffix only, such as {stem}.*: if one of them is a mask, "
            "leave the masks out with --include, e.g. '*.jpg'."
        )
    return sentences


def write_lists(splits: dict[str, list[Item]], out: Path, paths_only: bool = False) -> list[Path]:
    """Writes a list file ``<split>.txt`` for each split, and ``labels.txt``.

    A line is ``<path> <class>``, with a tab between the two where one of them holds a blank.

    Args:
        splits: Images of each split.
        out: Folder to write into; made where it does not exist.
        paths_only: Whether a line is the path alone, for tasks whose annotations lie elsewhere;
            there is no ``labels.txt`` then.

    Returns:
        The files.

    Raises:
        DataError: A file of another content, or a list of an earlier split, is there already; a
            name cannot stand in a list file; the folder cannot be written.
    """
    labels = sorted({item.label for part in splits.values() for item in part})
    texts = {
        out / f"{name}.txt": "".join(_line(item, paths_only) for item in part)
        for name, part in splits.items()
    }
    if not paths_only:
        texts[out / "labels.txt"] = "".join(f"{label}\n" for label in labels)
    stale = [out / f"{name}.txt" for name in SPLITS if name not in splits]
    for file in [*texts, *stale]:
        if file.exists() and file.read_bytes() != texts.get(file, "").encode():
            raise DataError(
                f"{str(file)!r} belongs to another split. Give another folder as --out, or remove "
                "its lists first."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            file.write_bytes(text.encode())  # as it is, with the same line ends on any system
    except OSError as error:
        raise DataError(
            f"the lists cannot be written into {str(out)!r}: {error.strerror}. Give another "
            "folder as --out."
        ) from error
    return list(texts)


def _targets(
    totals: Counter[str], groups: Counter[str], shares: dict[str, float]
) -> dict[str, Counter[str]]:
    """Returns how many images of each class each split should get, as fractional counts."""
    largest = max(shares, key=shares.__getitem__)
    targets: dict[str, Counter] = {name: Counter() for name in shares}
    for label, total in totals.items():
        one_group = total / groups[label] if groups[label] >= len(shares) else 0
        wanted = {name: max(share * total, one_group) for name, share in shares.items()}
        wanted[largest] -= sum(wanted.values()) - total
        for name, count in wanted.items():
            targets[name][label] = count
    return targets


def _first_folders(root: Path, paths: list[str]) -> list[str]:
    for path in paths:
        if "/" not in path:
            raise DataError(
                f"{path!r} lies directly in {str(root)!r}, so it has no class folder. Expected "
                f"<class>/{path}; or tell the class from the path with --label-from."
            )
    return [path.partition("/")[0] for path in paths]


def _captures(option: str, pattern: re.Pattern[str], paths: list[str]) -> list[str]:
    """Returns what the pattern's first group finds in each path."""
    matches = [pattern.search(path) for path in paths]
    found = [match[1] if match else None for match in matches]
    missed = [path for path, text in zip(paths, found, strict=True) if not text]
    if missed:
        raise DataError(
            f"{option} {pattern.pattern!r} finds nothing in {len(missed)} of {len(paths)} paths, "
            f"such as {', '.join(map(repr, missed[:_EXAMPLES]))}. Mend the pattern, or take the "
            "right images with --include."
        )
    return [text for text in found if text]


def _line(item: Item, path_only: bool) -> str:
    separator = "\t" if " " in item.path + item.label else " "
    line = item.path if path_only else f"{item.path}{separator}{item.label}"
    tabs = 0 if path_only else separator.count("\t")
    is_utf8 = line.encode(errors="replace").decode() == line
    if line.strip() != line or re.search("[\r\n]", line) or line.count("\t") != tabs or not is_utf8:
        raise DataError(
            f"{item.path!r} of class {item.label!r} cannot stand in a list file: rename it, "
            "without line breaks, tabs, and blanks at its ends, in UTF-8."
        )
    return f"{line}\n"
