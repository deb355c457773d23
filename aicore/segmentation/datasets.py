"""Semantic segmentation data: a folder or list of images, and a mask file for each."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mmseg.datasets import BaseSegDataset
from tqdm import tqdm

from aicore.datasets.base import InspectionDataset, require_images, unique_classes
from aicore.datasets.files import (
    find_listed,
    finding_of_strays,
    findings_of,
    is_list,
    join_path,
    read_labels,
    read_list,
    relative_below,
)
from aicore.datasets.findings import Finding
from aicore.datasets.headers import fault_of_size, image_size
from aicore.datasets.masks import MaskFile
from aicore.datasets.path_template import PathTemplate
from aicore.errors import DataError
from aicore.registry import DATASETS
from aicore.runtime.files import walk_files
from aicore.runtime.images import IMAGE_SUFFIXES, images_among
from aicore.segmentation.masks import IGNORE, build_mask_format
from aicore.segmentation.plausibility import MaskFigures, findings_of_masks

_TWO_FILES = re.compile(
    r"(.+(?:{0})) (.+(?:{0}))".format("|".join(map(re.escape, IMAGE_SUFFIXES))), re.IGNORECASE
)


@DATASETS.register_module()
class SegmentationDataset(InspectionDataset, BaseSegDataset):
    """One mask file per image.

    ``split`` is a folder below ``data_root/images``, read to its depth, or a list file (``.txt``)
    below ``data_root``: one image a line, its path relative to ``data_root/images``, with or
    without its suffix. A line may name the mask too, relative to ``data_root``, after a tab.

    ``masks`` says where the mask of an image lies, relative to ``data_root``: ``{path}`` stands for
    the image's path relative to ``images`` without its suffix, ``{folder}`` and ``{name}`` for its
    two parts. A folder alone means ``<folder>/{path}.png``.

    The classes are ``classes``, else the lines of ``labels.txt`` in ``data_root``; the first one is
    the background.

    Args:
        split: Folder or list file.
        data_root: Folder that all paths are relative to.
        images: Folder of the images; empty for ``data_root`` itself.
        masks: Where the mask of an image lies.
        mask_format: How mask files are to be read, see
            :class:`aicore.segmentation.masks.MaskFormat`.
        metainfo: ``dict(classes=(...))`` in the order of the model's outputs; or None.
        lazy_init: Whether to read the class names only.
        **kwargs: Further arguments of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        DataError: The split is missing or holds no image; a line of the list file is not of the
            form above; the classes are not to be had.
        ConfigError: ``masks`` or ``mask_format`` is wrong.
    """

    def __init__(
        self,
        split: str,
        data_root: str = "",
        images: str = "images",
        masks: str = "masks/{path}.png",
        mask_format: Mapping[str, Any] | None = None,
        metainfo: dict | None = None,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        root = join_path(data_root)
        self.root, self.image_root = root, join_path(root, images)
        self.from_list = is_list(split)
        self.split = join_path(root if self.from_list else self.image_root, split)
        template = masks if "{" in masks else f"{masks}/{{path}}.png"
        self.masks = PathTemplate("masks", template, root, self.image_root)
        self._names_masks = False  # whether lines of the list do
        metainfo = dict(metainfo or {})
        metainfo["classes"] = unique_classes(
            metainfo.get("classes")
            or read_labels(root / "labels.txt", "a data set without classes")
        )
        self.mask_format = build_mask_format(metainfo["classes"], mask_format)
        super().__init__(
            data_root=str(root), data_prefix={}, metainfo=metainfo, lazy_init=lazy_init, **kwargs
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns a record ``{'img_path', 'seg_map_path', 'relative_path'}`` for each image.

        ``seg_map_path`` is None where a missing mask means background.
        """
        pairs, left_out = (self._from_list(), []) if self.from_list else self._from_folder()
        require_images(
            len(pairs),
            self.split,
            expected=f"a list file or a folder with {', '.join(IMAGE_SUFFIXES)}",
            example=f"{self.split}: part_001" if self.from_list else f"{self.split}/part_001.png",
            left_out=left_out,
        )
        self.listing = findings_of(left_out)
        missing_is_background = self.mask_format.missing_is_background
        if missing_is_background and not self.test_mode:
            self._require_a_mask([mask for _, mask in pairs])
        return [
            {
                "img_path": str(image),
                "seg_map_path": str(mask) if not missing_is_background or mask.is_file() else None,
                "relative_path": image.relative_to(self.image_root).as_posix()
                if image.is_relative_to(self.image_root)
                else image.as_posix(),
                "seg_fields": [],
            }
            for image, mask in pairs
        ]

    def _require_a_mask(self, masks: Sequence[Path]) -> None:
        """Raises if no image of a training has a mask: a misspelt path, not good images alone."""
        if not any(mask.is_file() for mask in masks):
            raise DataError(
                f"{self.split}: none of its {len(masks)} images has a mask, e.g. '{masks[0]}' does "
                f"not exist. Look at masks = {self.masks.template!r}; to train, some image has to "
                "show a defect."
            )

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns the record ``idx`` with what :class:`aicore.LoadMask` needs to read its mask."""
        return {**super().get_data_info(idx), "mask_format": self.mask_format}

    # ---- what checks and samplers ask ----

    def _strays(self) -> list[Finding]:
        """Returns mask files that belong to no image."""
        if self._names_masks:  # those of another list are not known here
            return []
        try:
            below = "" if self.from_list else relative_below(self.split, self.image_root).as_posix()
        except ValueError:  # the folder lies elsewhere, and so do its masks
            return []
        known = [self.get_data_info(index)["seg_map_path"] for index in range(len(self))]
        masks = [Path(mask) for mask in known if mask]
        without = len(known) - len(masks)
        strays = self.masks.of_no_image(masks, IMAGE_SUFFIXES, "" if below == "." else below)
        return finding_of_strays("mask", strays, without)

    def labels_of(self, record: dict[str, Any]) -> list[int]:
        """Returns the indices of the classes that the image's mask shows.

        Raises:
            DataError: The mask cannot be read.
        """
        figures = self._figures_of(record)
        if figures.fault:
            raise DataError(figures.fault)
        return [index for index, count in enumerate(figures.pixels) if count]

    def pixels_of(self, record: dict[str, Any]) -> list[int] | None:
        """Returns the number of pixels of each class; None for a mask that cannot be read."""
        return list(self._figures_of(record).pixels) or None

    def faults_of(self, record: dict[str, Any]) -> list[str]:
        """Returns what is wrong with the image's mask."""
        figures = self._figures_of(record)
        if figures.fault:
            return [figures.fault]
        if figures.ignored and self._nothing_but_background():
            return [
                f"mask {record['seg_map_path']!r} has {figures.ignored} pixels to ignore, and no "
                "mask of the split shows any class but the first: if "
                f"{self.mask_format.ignore[0]} means defective, set mask_format = "
                "dict(threshold=127)"
            ]
        return []

    def findings(self) -> list[Finding]:
        """Adds what is implausible about the masks as a whole, and how much of them counts."""
        masks = {mask or image: figures for (image, mask), figures in self._all_figures.items()}
        found = findings_of_masks(masks, self.mask_format, trains=not self.test_mode)
        return super().findings() + self._strays() + found

    def _nothing_but_background(self) -> bool:
        return not any(sum(figures.pixels[1:]) for figures in self._all_figures.values())

    def _figures_of(self, record: dict[str, Any]) -> MaskFigures:
        return self._all_figures[record["img_path"], record["seg_map_path"]]

    @cached_property
    def _all_figures(self) -> dict[tuple[str, str | None], MaskFigures]:
        """Figures by the paths of image and mask; reads the masks of the whole split."""
        records = [self.get_data_info(index) for index in range(len(self))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(self._look_at, records)
            bar = tqdm(found, "reading masks", len(records), disable=None, leave=False)
            return {
                (record["img_path"], record["seg_map_path"]): figures
                for record, figures in zip(records, bar, strict=True)
            }

    def _look_at(self, record: dict[str, Any]) -> MaskFigures:
        size = image_size(record["img_path"])
        classes = len(self.metainfo["classes"])
        if record["seg_map_path"] is None:
            return MaskFigures((size[0] * size[1] if size else 0, *[0] * (classes - 1)))
        try:
            file = MaskFile(record["seg_map_path"])
            mask = self.mask_format.decode(file, record["relative_path"])
        except DataError as error:
            return MaskFigures(fault=str(error).rstrip("."))
        fault = fault_of_size(
            "mask", record["seg_map_path"], mask.shape, record["img_path"], size or mask.shape
        )
        if fault:
            return MaskFigures(fault=fault)
        counts = np.bincount(mask.ravel(), minlength=IGNORE + 1)
        return MaskFigures(
            tuple(counts[:classes].tolist()),
            int(counts[IGNORE]),
            oddities=file.oddities,
            digest=hashlib.blake2b(np.ascontiguousarray(mask), digest_size=16).digest(),
        )

    # ---- files ----

    def _from_folder(self) -> tuple[list[tuple[Path, Path]], list[tuple[Path, str]]]:
        walk = images_among(walk_files(self.split))
        pairs = [(path, self.masks.of(path)) for path in walk.files]
        # Masks may lie beside their images: those are no images themselves.
        masks = {mask for image, mask in pairs if mask != image}
        return [(image, mask) for image, mask in pairs if image not in masks], walk.left_out

    def _from_list(self) -> list[tuple[Path, Path]]:
        pairs = []
        for number, line in read_list(self.split):
            place = f"{self.split}, line {number}"
            name, mask = self._split_line(line, place)
            image = find_listed(name, place, self.image_root)
            self._names_masks |= bool(mask)
            named = find_listed(mask, place, self.root) if mask else self.masks.of(image)
            pairs.append((image, named))
        return pairs

    def _split_line(self, line: str, place: str) -> tuple[str, str]:
        """Splits a line of a list file into image and mask, which may be empty."""
        if "\t" in line:
            image, _, mask = line.partition("\t")
            return image.strip(), mask.strip()
        both = _TWO_FILES.fullmatch(line)
        if both:
            return both[1], both[2]
        if " " in line and not line.lower().endswith(IMAGE_SUFFIXES):
            raise DataError(
                f"{place}: {line!r} is not of the form '<image>' or '<image>, "
                "tab, <mask>'. Lists for segmentation are written by tools/data/split.py "
                "--paths-only."
            )
        return line, ""
