"""The formats by their names, and the layouts they usually come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aicore.datasets.headers import image_sizes
from aicore.detection.annotations import coco, labelme, voc, yolo
from aicore.detection.annotations.boxes import Annotations
from aicore.detection.annotations.layout import Layout


class Format(NamedTuple):
    """A format of annotation files."""

    read: Callable[[Layout], Annotations]
    images: str
    """Where the images usually lie."""
    annotations: str
    """Where the annotations usually lie."""
    suffix: str = ""
    """Of the annotation file of each image; empty where one file is for all."""


FORMATS = {
    "coco": Format(coco.read, "images/{split}", "annotations/{split}.json"),
    "voc": Format(voc.read, "JPEGImages", "Annotations/{path}.xml", voc.SUFFIX),
    "yolo": Format(yolo.read, "images", "labels/{path}.txt", yolo.SUFFIX),
    "labelme": Format(labelme.read, "", "{path}.json", labelme.SUFFIX),
}


def read_annotations(name: str, layout: Layout) -> Annotations:
    """Reads the annotations of a split; sizes that no file states come from the images' headers.

    Args:
        name: One of :data:`FORMATS`.
        layout: Where its files lie.

    Raises:
        DataError: There are no images or class names, or a file for the whole split is wrong.
    """
    return with_sizes(FORMATS[name].read(layout))


def with_sizes(annotations: Annotations) -> Annotations:
    """Looks up the sizes of images that no file states; None stays where an image is unreadable."""
    open_images = [image for image in annotations.images if image.size is None]
    if open_images:
        sizes = image_sizes([image.path for image in open_images])
        for image, size in zip(open_images, sizes, strict=True):
            image.size = size
    return annotations
