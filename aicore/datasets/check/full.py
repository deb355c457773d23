"""The full check of a config's data: records, every image, the same image twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import Dataset

from aicore.datasets.check.duplicates import Entry, problems_of_duplicates
from aicore.datasets.check.pictures import Picture, look_at_all
from aicore.datasets.check.records import Split, read_split
from aicore.datasets.check.report import Problem, Report, SplitFigures
from aicore.datasets.check.values import problems_of_values
from aicore.datasets.findings import ERROR, NOTE, WARNING
from aicore.datasets.transforms.loading import LoadImage
from aicore.errors import ConfigError, DataError, ImageError
from aicore.registry import DATASETS, explain_build_errors

_SPLITS = ("train", "val", "test")
_ENOUGH = 100  # images, which are not few beside any number
_FEW = 20  # times as many images of train as of another split, from which these are few
_IMBALANCE = 10  # times as many labels as the rarest class, from which it is worth a note


def check_config(config: Config) -> Report:
    """Checks the data sets of a config's train, val and test dataloaders; opens every image.

    Raises:
        ConfigError: The config names no data set, or one that cannot be built.
    """
    settings = _settings_by_split(config)
    splits, problems = _read_splits(config, settings)
    if splits:
        problems += _differing_classes(splits)
    pictures = look_at_all(path for split in splits for path in split.paths)
    for split in splits:
        problems += _problems_of_records(split)
        problems += _problems_of_files(split, pictures)
    entries = [
        Entry(split.name, path, tuple(_name(split, label) for label in labels), picture)
        for split in splits
        for path, labels in zip(split.paths, split.labels, strict=True)
        if isinstance(picture := pictures[path], Picture)
    ]
    figures = {split.name: _figures(split, pictures) for split in splits}
    problems += _problems_of_counts(figures)
    problems += _problems_of_kinds(figures, entries)
    white_levels = {name: level for name, one in settings.items() for level in _white_levels(one)}
    problems += problems_of_values(entries, white_levels)
    problems += problems_of_duplicates(entries, list(figures))
    return Report(str(config.filename), figures, problems)


def _settings_by_split(config: Config) -> dict[str, Any]:
    """Returns the settings of each different data set, by the name of its split or splits.

    Raises:
        ConfigError: The config names no data set.
    """
    named: dict[str, Any] = {}
    for name in _SPLITS:
        settings = (config.get(f"{name}_dataloader") or {}).get("dataset")
        if settings is None:
            continue
        bare = _without_pipelines(settings)
        twin = next((one for one, known in named.items() if _without_pipelines(known) == bare), "")
        named[f"{twin}/{name}" if twin else name] = named.pop(twin, settings)
    if not named:
        raise ConfigError(
            f"{config.filename} has no data to check: none of train_dataloader, val_dataloader "
            "and test_dataloader holds a dataset."
        )
    return named


def _read_splits(config: Config, named: dict[str, Any]) -> tuple[list[Split], list[Problem]]:
    """Builds each different data set and reads its records."""
    init_default_scope(config.get("default_scope", "aicore"))
    splits = []
    problems = [
        Problem(ERROR, name, "are one data set, so the validation tells nothing")
        for name in named
        if name.startswith("train/")
    ]
    for name, settings in named.items():
        try:
            with explain_build_errors(config):
                dataset: Dataset = DATASETS.build(_without_pipelines(settings))
            splits.append(read_split(name, dataset))
        except DataError as error:
            problems.append(Problem(ERROR, name, f"cannot be read: {error}"))
    return splits, problems


def _without_pipelines(settings: Any) -> Any:
    """Returns a copy of a data set's settings, wrappers included, that transforms nothing."""
    if isinstance(settings, dict):
        copied = {key: _without_pipelines(value) for key, value in settings.items()}
        return type(settings)({**copied, "pipeline": []} if "pipeline" in copied else copied)
    if isinstance(settings, list | tuple):
        return type(settings)(map(_without_pipelines, settings))
    return settings


def _white_levels(settings: Any) -> Iterator[int]:
    """Yields the ``white_level`` of each step of a data set's settings that reads images."""
    if isinstance(settings, dict):
        if str(settings.get("type")).rpartition(".")[2] == LoadImage.__name__:
            yield LoadImage(**{k: v for k, v in settings.items() if k != "type"}).white_level
        settings = list(settings.values())
    if isinstance(settings, list | tuple):
        for item in settings:
            yield from _white_levels(item)


