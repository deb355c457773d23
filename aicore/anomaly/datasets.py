"""Anomaly detection data: good images to fit on; good and defective ones, maybe masks, to test."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from aicore.anomaly.areas import words_of_threshold
from aicore.anomaly.listing import (
    PARTS,
    AreaTemplate,
    Listed,
    TypeRule,
    divide,
    list_images,
    relative_name,
)
from aicore.anomaly.plausibility import AreaFigures, findings_of_areas
from aicore.datasets.base import InspectionDataset
from aicore.datasets.files import find_listed, finding_of_strays, findings_of, is_list, join_path
from aicore.datasets.findings import WARNING, Finding
from aicore.datasets.headers import fault_of_size, image_size
from aicore.datasets.masks import MaskFile, Oddity
from aicore.errors import ConfigError, DataError, did_you_mean
from aicore.registry import DATASETS
from aicore.runtime.images import IMAGE_SUFFIXES

CLASSES = ("ok", "ng")
GOOD = "good"
"""The ``defect_type`` of every good image, whatever its folder is called."""

_SHOWN = 3  # images in a message
_FEW = 10  # good images, from which a fit does not say how good parts differ


@DATASETS.register_module()
class AnomalyDataset(InspectionDataset):
    """Images that are good, or have a type of defect; a mask may show where.

    ``split`` is, below ``data_root``, one of these, or a list of several:

    - A folder, read to its depth. An image's type is the first folder below it; where it lies
      directly in it, or the folder's own name is a good type, the folder's own name.
    - A list file (``.txt``): one image a line, its path relative to ``data_root``, with or without
      its suffix. Its type may follow after a tab or a blank. Else it is the folder of a good type
      in its path, or the folder that it lies in.
    - A csv file (``.csv``) with the columns ``image`` and ``label``, which is the type; ``mask``
      if there are masks, empty where an image has none. ``rows`` says which rows count.

    ``masks`` says where the mask of a defective image lies, relative to ``data_root``: ``{path}``
    stands for the image's path relative to it without its suffix, ``{folder}`` and ``{name}`` for
    its two parts, ``{type}`` for its type. The file may have another image suffix. Masks that lie
    among the images are no images themselves. ``roi`` is likewise, or one file for all images.

    The good images can be divided, by a hash of their paths and ``seed``: ``test_share`` of them
    are kept for the test, and ``held_out`` of those left from the fit, for the threshold. Data
    sets agree on it if they hold the same good images. ``part`` says which a data set returns:
    ``fit`` and ``held_out`` those good ones alone, ``test`` those kept for the test and all
    defective ones, ``all`` everything.

    In training an unreadable image is left black and marked, as in evaluation: another one in its
    place would count twice.

    Args:
        split: Folder, list or csv file, or a list of them.
        data_root: Folder that all paths are relative to.
        good: Names of the good types, compared without case.
        type_from: Regular expression whose first group, searched for in an image's path relative
            to ``data_root``, is its type, in place of its folders.
        rows: Which rows of a csv file count: value by column, e.g. ``dict(split="train")``.
        masks: Where the mask of a defective image lies; None: there are none, but for those that
            a csv file names.
        masks_required: Whether a defective image without its mask is a fault; else it takes no
            part in figures of pixels.
        mask_threshold: Grey value, 0 to 254, above which a pixel of a mask is defective. None: 0,
            but 127, half of white, in masks that are stored lossily or have soft edges.
        roi: Where the pixels lie that count (marked as in a mask, without a threshold); None:
            everywhere.
        part: ``all``, ``fit``, ``held_out`` or ``test``.
        held_out: Share in [0, 1) of the good images that are not kept for the test.
        test_share: Share in [0, 1) of the good images.
        seed: Of the division.
        **kwargs: Further arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ConfigError: An argument is outside its values.
        DataError: A split is missing or holds no image, or a part is empty; an image's type is not
            to be had; a defective image is among those to train on; there is no such ``roi``.
    """

    METAINFO = {"classes": CLASSES}  # noqa: RUF012  (MMEngine's name for it)
    replaces_unreadable = False

    def __init__(
        self,
        split: str | Sequence[str],
        data_root: str = "",
        good: str | Sequence[str] = ("good", "ok", "normal"),
        type_from: str | None = None,
        rows: Mapping[str, str] | None = None,
        masks: str | None = None,
        masks_required: bool = True,
        mask_threshold: int | None = None,
        roi: str | None = None,
        part: str = "all",
        held_out: float = 0.0,
        test_share: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.root = join_path(data_root)
        self.splits = [split] if isinstance(split, str) else list(split)
        self.types = TypeRule(good, type_from)
        self.rows = rows
        self.masks = None if masks is None else AreaTemplate("masks", masks, self.root, self.root)
        self.masks_required = masks_required
        self.mask_threshold = mask_threshold
        self.one_roi = join_path(self.root, roi) if roi and "{" not in roi else None
        self.roi = AreaTemplate("roi", roi, self.root, self.root) if roi and "{" in roi else None
        self.part, self.held_out, self.test_share, self.seed = part, held_out, test_share, seed
        self._check_arguments()
        super().__init__(data_root=str(self.root), data_prefix={}, **kwargs)

    def _check_arguments(self) -> None:
        threshold = self.mask_threshold
        if threshold is not None and (type(threshold) is not int or not 0 <= threshold < 255):
            raise ConfigError(
                f"mask_threshold = {threshold!r}: expected a grey value, 0 to 254, or None."
            )
        if not self.splits:
            raise ConfigError("split = []: expected a folder, a list file or a csv file.")
        if self.part not in PARTS:
            raise ConfigError(
                f"part = {self.part!r}: expected one of {', '.join(PARTS)}."
                f"{did_you_mean(str(self.part), PARTS)}"
            )
        for name in ("held_out", "test_share"):
            share = getattr(self, name)
            if type(share) not in (int, float) or not 0 <= share < 1:
                raise ConfigError(f"{name} = {share!r}: expected a share from 0 to below 1.")
        if self.part == "held_out" and not self.held_out:
            raise ConfigError(
                "part = 'held_out' with held_out = 0: no good image is held out. Set held_out, "
                "e.g. to 0.1, or give a split of its own (val)."
            )
        if self.part == "test" and not self.test_share:
            raise ConfigError(
                "part = 'test' with test_share = 0: no good image is kept for the test. Set "
                "test_share, e.g. to 0.2, or part = 'all' for a split of its own."
            )

    # ---- records ----

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns a record for each image of the part, in the order of the split.

        A record is ``{'img_path', 'relative_path', 'defect_type', 'gt_label', 'mask_path',
        'roi_path'}``: ``defect_type`` is ``good`` or the type's name, ``gt_label`` 0 or 1, and both
        paths are None where there is nothing to read.
        """
        if self.one_roi is not None and not self.one_roi.is_file():
            raise DataError(f"roi '{self.one_roi}' does not exist: set roi, or None for no ROI.")
        listed = self._listed()
        if not self.test_mode:
            self._require_good(listed)
        return [self._record(item) for item in self._part_of(listed)]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns the record ``idx`` with what :class:`aicore.LoadDefectMask` needs."""
        return {**super().get_data_info(idx), "mask_threshold": self.mask_threshold}

    def _listed(self) -> list[Listed]:
        """Returns the images of all splits, each once, without masks and ROIs among them."""
        found: dict[Path, Listed] = {}
        again = []
        self.listing = []
        for split in self.splits:
            items, left_out = list_images(split, self.root, self.types, self.rows)
            self.listing += findings_of(left_out)
            for item in items:
                if found.setdefault(item.path, item) is not item:
                    again.append(f"{item.path} ({item.type}, {found[item.path].type})")
        if again:
            text = f"images that are listed again, and count once, as listed first: {len(again)}"
            self.listing.append(Finding(WARNING, text, again))
        listed = list(found.values())
        no_images = {self.one_roi} if self.one_roi else set()
        for template in (self.masks, self.roi):
            no_images |= template.among(listed) if template else set()
        return [item for item in listed if item.path not in no_images]

    def _require_good(self, listed: Sequence[Listed]) -> None:
        """Raises if there is a defective image to train on."""
        defective = [item for item in listed if not self.types.is_good(item.type)]
        if not defective:
            return
        shown = ", ".join(f"'{item.path}' ({item.type})" for item in defective[:_SHOWN])
        more = f" and {len(defective) - _SHOWN} more" if len(defective) > _SHOWN else ""
        raise DataError(
            f"{len(defective)} of the {len(listed)} images to train on are of a defective type: "
            f"{shown}{more}. Fit on good images only: take them out of {', '.join(self.splits)}, "
            f"or if they are good, add their type to good = {self.types.good!r} in the config."
        )

    def _part_of(self, listed: list[Listed]) -> list[Listed]:
        if self.part == "all":
            return listed
        names = {item.path: relative_name(item.path, self.root) for item in listed}
        good = [names[item.path] for item in listed if self.types.is_good(item.type)]
        parts = divide(good, self.test_share, self.held_out, self.seed)
        # Not divided are the defective ones.
        chosen = [item for item in listed if parts.get(names[item.path], "test") == self.part]
        if not any(names[item.path] in parts for item in chosen):
            raise DataError(
                f"part = {self.part!r} of {', '.join(self.splits)} in '{self.root}' is empty: it "
                f"holds {len(good)} good images, too few for test_share = {self.test_share} and "
                f"held_out = {self.held_out}."
            )
        return chosen

    def _record(self, item: Listed) -> dict[str, Any]:
        is_good = self.types.is_good(item.type)
        mask = None if is_good else self._mask_of(item)
        roi = self.roi.of(item.path, type=item.type) if self.roi else self.one_roi
        return {
            "img_path": str(item.path),
            "relative_path": relative_name(item.path, self.root),
            "defect_type": GOOD if is_good else item.type,
            "gt_label": 0 if is_good else 1,
            "mask_path": None if mask is None else str(mask),
            "roi_path": None if roi is None else str(roi),
        }

    def _mask_of(self, item: Listed) -> Path | None:
        """Returns the mask of a defective image; one that is missing only if it is required."""
        if item.mask:
            named = find_listed(item.mask, ", ".join(self.splits), self.root)
            return named if self.masks_required or named.is_file() else None
        if self.masks is None:
            return None
        found = self.masks.find(item.path, item.type)
        return found or (self.masks.of(item.path, type=item.type) if self.masks_required else None)

    # ---- what checks and samplers ask ----

    def _findings_of_files(self) -> list[Finding]:
        """Returns masks that belong to no image, and too few good images to fit on."""
        findings = []
        records = [self.get_data_info(index) for index in range(len(self))]
        good = sum(record["gt_label"] == 0 for record in records)
        if not self.test_mode and good < _FEW:
            text = f"{good} good images are few to fit on: some {_FEW} show how good parts differ"
            findings.append(Finding(WARNING, text))
        # Types that a list tells are not known of the images of other lists.
        are_folders = not any(is_list(s) or s.lower().endswith(".csv") for s in self.splits)
        if 1 in self.expected_labels() and self.masks and are_folders and not self.types.pattern:
            masks = [Path(record["mask_path"]) for record in records if record["mask_path"]]
            strays = self.masks.of_no_image(masks, IMAGE_SUFFIXES, kinds=("type",))
            without = sum(r["gt_label"] == 1 and r["mask_path"] is None for r in records)
            findings += finding_of_strays("mask", strays, without)
        return findings

    def labels_of(self, record: dict[str, Any]) -> list[int]:
        """Returns the image's class: 0 good, 1 defective."""
        return [record["gt_label"]]

    def expected_labels(self) -> list[int]:
        """Returns the good class alone where the images are good by definition."""
        return [0] if not self.test_mode or self.part in ("fit", "held_out") else [0, 1]

    def pixels_of(self, record: dict[str, Any]) -> list[int] | None:
        """Returns the number of good and of defective pixels inside the ROI.

        None where they are not known, or where no image of the data set has a mask or an ROI.
        """
        return self._figures_of(record).pixels

    def faults_of(self, record: dict[str, Any]) -> list[str]:
        """Returns what is wrong with the image's mask and ROI."""
        figures = self._figures_of(record)
        empty = [figures.empty_mask] if figures.empty_mask and not self._any_defect() else []
        return figures.faults + empty

    def notes_of(self, record: dict[str, Any]) -> list[str]:
        """Returns whether the mask marks nothing, or only what lies where no pixel counts.

        A mask that marks nothing is odd among others; if all are so, it is a fault.
        """
        figures = self._figures_of(record)
        empty = [figures.empty_mask] if figures.empty_mask and self._any_defect() else []
        return figures.notes + empty

    def findings(self) -> list[Finding]:
        """Adds what is implausible about images, masks and ROIs as a whole."""
        areas = findings_of_areas(self._all_figures.values())
        return super().findings() + self._findings_of_files() + areas

    def _any_defect(self) -> bool:
        return any(sum((figures.pixels or [])[1:]) for figures in self._all_figures.values())

    def _figures_of(self, record: dict[str, Any]) -> AreaFigures:
        return self._all_figures.get(record["img_path"], AreaFigures())

    @cached_property
    def _all_figures(self) -> dict[str, AreaFigures]:
        """Figures by image, read for the whole split; none if there is neither mask nor ROI."""
        records = [self.get_data_info(index) for index in range(len(self))]
        if not any(record["mask_path"] or record["roi_path"] for record in records):
            return {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(self._look_at, records)
            bar = tqdm(found, "reading masks", len(records), disable=None, leave=False)
            return {r["img_path"]: figures for r, figures in zip(records, bar, strict=True)}

    def _look_at(self, record: dict[str, Any]) -> AreaFigures:
        figures = AreaFigures()
        size = image_size(record["img_path"])
        roi = self._area(record, "roi", size, figures)
        mask = self._area(record, "mask", size, figures)
        if roi is not None and not roi.any():
            path = record["roi_path"]
            figures.faults.append(
                f"roi {path!r} has no pixel above {words_of_threshold(None)}: nothing would count"
            )
        is_known = record["gt_label"] == 0 or mask is not None
        if figures.faults or not is_known or size is None:
            return figures
        counted = np.ones(size, np.uint8) if roi is None else roi
        defective = 0 if mask is None else int(np.count_nonzero(mask & counted))
        figures.pixels = [int(np.count_nonzero(counted)) - defective, defective]
        figures.size = size[0] * size[1]
        if mask is None:
            return figures
        figures.mask, figures.marked = record["mask_path"], int(np.count_nonzero(mask))
        figures.digest = hashlib.blake2b(mask, digest_size=16).digest()
        if not figures.marked:
            figures.empty_mask = (
                f"mask {record['mask_path']!r} has no pixel above "
                f"{words_of_threshold(self.mask_threshold)}, but the image is of the defective "
                f"type {record['defect_type']}"
            )
        elif not defective:
            figures.notes.append(
                f"the whole defect of mask {record['mask_path']!r} lies outside the ROI "
                f"{record['roi_path']!r}, so that it cannot be found"
            )
        return figures

    def _area(
        self,
        record: dict[str, Any],
        what: str,
        size: tuple[int, int] | None,
        figures: AreaFigures,
    ) -> np.ndarray | None:
        """Returns a record's ``roi`` or ``mask``, if any; notes down what is wrong with it."""
        path = record[f"{what}_path"]
        if path is None:
            return None
        try:
            is_for_all = what == "roi" and self.one_roi is not None
            area, oddities = self._roi_for_all if is_for_all else self._read(path, what)
        except DataError as error:
            figures.faults.append(f"{str(error).rstrip('.')}{self._remedy(what, path)}")
            return None
        figures.oddities[what] = {path: oddities}
        fault = fault_of_size(what, path, area.shape, record["img_path"], size or area.shape)
        figures.faults += [fault] if fault else []
        return area

    def _read(self, path: str, what: str) -> tuple[np.ndarray, set[Oddity]]:
        file = MaskFile(path, what)
        area = file.marked(self.mask_threshold if what == "mask" else None)
        return area.astype(np.uint8), file.oddities

    @cached_property
    def _roi_for_all(self) -> tuple[np.ndarray, set[Oddity]]:
        return self._read(str(self.one_roi), "roi")

    def _remedy(self, what: str, path: str) -> str:
        """Returns what to set where a file is missing."""
        if Path(path).exists():
            return ""
        if what == "roi":
            return "" if self.roi is None else f": look at roi = {self.roi.template!r}"
        if self.masks is None:
            return ", but the csv file names it: mend it, or set masks_required = False"
        return f": look at masks = {self.masks.template!r}, or set masks_required = False"
