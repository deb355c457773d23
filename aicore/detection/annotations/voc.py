"""Pascal VOC's XML files, one for each image (Everingham et al., 2010).

Coordinates are taken for the edges of the box in pixels, as they stand: ``xmin`` 10 and ``xmax``
30 make a box of 20 pixels. So the labelling tools of today write and read them, with decimals too,
and a click without a drag (``xmin`` = ``xmax``) is found as a box without width. The development
kit of VOC itself counts pixels from 1 and includes ``xmax``; its own boxes are therefore read
without their first column and row of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from tqdm import tqdm

from aicore.datasets.files import read_labels
from aicore.detection.annotations.boxes import AnnotatedImage, Annotations, Box, to_corners
from aicore.detection.annotations.layout import Layout

SUFFIX = ".xml"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read(layout: Layout) -> Annotations:
    """Reads the XML file of each image, found by the image's own name.

    The classes are the lines of ``labels.txt`` in the root, else all names that occur, sorted.
    """
    paths = layout.find_images()
    images = [
        _read_image(path, layout.annotation_of(path, SUFFIX))
        for path in tqdm(paths, "annotations", unit="file", disable=None, leave=False)
    ]
    annotations = Annotations(layout.source, (), images, "object")
    annotations.classes = declared_classes(layout.root) or tuple(annotations.names())
    return annotations


def declared_classes(root: Path) -> tuple[str, ...]:
    """Returns the lines of ``labels.txt`` in a folder; nothing if there is none."""
    file = root / "labels.txt"
    return tuple(read_labels(file, "")) if file.is_file() else ()


def _read_image(path: Path, file: Path) -> AnnotatedImage:
    if not file.is_file():
        return AnnotatedImage(path, source=file, missing=True)
    image = AnnotatedImage(path, source=file)
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        image.fault = f"{file} is no XML file that can be read: {error}"
        return image
    image.size = _size(root)
    image.boxes = [_box(number, item) for number, item in enumerate(root.findall("object"), 1)]
    name = (root.findtext("filename") or "").strip()
    if name and PurePosixPath(name.replace("\\", "/")).name != path.name:
        image.notes.append(f"{file}: its <filename> is {name!r}, but its image is {path.name!r}")
    return image


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    texts = [root.findtext(f"size/{side}", "") for side in ("height", "width")]
    try:
        height, width = (float(text) for text in texts)
    except ValueError:
        return None
    known = math.isfinite(height + width) and height >= 1 and width >= 1
    return (int(height), int(width)) if known else None


def _box(number: int, item: ElementTree.Element) -> Box:
    label = (item.findtext("name") or "").strip()
    if not label:
        return Box(number, "", fault="has no <name>")
    if item.find("bndbox") is None:
        return Box(number, label, fault="has no <bndbox>")
    try:
        corners = to_corners([item.findtext(f"bndbox/{edge}") for edge in _EDGES])
    except ValueError as error:
        return Box(number, label, fault=str(error))
    return Box(number, label, corners, (item.findtext("difficult") or "").strip() == "1")


def write(file: Path, image: AnnotatedImage, classes: Sequence[str]) -> None:
    """Writes the XML file of an image with its size and sound boxes; coordinates keep decimals."""
    height, width = image.size  # type: ignore[misc]
    root = ElementTree.Element("annotation")
    _add(root, folder=image.path.parent.name, filename=image.path.name)
    _add(ElementTree.SubElement(root, "size"), width=width, height=height)
    _add(root, segmented=0)
    for box in image.boxes:
        item = ElementTree.SubElement(root, "object")
        _add(item, name=box.label, pose="Unspecified", truncated=0, difficult=int(box.ignored))
        edges = (format(value, ".10g") for value in box.corners)
        _add(ElementTree.SubElement(item, "bndbox"), **dict(zip(_EDGES, edges, strict=True)))
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(file, encoding="utf-8")


def _add(parent: ElementTree.Element, **texts: object) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = str(text)
