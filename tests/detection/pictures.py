"""Grey pictures with rectangles whose colours tell where their boxes should be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from aicore.errors import ImageError
from aicore.registry import TRANSFORMS

COLOURS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 0)]  # one for each label; BGR
GREY = 60
KEYS = ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags")


def example(label: int, channels: int = 3, dtype: type = np.uint8, size=(60, 80)) -> dict:
    """A grey image with one rectangle in the colour of its label; white with one channel."""
    image = np.full((*size, channels), GREY, dtype)
    x1, y1, x2, y2 = box = [12 + label, 8 + label, 55, 40]
    image[y1:y2, x1:x2] = COLOURS[label] if channels == 3 else 255
    return {
        "img": image if channels == 3 else image[..., 0],
        "gt_bboxes": np.array([box], np.float32),
        "gt_bboxes_labels": np.array([label]),
        "gt_ignore_flags": np.array([label == 3]),
    }


def plain(size=(60, 80), channels: int = 3) -> dict:
    """A grey image without any box."""
    record = example(0, channels, size=size)
    record["img"][:] = GREY
    return {**record, **{key: record[key][:0] for key in KEYS}}


def coloured(image: np.ndarray, label: int) -> np.ndarray:
    """The pixels in the colour of a label, also where they are blended with grey."""
    if image.ndim == 2:
        return image > 180
    blue, green, red = np.moveaxis(image.astype(int), 2, 0)
    return [
        red - np.maximum(blue, green),
        green - np.maximum(blue, red),
        blue - np.maximum(green, red),
        np.minimum(blue, green) - red,
    ][label] > 60


def bounds(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


@TRANSFORMS.register_module()
class MakeExample(BaseTransform):
    """Stands for reading: a record's number says which image; from ``boxed`` on without boxes."""

    loaded = 0

    def __init__(self, channels: int = 3, boxed: int = 10_000) -> None:
        self.channels = channels
        self.boxed = boxed

    def transform(self, results: dict) -> dict:
        if results.get("broken"):
            raise ImageError("broken.png", "it is empty")
        MakeExample.loaded += 1
        number = results["number"]
        if number >= self.boxed:
            return {**results, **plain(channels=self.channels)}
        record = example(number % 4, self.channels)
        for _ in range(number % 3):  # up to two boxes more
            for key in KEYS:
                record[key] = np.concatenate([record[key], record[key][:1]])
        record["gt_bboxes_labels"][:] = number
        return {**results, **record}


LOAD = [dict(type="aicore.MakeExample")]


def samples(pipeline: Compose, epochs: int, images: int = 12, seed: int = 0) -> Iterator[dict]:
    """What a pipeline makes of shuffled images, seeded for each sample as in a training."""
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        for number in order.permutation(images).tolist():
            np.random.seed([seed, epoch, number])
            draw_another = {"draw_another": lambda: {"number": np.random.randint(images)}}
            yield pipeline({"number": number, **draw_another})
