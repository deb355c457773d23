"""What the data sets of all tasks share: unreadable images do not stop the work.

A task's data set inherits from :class:`InspectionDataset` first and from its host library's data
set second::

    class ClassificationDataset(InspectionDataset, mmpretrain.datasets.BaseDataset): ...
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from aicore.datasets.bad_images import BadImageLog
from aicore.datasets.files import LIST_SUFFIX
from aicore.datasets.findings import WARNING, Finding
from aicore.datasets.seeded import SeededDataset
from aicore.errors import DataError, ImageError
from aicore.runtime.files import FOLDER, MISSING, why_no_file
from aicore.runtime.images import describe_left_out


class InspectionDataset(BaseDataset):
    """Handles unreadable images, and holds what a check of the data asks.

    In training an unreadable image is listed in :attr:`bad_images` and another one takes its
    place. In evaluation it keeps its place in the batch as a black image whose data sample
    carries the reason as ``not_inspected``; :class:`aicore.evaluation.Evaluator` counts it apart.
    """

    replaces_unreadable = True
    """Whether another image takes an unreadable one's place in training; False: as in evaluation.

    False is for training that has to see each image once: its model leaves those marked out.
    """

    bad_images: BadImageLog | None = None
    """Where unreadable images are listed; set by :class:`aicore.engine.hooks.BadImageHook`."""
    epoch = 0
    """Epoch, counted from 0, that a sample is prepared for; set by the :class:`SeededDataset`."""

    listing: Sequence[Finding] = ()
    """What finding the files told; set by ``load_data_list``."""

    def prepare_data(self, idx: int) -> Any:
        """Returns the record ``idx`` after the pipeline; None if another has to replace it."""
        try:
            return self.pipeline(self.get_data_info(idx))
        except ImageError as error:
            if self.bad_images is not None:
                self.bad_images.add(error.path, error.reason)
            if self.replaces_unreadable and not self.test_mode:
                return None
            return self._not_inspected(idx, error.reason)

    def _not_inspected(self, idx: int, reason: str) -> Any:
        data = self.pipeline({**self.get_data_info(idx), "not_inspected": reason})
        samples = data["data_samples"]
        for sample in samples if isinstance(samples, list) else [samples]:  # a list under TTA
            sample.set_metainfo({"not_inspected": reason})
        return data

    def __getitem__(self, idx: int) -> Any:
        """Returns one sample; raises DataError when no readable image can be found."""
        if self.test_mode:
            return super().__getitem__(idx)
        for _ in range(self.max_refetch):
            data = self.prepare_data(idx)
            if data is not None:
                return data
            idx = self._rand_another()
        raise DataError(
            f"no readable image among {self.max_refetch} tries in {self.data_root!r}. "
            "Run tools/data/check_dataset.py on the config for the list of what is wrong."
        )

    def labels_of(self, record: dict[str, Any]) -> list[int]:
        """Returns the class indices that a record's annotation holds, for counts and checks."""
        raise NotImplementedError

    def expected_labels(self) -> list[int]:
        """Returns the class indices that are missed where no record has them; by default all."""
        return list(range(len(self.metainfo.get("classes") or ())))

    def pixels_of(self, record: dict[str, Any]) -> list[int] | None:
        """Returns how many pixels of each class the annotation holds; None where it has no mask."""
        return None

    def faults_of(self, record: dict[str, Any]) -> list[str]:
        """Returns what is wrong with a record's annotation, a sentence each; none by default."""
        labels = self.labels_of(record)
        count = len(self.metainfo.get("classes") or ())
        return [
            f"label {label} is outside 0..{count - 1} ({count} classes)"
            for label in labels
            if not 0 <= label < count
        ]

    def notes_of(self, record: dict[str, Any]) -> list[str]:
        """Returns what is odd in a record's annotation, or left out of it; nothing by default.

        Unlike a fault it does not stop the training.
        """
        return []

    def findings(self) -> list[Finding]:
        """Returns what there is to say of the data set as a whole.

        Here what finding its files told, names of classes that hardly differ, and images that
        are there twice. A subclass adds its own to those of ``super().findings()``.
        """
        return [*self.listing, *self._alike_names(), *self._same_images()]

    def _alike_names(self) -> list[Finding]:
        alike: dict[str, list[str]] = {}
        for name in self.metainfo.get("classes") or ():
            alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
        cases = [", ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
        text = "classes whose names differ in case or blanks alone: are they one?"
        return [Finding(WARNING, text, cases)] if cases else []

    def _same_images(self) -> list[Finding]:
        """Returns what there is to say of images that several records, or links, lead to."""
        first: dict[tuple[int, int], tuple[str, list[int]]] = {}
        agreed, torn = [], []
        for index in range(len(self)):
            record = self.get_data_info(index)
            path, labels = str(record["img_path"]), self._known_labels(record)
            try:
                status = os.stat(path)  # noqa: PTH116  (a Path for each image costs more)
            except OSError:  # told elsewhere
                continue
            other, its = first.setdefault((status.st_dev, status.st_ino), (path, labels))
            if its is not labels:
                (agreed if its == labels else torn).append(f"{path} = {other}")
        return [
            Finding(WARNING, f"images that are there twice, with {how} label: {len(cases)}", cases)
            for how, cases in (("the same", agreed), ("another", torn))
            if cases
        ]

    def _known_labels(self, record: dict[str, Any]) -> list[int]:
        try:
            return sorted(self.labels_of(record))
        except DataError:  # a fault of its record
            return []


def unique_classes(names: Iterable[str], source: str = "classes") -> tuple[str, ...]:
    """Returns class names as a tuple.

    Args:
        names: The names.
        source: Where they stand, for the message.

    Raises:
        DataError: A name occurs twice.
    """
    names = tuple(names)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"{source} holds {repeated[0]!r} more than once: names must differ.")
    return names


def base_datasets(dataset: Any) -> Iterator[InspectionDataset]:
    """Yields the data sets inside wrappers such as ``ConcatDataset`` and ``RepeatDataset``."""
    if isinstance(dataset, SeededDataset):  # which answers to the names of what it wraps
        dataset = dataset.dataset
    if isinstance(dataset, InspectionDataset):
        yield dataset
    for inner in getattr(dataset, "datasets", ()):
        yield from base_datasets(inner)
    if hasattr(dataset, "dataset"):
        yield from base_datasets(dataset.dataset)


def require_images(
    count: int,
    tried: Path,
    expected: str,
    example: str,
    left_out: Sequence[tuple[Path, str]] = (),
) -> None:
    """Raises for a data set without any image.

    Args:
        count: Number of images found.
        tried: The folder or list file that was read.
        expected: What should be there.
        example: One path as it should look.
        left_out: What a walk over the folder passed over.

    Raises:
        DataError: ``count`` is zero.
    """
    if count:
        return
    reason = why_no_file(tried)
    if reason == MISSING:
        state = "does not exist"
    elif reason not in ("", FOLDER):
        state = f"cannot be read: {reason}"
    elif not reason and tried.suffix.lower() not in (LIST_SUFFIX, ".json"):
        state = f"is a file but no list: lists end in {LIST_SUFFIX}"
    else:
        state = f"holds none of them ({describe_left_out(left_out)})".replace(" ()", "")
    raise DataError(
        f"found 0 images: {str(tried)!r} {state}. Expected: {expected}, e.g. {example}. "
        "Set data_root (and train, val) in the config."
    )
