"""One picture of the sample data with its labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aicore.datasets.sample.defects import add_defects
from aicore.datasets.sample.drawing import Scene, light_picture, machine_part
from aicore.errors import DataError, did_you_mean

CLASSES = ("good", "scratch", "spot", "dent")
DEFECTS = CLASSES[1:]
_CLASS_CYCLE = ("good", "scratch", "good", "spot", "dent")
_SIZES = (64, 2048)
_SCRATCH_WIDTHS = (0.5, 5.0)


@dataclass(frozen=True)
class Part:
    """A picture of a part and what is wrong with it.

    Attributes:
        image: (H, W) grey or (H, W, 3) BGR, 0..255.
        label: the part's class, one of ``CLASSES``; all its defects are of this class.
        masks: (N, H, W) of 0 and 255, the pixels that each defect touches; N is 0 for ``good``.
    """

    image: NDArray[np.uint8]
    label: str
    masks: NDArray[np.uint8]

    @property
    def mask(self) -> NDArray[np.uint8]:
        """All defects in one mask, (H, W) of 0 and 255."""
        return self.masks.max(axis=0, initial=0)

    @property
    def boxes(self) -> NDArray[np.int32]:
        """Each defect's tight box, (N, 4) of x, y, width, height in whole pixels."""
        boxes = [cv2.boundingRect(mask) for mask in self.masks]
        return np.array(boxes, np.int32).reshape(-1, 4)


def class_of(index: int) -> str:
    """Returns a picture's class: of any five in a row two are good and one is of each defect."""
    return _CLASS_CYCLE[index % len(_CLASS_CYCLE)]


def draw_part(
    seed: int,
    index: int,
    size: int = 128,
    channels: int = 3,
    label: str | None = None,
    scratch_width: float = 1.0,
) -> Part:
    """Draws one machined part: a turned disc on a conveyor belt.

    Position, light, texture and noise differ from picture to picture. The picture follows from
    the arguments alone, however many are drawn and in whichever order; another size shows the
    same scene.

    Args:
        seed: which data set, 0 or more.
        index: which picture of it, 0 or more.
        size: side of the square picture in pixels, 64 to 2048.
        channels: 1 for grey, 3 for colour.
        label: class to draw; None for the one that belongs to ``index``. The same part without
            its defect is the one drawn with ``good``.
        scratch_width: factor on the width of scratches, 0.5 to 5; 1 is 1.5 to 3 pixels of 128.

    Raises:
        DataError: an argument is outside its range.

    Example:
        >>> part = draw_part(seed=0, index=1)
        >>> part.label, part.image.shape, bool(part.mask.any())
        ('scratch', (128, 128, 3), True)
    """
    label = class_of(index) if label is None else label
    _check_arguments(seed, index, size, channels, label, scratch_width)
    scene_random, defect_random, camera_random = np.random.default_rng((seed, index)).spawn(3)
    scene = Scene.random(scene_random)
    surface = machine_part(scene, size, scene_random)
    masks: NDArray[np.uint8] = np.zeros((0, size, size), np.uint8)
    if label in DEFECTS:
        masks = add_defects(surface, label, defect_random, scratch_width)
    image = light_picture(scene, surface, size, camera_random)
    if channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
    return Part(image, label, masks)


def _check_arguments(
    seed: int, index: int, size: int, channels: int, label: str, scratch_width: float
) -> None:
    """Raises a DataError for an argument of :func:`draw_part` that is outside its range."""
    if seed < 0 or index < 0:
        raise DataError(f"Sample data: seed {seed} and index {index} must be 0 or more.")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise DataError(
            f"Sample data: size {size} is out of range; give {_SIZES[0]} to {_SIZES[1]} pixels."
        )
    if not _SCRATCH_WIDTHS[0] <= scratch_width <= _SCRATCH_WIDTHS[1]:
        raise DataError(
            f"Sample data: scratch_width {scratch_width} is out of range; give "
            f"{_SCRATCH_WIDTHS[0]} to {_SCRATCH_WIDTHS[1]} times the usual width."
        )
    if channels not in (1, 3):
        raise DataError(f"Sample data: channels is {channels}; give 1 (grey) or 3 (colour).")
    if label not in CLASSES:
        raise DataError(
            f"Sample data: no class {label!r}; there are {', '.join(CLASSES)}."
            + did_you_mean(label, CLASSES)
        )
