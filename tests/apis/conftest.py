from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest


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
