from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@pytest.fixture
def small_config(leaf_config: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function ``small_config(max_epochs=1)``: a leaf over ``leaf_config`` with a tiny network.

    Its name is the test's own: MMEngine gives two runs of one config that begin in the same second
    one logger.
    """

    def write(**settings: object) -> Path:
        settings = {"model_name": "test_resnet.r160_in1k", "max_epochs": 1, **settings}
        lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
        file = tmp_path / f"{tmp_path.name}.py"
        file.write_text(f"_base_ = {leaf_config.as_posix()!r}\n{''.join(lines)}", encoding="utf-8")
        return file

    return write


@dataclass(frozen=True)
class Tested:
    """What a test of ``trained`` leaves behind."""

    folder: Path
    metrics: dict[str, float]
    """What :func:`aicore.apis.test` returned."""
    records: dict[str, dict]
    """The records of ``predictions.json`` by their image's path."""


@pytest.fixture(scope="session")
def tested(trained, tmp_path_factory: pytest.TempPathFactory) -> Tested:
    """The test of ``trained`` on its validation images. Read only."""
    from aicore.apis import test

    folder = tmp_path_factory.mktemp("tested") / "out"
    metrics = test(trained.config, trained.checkpoint, out=folder)
    records = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    return Tested(folder, metrics, {record["image"]: record for record in records})
