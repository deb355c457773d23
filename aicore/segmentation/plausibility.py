"""What the masks of a split say together: whether a training on them can mean anything."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from aicore.datasets.findings import ERROR, NOTE, WARNING, Finding
from aicore.datasets.masks import Oddity, findings_of_files, findings_of_sameness
from aicore.segmentation.masks import MaskFormat

_MANY_IGNORED = 0.5  # share of the pixels


@dataclass(frozen=True)
class MaskFigures:
    """What one mask holds."""

    pixels: tuple[int, ...] = ()
    """Of each class."""
    ignored: int = 0
    """Pixels that do not count."""
    fault: str = ""
    """What is wrong with the file; nothing is counted then."""
    oddities: Set[Oddity] = frozenset()
    """What is odd about how it is stored."""
    digest: bytes = b""
    """The same for masks with the same pixels; empty without a file."""


def findings_of_masks(
    masks: Mapping[str, MaskFigures], mask_format: MaskFormat, trains: bool
) -> list[Finding]:
    """Returns what is implausible about the masks of a split, and how much of them counts.

    Args:
        masks: Figures by the path of the mask, or of the image where there is none. Those with a
            fault are passed over.
        mask_format: How the masks were read.
        trains: Whether the split is to train on: what makes that meaningless is an error.
    """
    sound = {path: figures for path, figures in masks.items() if not figures.fault}
    if not sound:
        return []
    files = {path: figures.oddities for path, figures in sound.items() if figures.digest}
    marking = [figures.digest for figures in sound.values() if sum(figures.pixels[1:])]
    return [
        *findings_of_files(files),
        *_ignored(sound, mask_format, trains),
        *_one_class(sound, mask_format.classes, trains),
        *_background_in_the_minority(sound, mask_format.classes),
        *findings_of_sameness(marking),
    ]


def _ignored(
    masks: Mapping[str, MaskFigures], mask_format: MaskFormat, trains: bool
) -> list[Finding]:
    ignored = sum(figures.ignored for figures in masks.values())
    if not ignored:
        return []
    share = ignored / (ignored + sum(sum(figures.pixels) for figures in masks.values()))
    values = ", ".join(map(str, mask_format.ignore))
    text = f"{share:.1%} of the pixels are ignored ({values})"
    if share == 1:
        level = ERROR if trains else WARNING
    else:
        level = WARNING if share > _MANY_IGNORED else NOTE
    found = [Finding(level, text)]
    # Annotators of two habits: 255 is defective in the masks of one, and ignored in the other's.
    nothing_else = [p for p, f in masks.items() if f.ignored and not sum(f.pixels[1:])]
    if nothing_else and any(sum(figures.pixels[1:]) for figures in masks.values()):
        background = mask_format.palette[0] if mask_format.palette else 0
        text = (
            f"{len(nothing_else)} masks hold nothing but {background} and {values}, which is "
            "ignored, while others show classes: if it means defective there, write the class's "
            "value in its place"
        )
        found.append(Finding(WARNING, text, nothing_else))
    return found


def _one_class(
    masks: Mapping[str, MaskFigures], classes: tuple[str, ...], trains: bool
) -> list[Finding]:
    totals = [sum(counts) for counts in zip(*(f.pixels for f in masks.values()), strict=True)]
    present = [name for name, total in zip(classes, totals, strict=True) if total]
    if len(present) != 1 or any(figures.ignored for figures in masks.values()):
        return []  # none but ignored pixels: told as such
    level = ERROR if trains else WARNING
    return [Finding(level, f"every pixel of all {len(masks)} images is {present[0]}")]


def _background_in_the_minority(
    masks: Mapping[str, MaskFigures], classes: tuple[str, ...]
) -> list[Finding]:
    totals = [sum(counts) for counts in zip(*(f.pixels for f in masks.values()), strict=True)]
    if not sum(totals[1:]) or totals[0] / sum(totals) >= 0.5:
        return []
    other = max(range(1, len(totals)), key=totals.__getitem__)
    covered = [p for p, f in masks.items() if 2 * f.pixels[other] > sum(f.pixels)]
    if 2 * len(covered) <= len(masks):
        return []
    text = (
        f"{classes[other]} covers more than half of {len(covered)} of {len(masks)} images, and the "
        f"first class, {classes[0]}, {totals[0] / sum(totals):.1%} of all pixels: are the values "
        "in the masks, or the order of the classes, the wrong way round?"
    )
    return [Finding(WARNING, text, covered)]
