"""Image classification data: class folders, or list files with ``labels.txt``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpretrain.datasets import BaseDataset

from aicore.datasets.base import InspectionDataset, require_images, unique_classes
from aicore.datasets.files import (
    find_listed,
    findings_of,
    is_list,
    join_path,
    read_labels,
    read_list,
)
from aicore.datasets.findings import ERROR, WARNING, Finding
from aicore.errors import DataError, did_you_mean
from aicore.registry import DATASETS
from aicore.runtime.files import FOLDER, walk_files, why_no_file
from aicore.runtime.images import IMAGE_SUFFIXES, images_among


@DATASETS.register_module()
class ClassificationDataset(InspectionDataset, BaseDataset):
    """One class per image, from class folders or a list file.

    Class folders: ``data_root/split/<class>/**/*.png``. The classes are ``classes``, else the
    folder names in sorted order.

    List file, when ``split`` ends in ``.txt``: one image a line, ``<path> <class>``, the path
    relative to ``data_root`` (it may hold blanks), the class a name or an index. The classes are
    ``classes``, else the lines of ``labels.txt`` beside the list file.

    Links are followed; a folder that several of them lead to is read once.

    Args:
        split: Folder or list file, relative to ``data_root``.
        data_root: Folder that ``split`` and the paths in a list file are relative to.
        metainfo: ``dict(classes=(...))`` in the order of the model's outputs; or None.
        pipeline: Transforms.
        test_mode: Whether an unreadable image keeps its place (evaluation) or is replaced.
        lazy_init: Whether to read the class names only.
        **kwargs: Further arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        DataError: The split is missing or holds no image; a class is unknown; a line of the list
            file is not of the form above.
    """

    def __init__(
        self,
        split: str,
        data_root: str = "",
        metainfo: dict | None = None,
        pipeline: Sequence = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        self.split = join_path(data_root, split)
        self.from_list = is_list(split)
        self._labels_file = self.split.with_name("labels.txt")
        self._by_index = 0  # lines of a list that name their class by its index
        metainfo = dict(metainfo or {})
        if not metainfo.get("classes"):
            metainfo["classes"] = (
                read_labels(self._labels_file, "a list file") if self.from_list else self._folders()
            )
        metainfo["classes"] = unique_classes(metainfo["classes"])
        super().__init__(
            ann_file="",
            metainfo=metainfo,
            data_root=data_root,
            pipeline=pipeline,
            test_mode=test_mode,
            lazy_init=lazy_init,
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns a record ``{'img_path', 'gt_label'}`` for each image."""
        records = self._from_list() if self.from_list else self._from_folders()
        require_images(
            len(records),
            self.split,
            expected=f"a list file or a folder of class folders with {', '.join(IMAGE_SUFFIXES)}",
            example=f"{self.split}: images/part_001.png {self.CLASSES[0]}"
            if self.from_list
            else str(self.split / self.CLASSES[0] / "part_001.png"),
        )
        return records

    def labels_of(self, record: dict[str, Any]) -> list[int]:
        """Returns the image's class index."""
        return [record["gt_label"]]

    def findings(self) -> list[Finding]:
        """Adds classes that teach nothing: one alone, or of one image; and indices in doubt."""
        findings = super().findings()
        counts = Counter(self.get_data_info(index)["gt_label"] for index in range(len(self)))
        if not self.test_mode:
            findings += self._too_few({self.CLASSES[label]: n for label, n in counts.items()})
        if self._by_index and self._labels_file.is_file():
            known = read_labels(self._labels_file, "")
            if known[: len(self.CLASSES)] != list(self.CLASSES):
                text = (
                    f"{self._by_index} lines of {self.split} name their class by its index, but "
                    f"classes in the config has another order than {self._labels_file}"
                )
                cases = [f"config: {', '.join(self.CLASSES)}", f"file: {', '.join(known)}"]
                findings.append(Finding(ERROR, text, cases))
        return findings

    @staticmethod
    def _too_few(counts: dict[str, int]) -> list[Finding]:
        if len(counts) == 1:
            text = f"all images are of one class, {next(iter(counts))!r}: there is nothing to learn"
            return [Finding(ERROR, text)]
        rare = [name for name, count in counts.items() if count == 1]
        text = f"classes with one image alone, too few to learn from: {len(rare)}"
        return [Finding(WARNING, text, rare)] if rare else []

    def _folders(self) -> list[str]:
        folders = sorted(f.name for f in self.split.glob("[!.]*") if why_no_file(f) == FOLDER)
        require_images(
            len(folders),
            self.split,
            expected="one folder per class",
            example=str(self.split / "good" / "part_001.png"),
        )
        return folders

    def _from_folders(self) -> list[dict[str, Any]]:
        unknown = [name for name in self._folders() if name not in self.CLASSES]
        if unknown:
            raise DataError(
                f"{str(self.split)!r} holds the folder {unknown[0]!r}, which is not one of the "
                f"classes {', '.join(self.CLASSES)}.{did_you_mean(unknown[0], self.CLASSES)} "
                "Add it to classes in the config, or move the folder away."
            )
        walk = images_among(walk_files(self.split))
        self.listing = findings_of(walk.left_out)
        paths: dict[str, list[Path]] = {name: [] for name in self.CLASSES}
        loose = []
        for path in walk.files:
            folder, *below = path.relative_to(self.split).parts
            (paths[folder] if below else loose).append(path)
        if loose:
            text = f"images that lie in no class folder, and are left out: {len(loose)}"
            self.listing.append(Finding(WARNING, text, list(map(str, loose))))
        return [
            {"img_path": str(path), "gt_label": label}
            for label, name in enumerate(self.CLASSES)
            for path in paths[name]
        ]

    def _from_list(self) -> list[dict[str, Any]]:
        records = []
        for number, line in read_list(self.split):
            place = f"{self.split}, line {number}"
            path, label = self._split(line)
            if not path:
                raise DataError(f"{place}: {line!r} is not of the form '<path> <class>'.")
            image = find_listed(path.strip(), place, Path(self.data_root))
            records.append({"img_path": str(image), "gt_label": self._index(label.strip(), place)})
        return records

    def _split(self, line: str) -> tuple[str, str]:
        """Splits a line of a list file; both the path and the class name may hold blanks."""
        if "\t" in line:
            path, _, label = line.rpartition("\t")
            return path, label
        named = [name for name in self.CLASSES if line.endswith(f" {name}")]
        label = max(named, key=len) if named else line.rpartition(" ")[2]
        return line.removesuffix(label).rstrip(), label

    def _index(self, label: str, place: str) -> int:
        """Returns the class index of a list file's label, a name or an index."""
        if label in self.class_to_idx:
            return self.class_to_idx[label]
        if label.isdecimal() and int(label) < len(self.CLASSES):
            self._by_index += 1
            return int(label)
        raise DataError(
            f"{place}: class {label!r} is neither one of the classes "
            f"{', '.join(self.CLASSES[:20])} nor an index 0..{len(self.CLASSES) - 1}."
            f"{did_you_mean(label, self.CLASSES)} Add it to labels.txt (or classes in the config)."
        )
