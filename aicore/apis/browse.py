"""Pictures of a data set as the model gets it: after augmentation, with its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.structures import BaseDataElement
from torch import Tensor

from aicore.apis.setup import default_work_dir, open_config
from aicore.datasets.base import base_datasets
from aicore.datasets.transforms import LoadImage
from aicore.errors import ConfigError
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
        DataError: The data set has no images.
    """
    if min(count, columns) < 1:
        raise ConfigError(f"--count {count} --columns {columns}: both have to be at least 1.")
    settings = open_config(config, options)
    set_random_seed(seed)
    dataset = _build_dataset(settings, split)
    task, load_image = build_task(settings.task), _loader_of(dataset)
    classes = tuple(dataset.metainfo["classes"])
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    pictures = []
    for index in sorted(chosen):
        data = dataset[int(index)]
        if "inputs" not in data:
            raise ConfigError(
                f"{config}: the pipeline of {split}_dataloader.dataset gives no 'inputs' "
                f"({', '.join(data)}): it has to end with a Pack… transform."
            )
        sample = data["data_samples"]
        if original:
            pictures.append(_draw_original(load_image, sample))
        pictures.append(_draw_augmented(data["inputs"], sample, task, classes))
    largest = max(max(picture.shape[:2]) for picture in pictures)
    cell = min(max(largest, SMALLEST_CELL), LARGEST_CELL)
    columns = min(columns, len(chosen)) * (2 if original else 1)
    file = Path(out or default_work_dir(config, f"browse_{split}.png"))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_image(file, tile(pictures, columns, cell))
    return file


def _build_dataset(config: Config, split: str) -> BaseDataset:
    loaders = [key for key, value in config.items() if key.endswith("_dataloader") and value]
    if f"{split}_dataloader" not in loaders:
        raise ConfigError(
            f"{config.filename}: {split}_dataloader is not set, so there is nothing to browse. "
            f"The config has: {', '.join(loaders) or 'none'}."
        )
    init_default_scope(config.get("default_scope", "aicore"))
    with explain_build_errors(config):
        return DATASETS.build(config[f"{split}_dataloader"].dataset)


def _loader_of(dataset: BaseDataset) -> LoadImage:
    """Returns the data set's own first step: its channels and white level."""
    steps = (step for inner in base_datasets(dataset) for step in inner.pipeline.transforms)
    return next((step for step in steps if isinstance(step, LoadImage)), LoadImage())


def _draw_original(load_image: LoadImage, sample: BaseDataElement) -> np.ndarray:
    """Returns the sample's file as the pipeline loads it, with its name below."""
    path = sample.img_path
    loaded = load_image({"img_path": path, "not_inspected": sample.get("not_inspected")})
    return draw_caption(to_display(loaded["img"]), f"{Path(path).name} →", WHITE)


def _draw_augmented(
    inputs: Tensor, sample: BaseDataElement, task: Task, classes: tuple[str, ...]
) -> np.ndarray:
    """Returns the model's input (C x H x W, 0..255) as HxWx3 uint8 BGR with the task's labels."""
    image = to_display(inputs.permute(1, 2, 0).numpy())
    return task.draw(image, inspection_record(task, sample, classes))
