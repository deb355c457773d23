"""What a data set's records say, and what is wrong with them; no image is opened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import Dataset

from aicore.datasets.base import base_datasets
from aicore.datasets.findings import Finding
from aicore.errors import DataError

NO_LABEL = "(no label)"
_MOST_CLASSES = 20  # in one line of text


@dataclass(frozen=True)
class Split:
    """The records of one split, in the order of the data set.

    Attributes:
        name: ``train``, ``val`` or ``test``; ``val/test`` where the two are one data set.
        classes: Class names in the order of their indices.
        paths: Image path of each record.
        labels: Sorted class indices that each record's annotation holds.
        faults: What is wrong with each record's annotation, mostly nothing.
        pixels: Number of pixels of each class, over all records; empty without masks.
        notes: What is odd in each record's annotation, but does not stop the training.
        optional: Classes that need not have a label here.
        findings: What the data set says of itself as a whole.
    """

    name: str
    classes: tuple[str, ...]
    paths: list[str]
    labels: list[tuple[int, ...]]
    faults: list[list[str]]
    pixels: list[int] = field(default_factory=list)
    notes: list[list[str]] = field(default_factory=list)
    optional: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Returns the number of labels of each class; last the images without any label."""
        found = Counter(label for labels in self.labels for label in labels)
        counts = {name: found[index] for index, name in enumerate(self.classes)}
        unlabelled = sum(not labels for labels in self.labels)
        return {**counts, NO_LABEL: unlabelled} if unlabelled else counts

    def label_shares(self) -> dict[str, float]:
        """Returns the share of all labels in [0, 1] that each class has; empty without labels."""
        counts = {name: count for name, count in self.counts().items() if name in self.classes}
        total = sum(counts.values())
        return {name: count / total for name, count in counts.items()} if total else {}

    def pixel_shares(self) -> dict[str, float]:
        """Returns the share of all labelled pixels in [0, 1] that each class has; if there are."""
        total = sum(self.pixels)
        return {n: p / total for n, p in zip(self.classes, self.pixels, strict=False)}

    def summary(self) -> str:
        """Returns the number of images and of labels of each class, as one line."""
        counts = self.counts()
        line = f"{self.name}: {len(self.paths)} images"
        if len(counts) <= _MOST_CLASSES:
            return ", ".join([line, *(f"{name} {count}" for name, count in counts.items())])
        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        return (
            f"{line}, {len(counts)} classes, from {counts[fewest]} ({fewest}) "
            f"to {counts[most]} ({most}) labels each"
        )

    def missing_classes(self) -> list[str]:
        """Returns the classes without a label that should have one.

        No class is missed where nothing is labelled at all.
        """
        counts = self.counts()
        if not any(self.labels):
            return []
        return [name for name in self.classes if not counts[name] and name not in self.optional]

    def faulty(self) -> list[str]:
        """Returns ``path: fault`` for everything that is wrong with the annotations."""
        return _with_paths(self.paths, self.faults)

    def noted(self) -> list[str]:
        """Returns ``path: note`` for everything that is odd in the annotations."""
        return _with_paths(self.paths, self.notes)

    def missing_files(self) -> dict[str, str]:
        """Returns the images that are not there or empty, with the reason."""
        reasons = {path: _why_missing(Path(path)) for path in dict.fromkeys(self.paths)}
        return {path: reason for path, reason in reasons.items() if reason}


def read_split(name: str, dataset: Dataset) -> Split:
    """Reads all records of a data set.

    Args:
        name: Name of the split.
        dataset: An :class:`aicore.datasets.InspectionDataset`, or a wrapper around several.

    Raises:
        DataError: There is no InspectionDataset inside, or those inside differ in their classes.
    """
    parts = list(base_datasets(dataset))
    if not parts:
        raise DataError(
            f"{name}: {type(dataset).__name__} is not a data set of aicore, so its records cannot "
            "be checked. Expected one that inherits from aicore.datasets.InspectionDataset."
        )
    classes = tuple(parts[0].metainfo.get("classes") or ())
    expected = {label for part in parts for label in part.expected_labels()}
    optional = {label for index, label in enumerate(classes) if index not in expected}
    split = Split(name, classes, [], [], [], optional=optional)
    for part in parts:
        if tuple(part.metainfo.get("classes") or ()) != classes:
            raise DataError(
                f"{name}: its data sets have different classes: {', '.join(classes)} and "
                f"{', '.join(part.metainfo.get('classes') or ())}. Set classes in the config."
            )
        for index in range(len(part)):
            record = part.get_data_info(index)
            split.paths.append(str(record["img_path"]))
            try:
                labels, faults = part.labels_of(record), part.faults_of(record)
                notes = part.notes_of(record)
            except DataError as error:  # an annotation in a file of its own, e.g. a mask
                labels, faults, notes = [], [str(error)], []
            split.labels.append(tuple(sorted(labels)))
            split.faults.append(faults)
            split.notes.append(notes)
            pixels = part.pixels_of(record)
            if pixels:
                so_far = split.pixels or [0] * len(pixels)
                split.pixels[:] = [a + b for a, b in zip(so_far, pixels, strict=True)]
        split.findings.extend(part.findings())
    return split


def _with_paths(paths: list[str], sentences: list[list[str]]) -> list[str]:
    return [
        f"{path}: {sentence}"
        for path, found in zip(paths, sentences, strict=True)
        for sentence in found
    ]


def _why_missing(path: Path) -> str:
    try:
        return "" if path.stat().st_size else "the file is empty (0 bytes)"
    except OSError as error:
        return (error.strerror or str(error)).lower()
