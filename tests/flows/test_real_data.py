"""Real pictures and weights; skipped where AICORE_REAL_DATA does not name their folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

from aicore.apis import test as run_test
from aicore.apis import train
from aicore.datasets.split import find_items, split_items, write_lists

CONFIGS = Path(__file__).parents[2] / "configs/classification"
DATA = Path(os.environ.get("AICORE_REAL_DATA", "does-not-exist"))
WEIGHTS = DATA.parent / "weights"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="AICORE_REAL_DATA is not set"),
]


def test_resnet50_classifies_imagenet_as_published(tmp_path):
    files = sorted((DATA / "imagenet_100").glob("*.JPEG"))
    lines = [f"{file.name} {10 * index}" for index, file in enumerate(files)]
    (tmp_path / "val.txt").write_text("\n".join(lines))
    names = [f"{index} {name}" for index, name in enumerate(IMAGENET_CATEGORIES)]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    options = {
        "data_root": str(DATA / "imagenet_100"),
        "val": str(tmp_path / "val.txt"),
        "num_workers": 0,
    }
    checkpoint = WEIGHTS / "resnet50_v1_imagenet.pth"
    metrics = run_test(
        CONFIGS / "resnet50_imagenet.py", checkpoint, tmp_path / "out", options=options
    )
    assert metrics["accuracy/top1"] >= 78


def test_pretrained_weights_learn_steel_defects_in_two_epochs(tmp_path):
    items, _ = find_items(DATA / "neu_det", label_from=re.compile(r"([A-Za-z_-]+)_\d+\."))
    few = [item for item in items if int(Path(item.path).stem.rsplit("_", 1)[1]) <= 40]
    write_lists(split_items(few, {"train": 0.75, "val": 0.25}, seed=0), tmp_path)
    options = {
        "data_root": str(DATA / "neu_det"),
        "train": str(tmp_path / "train.txt"),
        "val": str(tmp_path / "val.txt"),
        "pretrained": str(WEIGHTS / "resnet18_imagenet.pth"),
        "learning_rate": 3e-4,
        "image_size": 96,
        "batch_size": 16,
        "max_epochs": 2,
        "num_workers": 0,
    }
    runner = train(CONFIGS / "resnet18.py", tmp_path / "run", options=options)
    assert runner.message_hub.get_info("best_score") >= 90
