"""What differs between tasks, under one small interface.

Shared code (tools, hooks, inferencers) never asks which task it is: the config names the task's
object, ``task = dict(type='aicore.Classification')``, and shared code calls these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmengine.structures import BaseDataElement

from aicore.registry import TASKS
from aicore.runtime.files import as_json, atomic_write, naming


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
    reason = sample.get("not_inspected")
    if reason is not None:
        sample = sample.new()
        for key in [key for key in sample.keys() if key.startswith("pred")]:  # noqa: SIM118
            delattr(sample, key)
    record = {"image": sample.get("img_path"), "inspected": True, **task.record(sample, classes)}
    return record if reason is None else {**record, "inspected": False, "reason": reason}


_BEGIN, _END = b"[\n", b"\n]\n"


def write_records(file: Path, records: list[dict[str, Any]]) -> None:
    """Writes records as a JSON list, one record a line; all of them or, in an error, none."""
    with atomic_write(file) as stream:
        stream.write(_BEGIN + b",\n".join(map(as_json, records)) + _END)


class RecordWriter:
    """Writes records as they come, in the form of :func:`write_records`.

    They go to a temporary file beside ``file``, a whole list after each record, which takes its
    name when the writer closes. An error or an interrupt in the block closes it too: what was
    finished is kept. Where nothing was, ``file`` stays as it was.

    Args:
        file: The file to write; its folder exists.

    Raises:
        OSError: The file cannot be written.

    Example:
        >>> with RecordWriter(folder / 'predictions.json') as writer:  # doctest: +SKIP
        ...     for record in records:
        ...         writer.write(record)
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = 0
        self._context = atomic_write(file)
        # Unbuffered: a write that failed must not be tried again when the writer closes.
        self._stream = self._context.__enter__().raw
        with naming(file):
            self._stream.write(_BEGIN + _END)
        self._length = len(_BEGIN)  # without the end

    def write(self, record: dict[str, Any]) -> None:
        """Adds a record."""
        line = (b",\n" if self._count else b"") + as_json(record)
        left = memoryview(line + _END)
        with naming(self._file):
            self._stream.seek(self._length)
            while left:
                left = left[self._stream.write(left) :]
        self._length += len(line)
        self._count += 1

    def close(self, error: BaseException | None = None) -> None:
        """Gives the file its name, unless an ``error`` came before the first record."""
        if self._count or error is None:
            # Over a record that could be written in part only.
            self._stream.seek(self._length)
            self._stream.write(_END)
            self._stream.truncate()
            error = None
        self._context.__exit__(error and type(error), error, None)

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.close(error)
