"""Boxes from one format of annotation files to another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from aicore.datasets.annotations import agreed_size
from aicore.datasets.conversion import (
    Summary,
    choose_classes,
    refuse_reserved_name,
    refuse_to_overwrite,
    relative_path,
    write_lines,
    write_whole,
)
from aicore.datasets.findings import NOTE
from aicore.datasets.headers import image_sizes
from aicore.detection.annotations import (
    AnnotatedImage,
    Annotations,
    clip,
    coco,
    fault_of,
    voc,
    yolo,
)
from aicore.detection.plausibility import findings_of
from aicore.errors import DataError
from aicore.runtime.files import why_no_file

_CLIPPED = 1.0  # pixels outside the image up to which a box is clipped without a word


def convert_boxes(
    annotations: Annotations,
    target: str,
    root: Path,
    out: Path,
    name: str,
    classes: Sequence[str] | None = None,
) -> tuple[Summary, dict[str, str]]:
    """Writes boxes in another format, in the layout that :class:`aicore.DetectionDataset` reads.

    ``coco``: ``annotations/<name>.json``. ``voc``: ``Annotations/<path>.xml``, a list of the images
    ``ImageSets/Main/<name>.txt``, and the classes in ``labels.txt``. ``yolo``:
    ``labels/<path>.txt``, a list of the images ``<name>.txt``, and the classes in ``data.yaml``.
    Images stay where they are; those without boxes are in the result, too. Boxes are cut at the
    border of their image. What cannot be used is left out, with its reason.

    Args:
        annotations: As a reader of :mod:`aicore.detection.annotations` returns them.
        target: ``coco``, ``voc`` or ``yolo``.
        root: Folder that the paths of the result are relative to; the images lie below it.
        out: Folder to write into.
        name: Of the split, e.g. ``train``.
        classes: Names to take, in their order; default: all.

    Returns:
        What was written and left out; and the settings of a config that reads it.

    Raises:
        DataError: ``out`` holds files of this name already; an image is not below ``root``, or
            listed twice; a name cannot stand in a list; or nothing is left to convert.
    """
    summary = Summary("boxes", "without any box")
    known = choose_classes(classes, annotations.classes, annotations.source)
    for reason, place in annotations.faults:
        summary.drop(reason, place)
    if not annotations.images:
        raise DataError(f"{str(annotations.source)!r} names no image: there is nothing to convert.")
    images, sized = [], []
    sizes = image_sizes([image.path for image in annotations.images])
    for image, size in zip(annotations.images, sizes, strict=True):
        if image.fault:
            summary.drop("its annotation file cannot be read", f"{image.path} ({image.fault})")
            continue
        try:
            image = replace(image, size=agreed_size(image.size, size))
        except ValueError as error:
            summary.drop(str(error), str(image.path))
            continue
        if why_no_file(image.path):
            summary.change("the image file does not exist (see --images)", str(image.path))
        sized.append(image)
        images.append(_sound(image, annotations, known, target, summary))
    paths = [relative_path(image.path, root) for image in images]
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{str(annotations.source)!r}: {twice} is listed twice: leave one of them.")
    summary.areas = dict.fromkeys(known, 0)
    for image in images:
        summary.images += 1
        summary.empty += not image.boxes
        for box in image.boxes:
            summary.areas[box.label] += 1
    summary.refuse_nothing()
    implausible = findings_of(replace(annotations, images=sized), tuple(known))
    summary.warnings = [finding.text for finding in implausible if finding.level != NOTE]
    settings = _WRITERS[target](images, paths, known, out, name)
    data = {"data_root": out.resolve().as_posix(), "images": root.resolve().as_posix()}
    return summary, {"annotation_format": target, **data, **settings}


def _sound(
    image: AnnotatedImage,
    annotations: Annotations,
    classes: Sequence[str],
    target: str,
    summary: Summary,
) -> AnnotatedImage:
    """Returns an image with the boxes that can be written."""
    if image.missing:
        what = "no annotation file: taken for an image without objects"
        summary.change(what, str(image.path))
    for remark in image.remarks:
        summary.drop(remark, str(image.source), wanted=False)
    boxes = []
    for box in image.boxes:
        place = annotations.place(image, box)
        fault = fault_of(box, image.size)
        labels = [label for label in box.labels(classes) if label in classes]
        if fault:
            summary.drop(fault, place)
        elif not labels:
            summary.drop(f"class {box.label!r} is not asked for", place, wanted=False)
        elif box.ignored and target == "yolo":
            summary.drop("is to be ignored, which YOLO's files cannot say", place)
        else:
            corners, outside = clip(box.corners, image.size)
            if outside > _CLIPPED:
                summary.change("cut at the border of the image", place)
            boxes += [box._replace(label=label, corners=corners) for label in labels]
    return replace(image, boxes=boxes)


def _write_coco(
    images: list[AnnotatedImage], paths: list[str], classes: list[str], out: Path, name: str
) -> dict[str, str]:
    file = f"annotations/{name}.json"
    refuse_to_overwrite([out / file], {})
    with write_whole(out) as folder:
        coco.write(folder / file, images, paths, classes)
    return {"annotations": "annotations/{split}.json", "train": name}


def _write_voc(
    images: list[AnnotatedImage], paths: list[str], classes: list[str], out: Path, name: str
) -> dict[str, str]:
    stems = [PurePosixPath(path).with_suffix("").as_posix() for path in paths]
    files = [f"Annotations/{stem}{voc.SUFFIX}" for stem in stems]
    split = f"ImageSets/Main/{name}.txt"
    _write_each(images, files, {"labels.txt": classes, split: stems}, out, classes, voc.write)
    return {"annotations": f"Annotations/{{path}}{voc.SUFFIX}", "train": split}


def _write_yolo(
    images: list[AnnotatedImage], paths: list[str], classes: list[str], out: Path, name: str
) -> dict[str, str]:
    refuse_reserved_name(name)
    files = [f"labels/{PurePosixPath(path).with_suffix(yolo.SUFFIX)}" for path in paths]
    split = f"{name}.txt"
    lists = {yolo.NAMES_FILE: yolo.names_lines(classes), split: paths}
    _write_each(images, files, lists, out, classes, yolo.write)
    return {"annotations": f"labels/{{path}}{yolo.SUFFIX}", "train": split}


def _write_each(
    images: list[AnnotatedImage],
    files: list[str],
    lists: dict[str, list[str]],
    out: Path,
    classes: list[str],
    write: Callable[[Path, AnnotatedImage, Sequence[str]], None],
) -> None:
    """Writes a file for each image, and the lists; nothing if one of them is there already."""
    there = {out / name: lines for name, lines in lists.items()}
    refuse_to_overwrite([out / file for file in files], there, "annotations")
    with write_whole(out) as folder:
        bar = tqdm(images, "annotations", unit="image", disable=None)
        for image, name in zip(bar, files, strict=True):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            write(file, image, classes)
        for name, lines in lists.items():
            write_lines(folder / name, lines)


_WRITERS = {"coco": _write_coco, "voc": _write_voc, "yolo": _write_yolo}
