"""Pascal VOC's XML files, one for each image (Everingham et al., 2010).

Coordinates are taken for the edges of the box in pixels, as they stand: ``xmin`` 10 and ``xmax``
30 make a box of 20 pixels. So the labelling tools of today write and read them, with decimals too,
and a click without a drag (``xmin`` = ``xmax``) is found as a box without width. The development
kit of VOC itself counts pixels from 1 and includes ``xmax``; its own boxes are therefore read
without their first column and row of pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from aicore.datasets.annotations import LABELME_BACKGROUND, as_bool, stated_size
from aicore.datasets.files import read_labels, read_text
from aicore.detection.annotations.boxes import (
    AnnotatedImage,
    Annotations,
    Box,
    read_each,
    to_corners,
)
from aicore.detection.annotations.layout import Layout
from aicore.errors import DataError

SUFFIX = ".xml"
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_HEADER = {"folder", "filename", "path", "source", "owner", "size", "segmented"}
_FOUR_NUMBERS = re.compile(r"(?:-?\d+(?:\.\d+)?[\s,;]+){3}-?\d")
_OTHER_SHAPES = {"polygon", "robndbox", "points"}


def read(layout: Layout) -> Annotations:
    """Reads the XML file of each image, found by the image's own name.

    The classes are the lines of ``labels.txt`` in the root, else all names that occur, sorted.
    Tags count without their namespace and case, objects at any depth. A file that holds something,
    but no object, is faulty.
    """
    images = [
        AnnotatedImage(path, source=layout.annotation_of(path, SUFFIX))
        for path in layout.find_images()
    ]
    annotations = Annotations(layout.source, (), read_each(images, _read_image), "object")
    annotations.classes = declared_classes(layout.root) or tuple(annotations.names())
    return annotations


def declared_classes(root: Path) -> tuple[str, ...]:
    """Returns the lines of ``labels.txt`` in a folder; nothing if there is none."""
    file = root / "labels.txt"
    names = read_labels(file, "") if file.is_file() else ()
    return tuple(name for name in names if name != LABELME_BACKGROUND)


def _read_image(image: AnnotatedImage) -> None:
    root = _parse(image.source)
    image.size = _size(root)
    # Some tools have an <object> around all objects.
    objects = [
        item
        for item in root.iter("object")
        if _holds_something(item)
        and (item.find("name") is not None or next(item.iterfind(".//object"), None) is None)
    ]
    image.boxes = [_box(number, item) for number, item in enumerate(objects, 1)]
    passed_over, unknown = _passed_over(root)
    image.remarks += [f"<{tag}>, which is not known" for tag in unknown]
    if passed_over and not objects:
        raise DataError(
            f"nothing in {str(image.source)!r} is known, which holds {', '.join(passed_over)}: "
            "expected <object> with <name> and <bndbox>."
        )
    if passed_over:
        image.notes.append(f"{image.source}: not read are {', '.join(passed_over)}")
    name = (root.findtext("filename") or "").strip()
    if PurePosixPath(name.replace("\\", "/")).name not in ("", image.path.name, image.path.stem):
        image.notes.append(
            f"{image.source}: its <filename> is {name!r}, but its image is {image.path.name!r}"
        )


def _parse(file: Path) -> ElementTree.Element:
    """Returns the root of an XML file, its tags in lower case and without a namespace."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error.strerror}.") from error
    if b"<!ENTITY" in content.replace(b"\0", b""):  # also in UTF-16
        raise DataError(f"{str(file)!r} declares entities of its own, which are not read.")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        read_text(file)  # the encoding is most often what is wrong
        raise DataError(f"{str(file)!r} is no XML file that can be read: {error}.") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2].lower()
    return root


def _holds_something(element: ElementTree.Element) -> bool:
    return bool(len(element) or element.attrib or (element.text or "").strip())


def _passed_over(root: ElementTree.Element) -> tuple[list[str], list[str]]:
    """Returns the tags that may hold objects, but none that is known; and other unknown tags.

    A text alone (a time, a tool's version) is no object, unless its tag or its numbers say so.
    """
    if root.tag != "annotation" and next(root.iter("object"), None) is None:
        return [f"<{root.tag}>"], []
    unknown = [
        child
        for child in root
        if child.tag not in _HEADER
        and next(child.iter("object"), None) is None
        and _holds_something(child)
    ]
    may_hold = [
        child
        for child in unknown
        if len(child) or child.attrib or "object" in child.tag or _FOUR_NUMBERS.search(child.text)
    ]
    others = [child.tag for child in unknown if child not in may_hold]
    return [f"<{child.tag}>" for child in may_hold], others


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    texts = [root.findtext(f".//size/{side}", "") for side in ("height", "width")]
    try:
        return stated_size(*map(float, texts))
    except ValueError:
        return None


def _box(number: int, item: ElementTree.Element) -> Box:
    label = ""
    try:
        label = (_only(item, "name").text or "").strip()
        if not label:
            raise ValueError("has no <name>")
        edges = _only(item, "bndbox")
        corners = to_corners([edges.findtext(edge) for edge in _EDGES])
    except ValueError as error:
        return Box(number, label, fault=str(error))
    try:
        return Box(number, label, corners, as_bool(item.findtext("difficult")))
    except ValueError as error:
        return Box(number, label, fault=f"its <difficult> {error}")


def _only(item: ElementTree.Element, tag: str) -> ElementTree.Element:
    """Returns the one child of a tag.

    Raises:
        ValueError: There is none or there are several; the message is a clause.
    """
    found = item.findall(tag)
    if len(found) > 1:
        raise ValueError(f"has {len(found)} <{tag}>")
    if not found:
        others = [f"<{child.tag}>" for child in item if child.tag in _OTHER_SHAPES]
        raise ValueError(f"has no <{tag}>" + (f", only {', '.join(others)}" if others else ""))
    return found[0]


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
