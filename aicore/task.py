"""What differs between tasks, under one small interface.

Shared code (tools, hooks, inferencers) never asks which task it is: the config names the task's
object, ``task = dict(type='aicore.Classification')``, and shared code calls these methods.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmengine.structures import BaseDataElement

from aicore.registry import TASKS


class Task(Protocol):
    """One task. Registered in :data:`aicore.registry.TASKS` by the task's subpackage."""

    inferencer: type
    """The task's subclass of :class:`aicore.engine.inferencer.Inferencer`."""
    weight_sources: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]
    """What renames the weights of other libraries, by the library's name."""
    data_peers: Mapping[str, Callable[[Any, list[dict[str, Any]]], Callable[[int], Any]]]
    """Other libraries' training pipelines, by name, for a benchmark: each takes the config and the
    data set's records and returns what prepares the record of an index. May be left out."""

    def record(self, sample: BaseDataElement, classes: tuple[str, ...]) -> dict[str, Any]:
        """Returns what a data sample says, ready for JSON: truth and prediction, where present."""

    def draw(self, image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
        """Returns a copy of ``image`` (HxWx3 uint8, BGR) with the record's labels drawn on it."""

    def maps(self, record: dict[str, Any]) -> dict[str, np.ndarray]:
        """Returns what a prediction says of each pixel, by name; nothing for most tasks.

        Each an H x W uint8 or uint16 array in the size of the image; a demo writes it into a
        folder of that name.
        """

    def report(
        self, records: list[dict[str, Any]], classes: tuple[str, ...], folder: Path
    ) -> tuple[str, dict[str, Any]]:
        """Writes the task's pictures of a test into ``folder``.

        It may complete the records with what only all of them together tell;
        ``predictions.json`` is written afterwards.

        Returns:
            A table for the console, and further figures for ``metrics.json``.
        """


def build_task(config: dict[str, Any]) -> Task:
    """Builds the task that a config names, whatever the default scope."""
    return TASKS.build({**config, "_scope_": "aicore"})


def inspection_record(
    task: Task, sample: BaseDataElement, classes: tuple[str, ...]
) -> dict[str, Any]:
    """Returns a sample's record with its path, and the reason instead where it was not inspected.

    The truth stands in the record in both cases, so that no defective part is lost from the count.
    """
    record = {"image": sample.get("img_path"), "inspected": True, **task.record(sample, classes)}
    reason = sample.get("not_inspected")
    if reason is not None:
        record = {key: value for key, value in record.items() if not key.startswith("pred")}
        record.update(inspected=False, reason=reason)
    return record


def write_records(file: Path, records: list[dict[str, Any]]) -> None:
    """Writes records as a JSON list, one record a line."""
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
