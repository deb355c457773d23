"""What the masks and ROIs of a split say together: whether its figures can mean anything."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from aicore.datasets.findings import NOTE, WARNING, Finding
from aicore.datasets.masks import Oddity, findings_of_files, findings_of_sameness

_SMALL_ROI = 0.05  # share of the image's pixels


@dataclass
class AreaFigures:
    """What a check finds in an image's mask and ROI."""

    pixels: list[int] | None = None
    """Good and defective ones inside the ROI; None where they are not known."""
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    empty_mask: str = ""
    """What there is to say of a mask that marks nothing."""
    mask: str = ""
    """The path of the mask, once it was read and fits."""
    marked: int = 0
    """Pixels that the mask marks, inside the ROI and outside."""
    size: int = 0
    """Pixels of the image."""
    digest: bytes = b""
    """The same for masks that mark the same pixels."""
    oddities: dict[str, dict[str, set[Oddity]]] = field(default_factory=dict)
    """What is odd about how files are stored: by ``mask`` or ``roi``, then by path."""


def findings_of_areas(figures: Collection[AreaFigures]) -> list[Finding]:
    """Returns what is implausible about the masks and ROIs of a split.

    Args:
        figures: Of each image; what has a fault is passed over.
    """
    found = []
    for what in ("mask", "roi"):
        odd = {path: o for f in figures for path, o in f.oddities.get(what, {}).items()}
        found += findings_of_files(odd, what)
    masks = [f for f in figures if f.mask and f.marked]
    large = [f.mask for f in masks if 2 * f.marked > f.size]
    if 2 * len(large) > len(masks):
        text = (
            f"{len(large)} of {len(masks)} masks mark more than half of their image: are black and "
            "white the wrong way round?"
        )
        found.append(Finding(WARNING, text, large))
    found += findings_of_sameness([f.digest for f in masks])
    return found + _of_rois(figures, masks)


def _of_rois(figures: Collection[AreaFigures], masks: list[AreaFigures]) -> list[Finding]:
    with_roi = [f for f in figures if f.pixels and f.oddities.get("roi")]
    if not with_roi:
        return []
    share = sum(sum(f.pixels) for f in with_roi) / sum(f.size for f in with_roi)
    level = WARNING if share < _SMALL_ROI else NOTE
    found = [Finding(level, f"{share:.1%} of the pixels lie inside the ROI, and count")]
    if masks and not any(f.pixels[1] for f in masks):
        text = (
            "not one of the defective pixels lies inside the ROI: are black and white the wrong "
            "way round in it?"
        )
        found.append(Finding(WARNING, text, [f.mask for f in masks]))
    return found
