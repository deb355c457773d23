"""Pictures of a data set as the model gets it: after augmentation, with its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed

from aicore.apis.setup import default_work_dir, open_config
from aicore.datasets.base import base_datasets
from aicore.datasets.transforms import LoadImage
from aicore.errors import ConfigError, did_you_mean
from aicore.registry import DATASETS, explain_build_errors
from aicore.runtime.images import write_image
from aicore.task import Task, build_task, inspection_record
from aicore.visualization.drawing import draw_caption, tile, to_display

WHITE = (255, 255, 255)
SMALLEST_CELL, LARGEST_CELL = 128, 512  # pixels


def browse(
    config: str | Path,
    split: str = "train",
    count: int = 16,
    columns: int = 4,
    out: str | Path | None = None,
    original: bool = False,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> Path:
    """Draws a random choice of a data set's samples after its pipeline, as one grid.

    Args:
        config: Config file.
        split: ``train``, ``val`` or ``test``, whose ``<split>_dataloader`` names the data set.
        count: How many samples; all where the data set has fewer.
        columns: Samples side by side.
        out: The picture to write; by default ``work_dirs/<config's name>/browse_<split>.png``.
        original: Whether to put each sample's file, as it was loaded, to the left of it.
        seed: Of the choice and of the augmentations.
        options: Overrides of the config, with dotted keys.

    Returns:
        The picture's path.

    Raises:
        ConfigError: The config has no such split, its pipeline does not pack its results, or
            ``count`` or ``columns`` is not positive.
    """
    if min(count, columns) < 1:
        raise ConfigError(f"--count {count} --columns {columns}: both have to be at least 1.")
    settings = open_config(config, options)
    set_random_seed(seed)
    dataset = _build_dataset(settings, split)
    task = build_task(settings.task)
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    pictures = []
    for index in sorted(chosen):
        data = dataset[int(index)]
        if "inputs" not in data:
            raise ConfigError(
                f"{config}: the pipeline of {split}_dataloader.dataset gives "
                f"{', '.join(data)} and no 'inputs': it has to end with a Pack... transform."
            )
        if original:
            pictures.append(_draw_original(dataset, data["data_samples"].get("img_path")))
        pictures.append(_draw_sample(task, data, tuple(dataset.metainfo["classes"])))
    largest = max(max(picture.shape[:2]) for picture in pictures)
    cell = min(max(largest, SMALLEST_CELL), LARGEST_CELL)
    file = Path(out or default_work_dir(config, f"browse_{split}.png"))
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = min(columns, len(chosen))
    write_image(file, tile(pictures, columns * (2 if original else 1), cell))
    return file


def _build_dataset(config: Any, split: str) -> BaseDataset:
    try:
        dataset = config[f"{split}_dataloader"].dataset
    except (KeyError, AttributeError) as error:
        splits = [key.removesuffix("_dataloader") for key in config if key.endswith("_dataloader")]
        raise ConfigError(
            f"{config.filename}: {split}_dataloader.dataset is not set."
            f"{did_you_mean(split, splits)} The config has: {', '.join(splits) or 'none'}."
        ) from error
    init_default_scope(config.default_scope)
    with explain_build_errors(config):
        return DATASETS.build(dataset)


def _draw_sample(task: Task, data: dict[str, Any], classes: tuple[str, ...]) -> np.ndarray:
    """Returns a packed sample's image, HxWx3 uint8 BGR, with the labels of its task."""
    image = data["inputs"].permute(1, 2, 0).numpy()
    record = inspection_record(task, data["data_samples"], classes)
    return task.draw(to_display(image), record)


def _draw_original(dataset: BaseDataset, path: str | None) -> np.ndarray:
    """Returns the sample's file as the pipeline loads it, with its name below."""
    loaders = [
        step
        for inner in base_datasets(dataset)
        for step in inner.pipeline.transforms
        if isinstance(step, LoadImage)
    ]
    ...
