"""What the pixels of images say of the settings they are read with, and of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aicore.datasets.check.duplicates import Entry
from aicore.datasets.check.pictures import Picture
from aicore.datasets.check.report import Problem
from aicore.datasets.findings import ERROR, NOTE, WARNING

_DARK = 1 / 4  # of white, below which all images together are called dark
_WHITE = 255  # of 8-bit images


def problems_of_values(entries: list[Entry], white_levels: dict[str, int]) -> Iterator[Problem]:
    """Yields what is wrong, implausible or worth knowing about the values of pixels.

    Args:
        entries: All readable images.
        white_levels: The grey value that the config takes for white in 16-bit images, by split.
    """
    groups: dict[int | None, list[Entry]] = {}
    for entry in entries:
        if entry.picture.bits == 8:
            groups.setdefault(None, []).append(entry)
        elif entry.split in white_levels:
            groups.setdefault(white_levels[entry.split], []).append(entry)
    for white_level, group in groups.items():
        splits = ", ".join(dict.fromkeys(entry.split for entry in group))
        if white_level is None:
            yield from _problems_of_8_bits(splits, group)
        else:
            yield from _problems_of_16_bits(splits, group, white_level)
    for level, text, is_case in _ODD:
        for split in dict.fromkeys(entry.split for entry in entries):
            cases = [e.path for e in entries if e.split == split and is_case(e.picture)]
            if cases:
                yield Problem(level, split, f"{text}: {len(cases)}", cases)


def _problems_of_8_bits(splits: str, entries: list[Entry]) -> Iterator[Problem]:
    darkest, brightest = _range(entries)
    if brightest < _DARK * _WHITE or darkest > (1 - _DARK) * _WHITE:
        text = (
            f"grey values are only {darkest} to {brightest} of {_WHITE} in all 8-bit images: are "
            "these the images, and are they exposed well?"
        )
        yield Problem(WARNING, splits, text)


def _problems_of_16_bits(splits: str, entries: list[Entry], white: int) -> Iterator[Problem]:
    _, brightest = _range(entries)
    advice = f"set white_level = {2 ** brightest.bit_length() - 1} in the config"
    too_bright = [entry for entry in entries if entry.picture.brightest > white]
    if too_bright:
        text = (
            f"16-bit images with values above white_level = {white}, at which a training stops: "
            f"{len(too_bright)}; {advice}, or what is white to the camera"
        )
        cases = [f"{entry.path}: {entry.picture.brightest}" for entry in too_bright]
        yield Problem(ERROR, splits, text, cases)
    elif 0 < brightest < _DARK * white:
        text = (
            f"largest grey value {brightest} of {white} (white_level), so that all 16-bit images "
            f"are dark to the model: {advice} if that is white to the camera"
        )
        yield Problem(WARNING, splits, text)


def _range(entries: list[Entry]) -> tuple[int, int]:
    pictures = [entry.picture for entry in entries]
    return min(p.darkest for p in pictures), max(p.brightest for p in pictures)


_ODD: tuple[tuple[str, str, Callable[[Picture], bool]], ...] = (
    (
        WARNING,
        "images that are transparent in part, which is not heeded",
        lambda picture: picture.is_transparent,
    ),
    (
        WARNING,
        "files with several pages, of which the first is read",
        lambda picture: picture.pages > 1,
    ),
    (
        NOTE,
        "images of one grey value throughout",
        lambda picture: picture.darkest == picture.brightest,
    ),
)