def _differing_classes(splits: list[Split]) -> list[Problem]:
    first = splits[0]
    return [
        Problem(
            ERROR,
            f"{first.name}, {split.name}",
            "have different classes, so that an index means another class in each; set classes "
            "in the config",
            [f"{item.name}: {', '.join(item.classes)}" for item in (first, split)],
        )
        for split in splits[1:]
        if split.classes != first.classes
    ]


def _problems_of_records(split: Split) -> Iterator[Problem]:
    faulty = split.faulty()
    if faulty:
        yield Problem(ERROR, split.name, f"faults in the annotations: {len(faulty)}", faulty)
    noted = split.noted()
    if noted:
        text = f"left out of the annotations, clipped, or odd: {len(noted)}"
        yield Problem(WARNING, split.name, text, noted)
    missing = split.missing_classes()
    if missing:
        text = f"classes without a label: {len(missing)} of {len(split.classes)}"
        yield Problem(WARNING, split.name, text, missing)
    for finding in split.findings:
        yield Problem(finding.level, split.name, finding.text, list(finding.cases))
    if not any(split.labels):
        yield Problem(NOTE, split.name, "no image has a label")
    counts = {name: count for name, count in split.counts().items() if name in split.classes}
    present = {name: count for name, count in counts.items() if count}
    if present and max(present.values()) >= _IMBALANCE * min(present.values()):
        most, fewest = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        yield Problem(
            NOTE,
            split.name,
            f"{present[most] / present[fewest]:.0f} times as many labels of {most} "
            f"({present[most]}) as of {fewest} ({present[fewest]})",
        )


def _problems_of_files(
    split: Split, pictures: dict[str, Picture | ImageError]
) -> Iterator[Problem]:
    paths = dict.fromkeys(split.paths)
    missing = split.missing_files()
    if missing:
        cases = [f"{path}: {reason}" for path, reason in missing.items()]
        text = f"image files that are missing or empty: {len(missing)} of {len(paths)}"
        yield Problem(ERROR, split.name, text, cases)
    unreadable = [
        f"{path}: {picture.reason}"
        for path in paths
        if isinstance(picture := pictures[path], ImageError) and path not in missing
    ]
    if unreadable:
        text = f"image files that cannot be read: {len(unreadable)} of {len(paths)}"
        yield Problem(ERROR, split.name, text, unreadable)


def _problems_of_counts(figures: dict[str, SplitFigures]) -> Iterator[Problem]:
    most = max((split.images for name, split in figures.items() if "train" in name), default=0)
    for name, split in figures.items():
        if split.images < min(most / _FEW, _ENOUGH):
            text = (
                f"few images ({split.images}) beside {most} of train: one of them is worth "
                f"{100 / split.images:.1f} points of a figure"
            )
            yield Problem(WARNING, name, text)


def _problems_of_kinds(figures: dict[str, SplitFigures], entries: list[Entry]) -> Iterator[Problem]:
    kinds: Counter[str] = Counter()
    for split in figures.values():
        kinds.update(split.kinds)
    if len(kinds) > 1:
        depths = {kind.split()[0] for kind in kinds}
        rarest = min(kinds, key=kinds.__getitem__)
        yield Problem(
            WARNING if len(depths) > 1 else NOTE,
            ", ".join(figures),
            f"images of {len(kinds)} kinds ({', '.join(kinds)}); of the rarest: {kinds[rarest]}",
            [entry.path for entry in entries if entry.picture.kind == rarest],
        )


def _name(split: Split, label: int) -> str:
    return split.classes[label] if 0 <= label < len(split.classes) else str(label)


def _figures(split: Split, pictures: dict[str, Picture | ImageError]) -> SplitFigures:
    readable = [x for path in split.paths if isinstance(x := pictures[path], Picture)]
    return SplitFigures(
        len(split.paths),
        len(split.paths) - len(readable),
        split.counts(),
        dict(Counter(picture.kind for picture in readable).most_common()),
        _span([picture.width for picture in readable]),
        _span([picture.height for picture in readable]),
        len({(picture.width, picture.height) for picture in readable}),
        _grey_values(readable),
        split.label_shares(),
        split.pixel_shares(),
    )


def _grey_values(pictures: list[Picture]) -> dict[str, list[int]]:
    values: dict[str, list[int]] = {}
    for picture in pictures:
        depth = f"{picture.bits}-bit"
        low, high = values.get(depth, (picture.darkest, picture.brightest))
        values[depth] = [min(low, picture.darkest), max(high, picture.brightest)]
    return values


def _span(values: list[int]) -> list[int]:
    return [min(values), round(float(np.median(values))), max(values)] if values else []
