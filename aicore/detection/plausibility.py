"""What is implausible in the boxes of a data set, though each of them can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from aicore.datasets.findings import ERROR, NOTE, WARNING, Finding
from aicore.detection.annotations import AnnotatedImage, Annotations, Box, clip, fault_of

_SMALLEST = 2.0  # pixels of the network's input, below which nothing is left of a box to learn
_WHOLE = 0.999  # share of an image's width and height from which a box covers it
_MANY = 0.1  # share of the boxes from which something odd is a warning
_MOST_CASES = 1000  # of a finding; workers get a copy of all


class _Sound(NamedTuple):
    """A box without a fault."""

    place: str
    image: AnnotatedImage
    box: Box
    width: float
    """Within the image, in pixels."""
    height: float


def findings_of(
    annotations: Annotations,
    classes: tuple[str, ...],
    input_size: tuple[int, int] | None = None,
    training: bool = True,
) -> list[Finding]:
    """Returns what is implausible in the boxes of a split, and what is worth knowing of them.

    Args:
        annotations: With the sizes of the images.
        classes: Names of the classes that are used; other boxes are not looked at.
        input_size: Height and width of the network's input in pixels, into which images are
            fitted; None: they are not resized.
        training: Whether the boxes are to be learned.
    """
    boxes = list(_sound_boxes(annotations, classes))
    objects = [sound for sound in boxes if not sound.box.ignored]
    return [
        *_remarks(annotations),
        *_ignored(boxes, objects, training),
        *_small(objects, input_size),
        *_covering(objects),
        *_repeated(boxes),
        *_corners_as_sizes(annotations, boxes),
    ]


def _sound_boxes(annotations: Annotations, classes: tuple[str, ...]) -> Iterator[_Sound]:
    known = {*classes, ""}
    for image in annotations.images:
        for box in image.boxes:
            if box.label in known and not fault_of(box, image.size):
                (left, top, right, bottom), _ = clip(box.corners, image.size)
                place = annotations.place(image, box)
                yield _Sound(place, image, box, right - left, bottom - top)


def _finding(level: str, text: str, boxes: list[_Sound]) -> Finding:
    return Finding(level, text, [sound.place for sound in boxes[:_MOST_CASES]])


def _remarks(annotations: Annotations) -> Iterator[Finding]:
    places: dict[str, list[str]] = {}
    for image in annotations.images:
        for remark in image.remarks:
            places.setdefault(remark, []).append(str(image.source))
    for remark, files in places.items():
        yield Finding(NOTE, f"{remark}: {len(files)}", files[:_MOST_CASES])


def _ignored(boxes: list[_Sound], objects: list[_Sound], training: bool) -> Iterator[Finding]:
    ignored = [sound for sound in boxes if sound.box.ignored]
    marks = "marked to be ignored (iscrowd, difficult, __ignore__)"
    if ignored and not objects:
        level = ERROR if training else WARNING
        what = "learn" if training else "evaluate"
        yield _finding(level, f"all {len(boxes)} boxes are {marks}: nothing to {what}", ignored)
    elif ignored:
        share = f"{_of(ignored, boxes)} ({len(ignored) / len(boxes):.0%})"
        yield _finding(NOTE, f"boxes {marks}: {share}", ignored)


def _small(objects: list[_Sound], input_size: tuple[int, int] | None) -> Iterator[Finding]:
    if not objects:
        return
    by_area = sorted(objects, key=lambda sound: sound.width * sound.height)
    smallest, largest = by_area[0], by_area[-1]
    text = f"boxes from {_extent(smallest)} to {_extent(largest)} pixels (width x height)"
    if input_size:
        scales = [_scale(sound.image, input_size) for sound in (smallest, largest)]
        text += (
            f"; in the network's input, {input_size[1]} x {input_size[0]}, from "
            f"{_extent(smallest, scales[0])} to {_extent(largest, scales[1])}"
        )
    yield _finding(NOTE, text, [smallest, largest])
    below = [sound for sound in objects if min(sound.width, sound.height) < 1]
    if below:
        yield _finding(
            ERROR if len(below) == len(objects) else WARNING,
            f"boxes narrower or lower than a pixel: {_of(below, objects)}; are they in shares of "
            "the image?",
            below,
        )
    lost = [
        sound
        for sound in objects
        if min(sound.width, sound.height) >= 1
        and input_size
        and min(sound.width, sound.height) * _scale(sound.image, input_size) < _SMALLEST
    ]
    if lost:
        yield _finding(
            WARNING if len(lost) > _MANY * len(objects) else NOTE,
            f"boxes narrower or lower than {_SMALLEST:g} pixels in the network's input: "
            f"{_of(lost, objects)}; raise image_size, or set tile_size",
            lost,
        )


def _covering(objects: list[_Sound]) -> Iterator[Finding]:
    covering = [
        sound
        for sound in objects
        if sound.image.size
        and sound.height >= _WHOLE * sound.image.size[0]
        and sound.width >= _WHOLE * sound.image.size[1]
    ]
    if covering:
        level = WARNING if len(covering) > _MANY * len(objects) else NOTE
        yield _finding(level, f"boxes that cover their image: {_of(covering, objects)}", covering)


def _repeated(boxes: list[_Sound]) -> Iterator[Finding]:
    """Finds boxes that stand twice: one prediction can find only one of them."""
    counts = Counter(map(_identity, boxes))
    first = {_identity(sound): sound for sound in reversed(boxes)}
    twice = [sound for key, sound in first.items() if counts[key] > 1][::-1]
    if twice:
        yield _finding(
            WARNING,
            f"boxes that stand twice or more: {len(twice)}; remove the repeated ones",
            twice,
        )


def _identity(sound: _Sound) -> tuple:
    corners = (round(edge, 3) for edge in sound.box.corners)
    return id(sound.image), sound.box.label, *corners


def _corners_as_sizes(annotations: Annotations, boxes: list[_Sound]) -> Iterator[Finding]:
    """Finds boxes of left, top, right, bottom edge in a file that should hold width and height."""
    if not annotations.has_widths:
        return
    outside = []
    for sound in boxes:
        left, top, right, bottom = sound.box.corners
        if sound.image.size is None:
            continue
        height, width = sound.image.size
        if not (left < right - left <= width and top < bottom - top <= height):
            return  # as edges they would be no box
        if right > width + 1 or bottom > height + 1:
            outside.append(sound)
    if outside:
        yield _finding(
            WARNING,
            f"boxes that reach beyond their image: {_of(outside, boxes)}; read as x1, y1, x2, y2 "
            "all would fit, but expected are x, y, width, height",
            outside,
        )


def _of(some: list[_Sound], boxes: list[_Sound]) -> str:
    return f"{len(some)} of {len(boxes)}"


def _extent(sound: _Sound, scale: float = 1.0) -> str:
    return f"{sound.width * scale:.3g} x {sound.height * scale:.3g}"


def _scale(image: AnnotatedImage, input_size: tuple[int, int]) -> float:
    """Returns the pixels of the network's input over those of the image."""
    if image.size is None:
        return 1.0
    return min(side / own for side, own in zip(input_size, image.size, strict=True))
