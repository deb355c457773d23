"""Bringing an image to a network's input size.

Training, evaluation, demo and the exported model use the same function, so that all of them see
the same pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

PADDING = 114
"""Grey value around an image that does not fill the input, as in YOLOX's released weights."""


def letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """Resizes an image to fit into ``size``, and pads it at the bottom or at the right.

    Args:
        image: HxW or HxWx3; uint8, or float32 on the scale 0 to 255.
        size: Height and width of the result, in pixels.

    Returns:
        The image of exactly ``size``, in its type, and the scale in x and in y: pixels of the
        result (without the padding) over pixels of the image. Both are alike but for rounding to
        whole pixels. An image that has the size already comes back as it is.
    """
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    fitting = max(1, round(height * scale)), max(1, round(width * scale))
    below, beside = size[0] - fitting[0], size[1] - fitting[1]
    image = resize(image, fitting)
    if below or beside:
        image = cv2.copyMakeBorder(
            image, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=[PADDING] * 3
        )
    return image, (fitting[1] / width, fitting[0] / height)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image, linearly; below half its size by the mean of the pixels that fall together.

    Linear interpolation looks at four pixels alone: of an image shrunk below half it would leave
    pixels out, and with them small defects.

    Args:
        image: HxW or HxWx3; uint8 or float32.
        size: Height and width of the result, in pixels.
    """
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    is_small = size[0] * size[1] < height * width / 4
    interpolation = cv2.INTER_AREA if is_small else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=interpolation)


def stretch(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image whatever its shape: no pixel is left out, and with it no small defect.

    A side that shrinks does so by the mean of the pixels that fall together, one that grows does
    so linearly. OpenCV takes means only where both sides shrink.

    Args:
        image: HxW or HxWx3; uint8 or float32.
        size: Height and width of the result, in pixels.
    """
    smaller = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    steps = ((smaller, cv2.INTER_AREA), (tuple(size), cv2.INTER_LINEAR))
    for (height, width), interpolation in steps:
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=interpolation)
    return image
