"""Speed of a config's training pipeline in one process, whole and by step, beside its peers'."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from aicore.apis.benchmark.report import Report, machine_facts
from aicore.apis.benchmark.turns import measure_in_turns
from aicore.apis.setup import open_config
from aicore.datasets.base import base_datasets
from aicore.datasets.seeded import seeded
from aicore.errors import ConfigError
from aicore.registry import explain_build_errors
from aicore.task import build_task


def benchmark_data(
    config: str | Path, rounds: int = 10, images: int = 20, options: dict[str, Any] | None = None
) -> Report:
    """Measures how many images a config's training pipeline prepares in a second.

    One process without further threads prepares them, as each data worker does: reading,
    augmentation and packing, but no collating. The pipelines of other libraries that the task
    names (``data_peers``) take turns with it, over the same records. The steps of the config's
    own pipeline are measured by themselves afterwards; a step that draws other images, such as a
    mosaic, includes reading them.

    Args:
        config: Config file.
        rounds: How often each has its turn.
        images: How many images each prepares in a turn.
        options: Overrides of the config, with dotted keys.

    Returns:
        A row for the pipeline, for each peer and for each step with the columns ``what``,
        ``images_per_second``, ``milliseconds`` of an image, and ``speed_up``: how many times as
        fast as the peer the config's pipeline is, the median of each round's ratio.

    Raises:
        ConfigError: ``rounds`` or ``images`` is below 1, or the config cannot be built.
    """
    if rounds < 1 or images < 1:
        raise ConfigError(f"rounds is {rounds}, images {images}: both have to be at least 1.")
    settings = open_config(config, options)
    init_default_scope(settings.get("default_scope", "aicore"))
    with explain_build_errors(settings):
        dataset = DATASETS.build(settings.train_dataloader.dataset)
        peers = getattr(build_task(settings.task), "data_peers", {})  # few tasks have such
    inner = next(base_datasets(dataset))
    records = [_plain(inner.get_data_info(index)) for index in range(len(inner))]
    sources = {"pipeline": dataset.__getitem__}
    sources |= {name: build(settings, records) for name, build in peers.items()}
    lengths = [len(dataset), *[len(records)] * len(peers)]
    with _one_thread():
        turns = [
            _turn(source, length, images)
            for source, length in zip(sources.values(), lengths, strict=True)
        ]
        seconds = dict(zip(sources, measure_in_turns(turns, rounds), strict=True))
        steps = _measure_steps(inner, rounds * images)
    own = seconds["pipeline"]
    rows = [_row("pipeline", median(own) / images)]
    for name in peers:
        ratio = median(peer / ours for ours, peer in zip(own, seconds[name], strict=True))
        rows.append(_row(name, median(seconds[name]) / images, ratio))
    rows += [_row(f"step {name}", each) for name, each in steps]
    facts = {
        "config": str(config),
        "data": f"{len(records)} images, to {settings.get('image_size')} pixels",
        "rounds": f"{rounds} of {images} images each, in one process without threads",
    }
    return Report({**machine_facts(), **facts}, rows)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record without what serves the config's own pipeline alone."""
    return {key: value for key, value in record.items() if not callable(value)}


def _turn(source: Callable[[int], Any], length: int, images: int) -> Callable[[], None]:
    numbers = itertools.count()

    def prepare() -> None:
        for number in itertools.islice(numbers, images):
            with seeded(number):
                source(number % length)

    return prepare


def _measure_steps(dataset: BaseDataset, count: int) -> list[tuple[str, float]]:
    """Returns the name of each step of a data set's pipeline, and its mean seconds."""
    steps = dataset.pipeline.transforms
    seconds = [0.0] * len(steps)
    for number in range(count):
        with seeded(number):
            record = dataset.get_data_info(number % len(dataset))
            for place, step in enumerate(steps):
                began = time.perf_counter()
                record = step(record)
                seconds[place] += time.perf_counter() - began
    names = [type(step).__name__ for step in steps]
    return [(name, total / count) for name, total in zip(names, seconds, strict=True)]


def _row(what: str, seconds: float, speed_up: float | None = None) -> dict[str, Any]:
    return {
        "what": what,
        "images_per_second": round(1 / max(seconds, 1e-9), 1),
        "milliseconds": round(1000 * seconds, 2),
        "speed_up": None if speed_up is None else round(speed_up, 2),
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lets OpenCV and torch work without threads of their own, as in a data worker."""
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
