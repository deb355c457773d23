from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from aicore.config import load_config
from aicore.datasets.check import check_config

BASE = Path(__file__).parents[2] / "configs/segmentation/unet_resnet18.py"
TOOL = "tools/data/convert.py"
TRIANGLE = [[5, 5], [25, 5], [5, 25]]  # x, y


@pytest.fixture
def images(tmp_path) -> Path:
    """Two pictures, one of them with labelme's file beside it."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, grey in (("a", 90), ("b", 140)):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((40, 60, 3), grey, np.uint8))
    content = {
        "imagePath": "a.png",
        "imageHeight": 40,
        "imageWidth": 60,
        "shapes": [{"label": "dent", "shape_type": "polygon", "points": TRIANGLE}],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def coco(images) -> Path:
    """A COCO file with a polygon on ``a.png``; nothing on ``b.png``."""
    content = {
        "images": [
            {"id": index, "file_name": f"{name}.png", "height": 40, "width": 60}
            for index, name in enumerate("ab")
        ],
        "categories": [{"id": 1, "name": "dent"}],
        "annotations": [
            dict(id=1, image_id=0, category_id=1, segmentation=[np.ravel(TRIANGLE).tolist()])
        ],
    }
    file = images.parent / "marks.json"
    file.write_text(json.dumps(content))
    return file


def check(printed: str, file: Path):
    """Checks the data of a config made of the lines that the tool printed; returns its split."""
    settings = printed.split("(train or val):\n")[1]
    name = "marks" if "marks" in settings else "images"
    lines = "".join(f"{line.strip()}\n" for line in settings.splitlines())
    file.write_text(f"_base_ = {BASE.as_posix()!r}\nval = '{name}.txt'\n{lines}")
    report = check_config(load_config(file))
    # The test validates on the same images, which the check says, too.
    assert [problem for problem in report.of_level("error") if problem.split == "train"] == []
    return report.splits["train"]


def test_labelme_to_a_config_that_trains(call_tool, images, tmp_path):
    done = call_tool(TOOL, images, "--from", "labelme", "--out", tmp_path / "masks of a")

    assert done.returncode == 0, done.stderr
    assert check(done.stdout, tmp_path / "own.py").counts == {"background": 1, "dent": 1}


def test_coco_to_a_config_that_trains(call_tool, images, coco, tmp_path):
    done = call_tool(TOOL, coco, "--from", "coco", "--images", images, "--out", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    assert check(done.stdout, tmp_path / "own.py").counts == {"background": 2, "dent": 1}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.json", "--from", "coco"], "'nowhere.json' cannot be read"),
        (["marks.json", "--from", "coco", "--images", "images", "--classes", "dant"], "'dent'"),
        (["nowhere", "--from", "labelme"], "nowhere"),
    ],
)
def test_mistakes(call_tool, coco, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)

    done = call_tool(TOOL, *arguments, "--out", "out")

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("out").exists()
