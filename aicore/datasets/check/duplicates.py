"""The same image, or the same shot, more than once: in two splits, or with two labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from aicore.datasets.check.pictures import Picture
from aicore.datasets.check.report import Problem
from aicore.datasets.check.similarity import connected, near_pairs
from aicore.datasets.findings import ERROR, NOTE, WARNING


@dataclass(frozen=True)
class Entry:
    """A readable image of a split."""

    split: str
    path: str
    labels: tuple[str, ...]
    picture: Picture

    def __str__(self) -> str:
        return f"{self.path} ({', '.join(sorted(set(self.labels))) or 'no label'})"


_Pairs = list[tuple[Entry, Entry]]


def problems_of_duplicates(entries: list[Entry], names: list[str]) -> Iterator[Problem]:
    """Yields what is wrong, or worth knowing, about images that are there more than once.

    Args:
        entries: All readable images.
        names: The splits' names.
    """
    by_digest: dict[bytes, list[Entry]] = {}
    for entry in entries:
        by_digest.setdefault(entry.picture.digest, []).append(entry)
    exact = list(by_digest.values())
    shots = connected(len(exact), _near(exact))
    near = [[exact[index] for index in shot] for shot in shots]
    for first, second in combinations_with_replacement(names, 2):
        same = [pair for group in exact for pair in _pairs(group, first, second)]
        alike = [pair for groups in near for pair in _pairs_across(groups, first, second)]
        if first != second:
            yield from _leaks(first, second, same, alike)
        else:
            yield from _repetitions(first, same, alike)


def _near(exact: list[list[Entry]]) -> list[tuple[int, int]]:
    if not exact:
        return []
    return near_pairs(np.stack([group[0].picture.thumbnail for group in exact]))


def _pairs(group: list[Entry], first: str, second: str) -> _Pairs:
    """Pairs each entry of the second split with one of the first; the first one counts once."""
    ours = [entry for entry in group if entry.split == first]
    theirs = [entry for entry in group if entry.split == second]
    if first == second:
        theirs = theirs[1:]
    return [(ours[0], entry) for entry in theirs] if ours else []


def _pairs_across(groups: list[list[Entry]], first: str, second: str) -> _Pairs:
    """As :func:`_pairs` over groups of the same pixels, leaving pairs of the same pixels out."""
    # One of each group and split stands for all: the others are reported as the same image.
    members = [
        next(entry for entry in group if entry.split == split)
        for group in groups
        for split in dict.fromkeys(entry.split for entry in group)
    ]
    known = {entry.picture.digest for entry in members if entry.split == first}
    return [
        (ours, theirs)
        for ours, theirs in _pairs(members, first, second)
        if first == second or theirs.picture.digest not in known
    ]


def _leaks(first: str, second: str, same: _Pairs, alike: _Pairs) -> Iterator[Problem]:
    where = f"{first}, {second}"
    level = ERROR if "train" in first else WARNING
    if same:
        text = f"images of {second} that are in {first} as well, the same pixels: {len(same)}"
        yield Problem(level, where, text, _cases(same, "="))
    if alike:
        text = f"images of {second} that are nearly the same as one of {first}: {len(alike)}"
        yield Problem(WARNING, where, text, _cases(alike, "~"))


def _repetitions(split: str, same: _Pairs, alike: _Pairs) -> Iterator[Problem]:
    for pairs, sign, level, what in (
        (same, "=", ERROR, "repeat another one, the same pixels"),
        (alike, "~", WARNING, "are nearly the same as another one"),
    ):
        torn = [pair for pair in pairs if pair[0].labels != pair[1].labels]
        agreed = [pair for pair in pairs if pair[0].labels == pair[1].labels]
        if torn:
            text = f"images that {what}, with another label: {len(torn)}"
            yield Problem(level, split, text, _cases(torn, sign))
        if agreed:
            text = f"images that {what}, with the same label: {len(agreed)}"
            yield Problem(NOTE, split, text, _cases(agreed, sign))


def _cases(pairs: _Pairs, sign: str) -> list[str]:
    return [f"{first} {sign} {second}" for first, second in pairs]
