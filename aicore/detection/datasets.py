"""Object detection data: images with boxes, as COCO, Pascal VOC, YOLO or labelme write them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.base_det_dataset import BaseDetDataset

from aicore.datasets.annotations import wrong_size
from aicore.datasets.base import InspectionDataset, require_images, unique_classes
from aicore.datasets.files import join_path
from aicore.datasets.findings import Finding
from aicore.datasets.headers import image_sizes
from aicore.detection.annotations import (
    FORMATS,
    AnnotatedImage,
    Annotations,
    Box,
    Layout,
    clip,
    fault_of,
    read_annotations,
)
from aicore.detection.annotations.boxes import describe
from aicore.detection.plausibility import findings_of
from aicore.errors import ConfigError, DataError, did_you_mean
from aicore.registry import DATASETS

_SHOWN = 20  # class names in a message
_CLIPPED = 1.0  # pixels outside the image up to which a box is clipped without a word


@DATASETS.register_module()
class DetectionDataset(InspectionDataset, BaseDetDataset):
    """Boxes of one split.

    ``split`` names it. With ``coco`` it stands in the paths of the annotation file and the folder
    of images. Else it is a folder below ``data_root/images``, read to its depth, or a list file
    (``.txt``) below ``data_root``: one image a line, its path relative to ``images``, with or
    without its suffix. Then every image has an annotation file of its own name; one that has none
    counts as an image without objects, and is noted.

    The classes are ``metainfo['classes']``, else those of the annotations: COCO's categories in
    the order of their ids; the names of YOLO's ``data.yaml``, ``labels.txt`` or ``classes.txt``;
    for VOC and labelme the lines of ``labels.txt`` in ``data_root``, else the names that occur in
    the split, sorted.

    A record is ``{'img_path', 'img_id', 'height', 'width', 'instances'}``, an instance
    ``{'bbox': [x1, y1, x2, y2], 'bbox_label', 'ignore_flag'}`` in pixels: ``x2 - x1`` is the width
    of the box. Boxes are cut at the image's border. COCO's ``iscrowd`` and VOC's ``difficult`` set
    ``ignore_flag``, as does labelme's ``__ignore__``, in every class. Images without boxes are
    kept. In training, while samples are mixed, a record holds ``draw_another`` too, which returns
    the record of an image drawn at random.

    Args:
        split: Name of the split, a folder, or a list file.
        data_root: Folder that all paths are relative to.
        images: Folder of the images; ``{split}`` stands for the split. Default: as usual for the
            format, see :data:`aicore.detection.annotations.FORMATS`.
        annotations: Where the annotations lie, with ``{split}``, and for files of single images
            ``{path}`` (the image's path without suffix) or ``{folder}`` and ``{name}``. Likewise.
        annotation_format: ``coco``, ``voc``, ``yolo`` or ``labelme``.
        faults: What becomes of a box that cannot be used (unknown class, inverted, no width or
            height, wholly outside the image, not readable): ``stop`` lets the check of the data
            stop the training, and any use of the image stop with its sentence; ``drop`` leaves it
            out and notes it. An image whose file cannot be read as a whole is left out likewise.
        metainfo: ``dict(classes=(...))`` in the order of the model's outputs; or None.
        input_size: Height and width of the network's input in pixels, which images are fitted into:
            boxes that are too small in it are told. None: images keep their size.
        lazy_init: Whether to read the class names only.
        **kwargs: Further arguments of :class:`mmdet.datasets.BaseDetDataset`.

    Raises:
        DataError: There are no images or classes; a file for the whole split is wrong; no box is
            of a class that is asked for; for training there is no box at all.
        ConfigError: An argument is wrong.
    """

    mosaic_epochs: int | None = None
    """Epochs from the beginning in which samples are mixed; None: all. Set by the
    :class:`aicore.detection.MosaicSwitchHook`."""

    def __init__(
        self,
        split: str,
        data_root: str = "",
        images: str | None = None,
        annotations: str | None = None,
        annotation_format: str = "coco",
        faults: str = "stop",
        metainfo: dict | None = None,
        input_size: tuple[int, int] | None = None,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        _check_choice("annotation_format", annotation_format, tuple(FORMATS))
        _check_choice("faults", faults, ("stop", "drop"))
        if not isinstance(split, str) or not split:
            raise ConfigError(
                f"split = {split!r}: expected a folder, a list file or the name of a split; set "
                "train, val in the config."
            )
        usual = FORMATS[annotation_format]
        metainfo = dict(metainfo or {})
        asked = tuple(metainfo.get("classes") or ())
        self.annotation_format = annotation_format
        self.faults = faults
        self.input_size = input_size
        self.layout = Layout(
            join_path(data_root),
            split,
            usual.images if images is None else images,
            usual.annotations if annotations is None else annotations,
            asked or None,
        )
        # Read once, also where the classes are needed before the records.
        self._annotations: Annotations | None = None
        if not asked:
            self._annotations = read_annotations(annotation_format, self.layout)
        metainfo["classes"] = unique_classes(asked or self._annotations.classes)
        if not metainfo["classes"]:
            raise DataError(self._why_no_class())
        self._index = {name: index for index, name in enumerate(metainfo["classes"])}
        self._wrong_sizes: dict[str, str] | None = None
        self._implausible: list[Finding] = []
        self._without_file = 0  # images that have no annotation file
        super().__init__(
            data_root=str(self.layout.root),
            data_prefix={},
            metainfo=metainfo,
            lazy_init=lazy_init,
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns the records; ``faults`` and ``notes`` are among their keys where there are."""
        annotations = self._annotations or read_annotations(self.annotation_format, self.layout)
        self._annotations = None
        require_images(
            len(annotations.images),
            annotations.source,
            expected="images with boxes",
            example=f"an entry of 'images' in {annotations.source}",
        )
        self._require_known_names(annotations)
        self._require_annotation_files(annotations)
        images = annotations.images
        self._without_file = sum(image.missing for image in images)
        if not self.test_mode and not any(image.boxes or image.fault for image in images):
            raise DataError(
                f"{annotations.source}: none of its {len(images)} images has an annotation; to "
                "train, some image has to show an object."
            )
        self._implausible = findings_of(
            annotations, self.metainfo["classes"], self.input_size, not self.test_mode
        )
        records = [self._record(image, annotations, number) for number, image in enumerate(images)]
        left_out = [f"{place}: {reason}" for reason, place in annotations.faults]
        if self.faults == "drop":
            left_out += [f"{image.path}: {image.fault}" for image in images if image.fault]
            kept = zip(records, images, strict=True)
            records = [record for record, image in kept if not image.fault]
            self._require_something(records, left_out)
        self._tell(records, left_out)
        return records

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns the record ``idx``, in training with ``draw_another`` while samples are mixed."""
        record = super().get_data_info(idx)
        mixing = self.mosaic_epochs is None or self.epoch < self.mosaic_epochs
        if mixing and not self.test_mode:
            record["draw_another"] = self._draw_another
        return record

    def _draw_another(self) -> dict[str, Any]:
        """Returns the record of a random image, by numpy's global generator."""
        return super().get_data_info(int(np.random.randint(len(self))))

    # ---- what checks and samplers ask ----

    def labels_of(self, record: dict[str, Any]) -> list[int]:
        """Returns the class index of each box that is not to be ignored."""
        return [i["bbox_label"] for i in record["instances"] if not i["ignore_flag"]]

    def faults_of(self, record: dict[str, Any]) -> list[str]:
        """Returns what is wrong with the annotations of an image, with file and object."""
        return record.get("faults", []) + (self._size_of(record) if self.faults == "stop" else [])

    def notes_of(self, record: dict[str, Any]) -> list[str]:
        """Returns what was left out or clipped, and what is odd."""
        return record.get("notes", []) + (self._size_of(record) if self.faults == "drop" else [])

    def findings(self) -> list[Finding]:
        """Adds what is passed over, implausible in the boxes, or worth knowing of them."""
        paths = [Path(self.get_data_info(index)["img_path"]) for index in range(len(self))]
        suffix = FORMATS[self.annotation_format].suffix
        files = self.layout.findings(suffix, paths, self._without_file)
        return [*files, *super().findings(), *self._implausible]

    def _size_of(self, record: dict[str, Any]) -> list[str]:
        """Returns the sentence on an image of another size than its annotation states, if it is."""
        if self.annotation_format == "yolo":  # which states no size
            return []
        if self._wrong_sizes is None:
            records = [super(DetectionDataset, self).get_data_info(i) for i in range(len(self))]
            sizes = image_sizes([record["img_path"] for record in records])
            self._wrong_sizes = {
                record["img_path"]: wrong_size((record["height"], record["width"]), size)
                for record, size in zip(records, sizes, strict=True)
                if size and "height" in record and size != (record["height"], record["width"])
            }
        sentence = self._wrong_sizes.get(record["img_path"])
        return [sentence] if sentence else []

    # ---- records ----

    def _record(
        self, image: AnnotatedImage, annotations: Annotations, number: int
    ) -> dict[str, Any]:
        record: dict[str, Any] = {
            "img_path": str(image.path),
            "img_id": number if image.id is None else image.id,
            "instances": [],
        }
        if image.size:
            record["height"], record["width"] = image.size
        faults = [image.fault] if image.fault else []
        notes = list(image.notes)
        if image.missing:
            notes.append(f"no annotation file {image.source}: taken for an image without objects")
        for box in image.boxes:
            fault = self._fault_of(box, image.size)
            if fault:
                faults.append(f"{annotations.place(image, box)}: {fault}")
                continue
            corners, outside = clip(box.corners, image.size)
            if outside > _CLIPPED:
                notes.append(
                    f"{annotations.place(image, box)}: clipped, it reaches {outside:g} pixels "
                    f"beyond the image{describe(box, image.size)}"
                )
            record["instances"] += [
                {
                    "bbox": list(corners),
                    "bbox_label": self._index[label],
                    "ignore_flag": int(box.ignored),
                }
                for label in box.labels(self._index)
            ]
        if self.faults == "drop":
            faults, notes = [], [f"{fault}; left out" for fault in faults] + notes
            record["left_out"] = True  # what cannot be used; see LoadBoxes
        record.update({k: v for k, v in (("faults", faults), ("notes", notes)) if v})
        return record

    def _fault_of(self, box: Box, size: tuple[int, int] | None) -> str:
        fault = fault_of(box, size)
        if fault:
            return fault + describe(box, size)
        if all(label in self._index for label in box.labels(self._index)):
            return ""
        return (
            f"class {box.label!r} is not one of the classes {_joined(self._index)}."
            f"{did_you_mean(box.label, self._index)}"
        ).rstrip(".?")

    def _tell(self, records: list[dict[str, Any]], left_out: list[str]) -> None:
        """Hands on, with the first record, what belongs to none; tells how to go on all the same.

        Whoever checks the data asks record by record.
        """
        if left_out:
            key = "faults" if self.faults == "stop" else "notes"
            records[0][key] = [*left_out, *records[0].get(key, [])]
        first = next((record["faults"] for record in records if record.get("faults")), None)
        if first:
            first[0] += ' (faults = "drop" in the config leaves such boxes out, with a warning)'

    # ---- never a silent zero ----

    def _why_no_class(self) -> str:
        """Returns the sentence on annotations without a class: a file's own fault if there is."""
        images = self._annotations.images
        faulty = [image.fault for image in images if image.fault]
        if faulty:
            return (
                f"{self.layout.source}: {len(faulty)} of its {len(images)} annotation files cannot "
                f"be read: {faulty[0]}."
            )
        boxes = ((self._annotations.place(i, box), box) for i in images for box in i.boxes)
        first = next((f"{place}: {box.fault}" for place, box in boxes if box.fault), None)
        if first:
            return f"{self.layout.source}: no annotation names a class; {first}."
        return (
            f"{self.layout.source}: no annotation names a class, so the classes are not known. "
            f"Look at annotations = {self.layout.annotations!r} and annotation_format = "
            f"{self.annotation_format!r}, or set classes in the config."
        )

    def _require_known_names(self, annotations: Annotations) -> None:
        """Raises if boxes are there, but none is of the classes asked for."""
        names = annotations.names()
        if names and not self._index.keys() & set(names):
            raise DataError(
                f"none of the boxes of {annotations.source} is of the classes asked for, "
                f"{_joined(self._index)}: the annotations have {_joined(names)}. Set "
                "classes in the config."
            )

    def _require_annotation_files(self, annotations: Annotations) -> None:
        """Raises where no image has its file, and images without objects are no explanation."""
        first = annotations.images[0].source
        if not all(image.missing for image in annotations.images):
            return
        if not self.test_mode or not first.parent.is_dir():
            raise DataError(
                f"{annotations.source}: none of its {len(annotations.images)} images has an "
                f"annotation file, e.g. {str(first)!r} does not exist. Look at annotations = "
                f"{self.layout.annotations!r}."
            )

    def _require_something(self, records: list[dict[str, Any]], left_out: list[str]) -> None:
        """Raises if all images were left out, or for a training all boxes."""
        if records and (self.test_mode or any(record["instances"] for record in records)):
            return
        left_out = left_out + [note for record in records for note in record.get("notes", ())]
        raise DataError(
            f"{self.layout.source}: all boxes were left out, for they are faulty: {left_out[0]}."
        )


def _joined(names: Collection[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(list(names)[:_SHOWN]) + more


def _check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            f"aicore.DetectionDataset: {key} is {value!r}; expected one of {', '.join(choices)}."
            f"{did_you_mean(str(value), choices)}"
        )
