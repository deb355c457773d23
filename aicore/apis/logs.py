"""The curves of trainings, from the JSON logs that they leave."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicore.errors import ConfigError, DataError, did_you_mean
from aicore.visualization.plots import Panel, plot_panels

MOST_DEFAULT_KEYS = 6
_COUNTERS = ("epoch", "iter", "step")
_NOT_BY_DEFAULT = ("time", "data_time", "memory")

Record = dict[str, float]


@dataclass(frozen=True)
class TrainingLog:
    """What one training has logged: numbers by name, in the order of time."""

    name: str
    """The path as the user gave it."""
    training: list[Record]
    """One record for each log line, with ``iter``."""
    validation: list[Record]
    """One record for each validation, with ``step``: its epoch, or iteration."""

    @property
    def validation_unit(self) -> str:
        """What ``step`` of a validation counts."""
        by_epoch = not self.training or any("epoch" in record for record in self.training)
        return "epoch" if by_epoch else "iteration"


def plot_logs(
    logs: Sequence[str | Path], keys: Sequence[str] = (), out: str | Path | None = None
) -> Path:
    """Plots what trainings have logged: a panel for each key, a curve for each training.

    What is logged in training is drawn over iterations, what is logged in validation over epochs.

    Args:
        logs: Work dirs, of which the newest run is taken, or their ``scalars.json``.
        keys: What to plot; by default ``loss``, ``lr`` and the metrics of validation, 6 at most.
        out: The PNG to write; by default ``curves.png`` in the first of ``logs``.

    Returns:
        The picture's path.

    Raises:
        DataError: There is no log, or it cannot be read.
        ConfigError: No log has one of ``keys``, or ``out`` is no PNG.
    """
    first = Path(logs[0]).expanduser()
    file = Path(out or (first if first.is_dir() else first.parent) / "curves.png").expanduser()
    if file.suffix != ".png":
        raise ConfigError(f"--out {str(out)!r} has to end in .png.")
    trainings = [read_log(path) for path in dict.fromkeys(logs)]
    of_training = _names(record for log in trainings for record in log.training)
    of_validation = _names(record for log in trainings for record in log.validation)
    if not keys:
        keys = [key for key in ("loss", "lr") if key in of_training]
        keys += [key for key in of_validation if key not in (*keys, *_NOT_BY_DEFAULT)]
        keys = keys[:MOST_DEFAULT_KEYS]
    known = list(dict.fromkeys([*of_training, *of_validation]))
    for key in keys:
        if key not in known:
            raise ConfigError(
                f"--keys {key}: no such value in {', '.join(log.name for log in trainings)}."
                f"{did_you_mean(key, known)} Logged are: {', '.join(known)}."
            )
    plot_panels([_panel(key, key in of_training, trainings) for key in keys], file)
    return file


def read_log(path: str | Path) -> TrainingLog:
    """Reads a training's ``scalars.json``, as MMEngine's ``LocalVisBackend`` writes it.

    A last line that was cut off when the training was killed, or the disk was full, is passed over.

    Args:
        path: The file, or a work dir, of which the newest run is taken.

    Raises:
        DataError: There is no such file, it is not of that form, or nothing is logged yet.
    """
    file = _find_scalars(Path(path).expanduser())
    records = []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                values = json.loads(line).items()
            except (json.JSONDecodeError, AttributeError) as error:
                if line.startswith("{") and not line.endswith("\n"):
                    break
                raise DataError(
                    f"{str(file)!r}, line {number}: {line.rstrip()[:60]!r} is not a JSON object of "
                    "logged values: expected a scalars.json from a training's vis_data folder."
                ) from error
            records.append({k: v for k, v in values if type(v) in (int, float)})
    if not _names(records):
        raise DataError(f"{str(file)!r} holds no logged values yet.")
    training = [record for record in records if "iter" in record]
    validation = [record for record in records if "iter" not in record and "step" in record]
    return TrainingLog(str(path), training, validation)


def _find_scalars(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{str(path)!r} does not exist: give a work dir or its scalars.json.")
    found = [*path.glob("vis_data/scalars.json"), *path.glob("*/vis_data/scalars.json")]
    if not found:
        raise DataError(
            f"{str(path)!r} holds no training's log: expected "
            f"{str(path / '<time of the run>' / 'vis_data' / 'scalars.json')!r}, which "
            "tools/train.py writes into its --work-dir."
        )
    return max(found, key=lambda file: file.parent.parent.name)  # the name is the run's time


def _names(records: Iterable[Record]) -> list[str]:
    """Returns the names of all values, counters apart, in the order of their first occurrence."""
    names = dict.fromkeys(name for record in records for name in record)
    return [name for name in names if name not in _COUNTERS]


def _panel(key: str, is_of_training: bool, logs: list[TrainingLog]) -> Panel:
    curves = {}
    for log in logs:
        counter = "iter" if is_of_training else "step"
        source = log.training if is_of_training else log.validation
        points = [(record[counter], record[key]) for record in source if key in record]
        if points:
            x, y = zip(*points, strict=True)
            curves[log.name] = (x, y)
    units = dict.fromkeys(log.validation_unit for log in logs if log.name in curves)
    return Panel(key, "iteration" if is_of_training else " or ".join(units), curves)
