from __future__ import annotations

import ast
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from aicore.config import load_config
from aicore.datasets.check import check_config
from aicore.detection.datasets import DetectionDataset

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


# ---- boxes ----


@pytest.fixture
def boxes(images, coco) -> Path:
    """The COCO file with a box on ``a.png``."""
    content = json.loads(coco.read_text())
    content["annotations"][0]["bbox"] = [5, 5, 20, 20]
    coco.write_text(json.dumps(content))
    return coco


def open_printed(printed: str) -> DetectionDataset:
    """Opens the data set of the lines that the tool printed."""
    lines = printed.split("(train or val):\n")[1].splitlines()
    settings = {
        key.strip(): ast.literal_eval(value)
        for key, _, value in (line.partition(" = ") for line in lines)
    }
    return DetectionDataset(settings.pop("train"), serialize_data=False, **settings)


@pytest.mark.parametrize("target", ["voc", "yolo"])
def test_boxes_from_one_format_to_the_others(call_tool, images, boxes, tmp_path, target):
    out = tmp_path / "out"
    done = call_tool(
        TOOL, boxes, "--from", "coco", "--to", target, "--images", images, "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "2 images, 1 of them without any box\n  dent: 1 boxes\nleft out: 0"
    )
    first = open_printed(done.stdout)

    split = "ImageSets/Main/marks.txt" if target == "voc" else "marks.txt"
    other = "yolo" if target == "voc" else "voc"
    for final in (other, "coco"):
        arguments = ["--from", target, "--to", final, "--split", split, "--images", images]
        done = call_tool(TOOL, out, *arguments, "--out", tmp_path / final)
        assert done.returncode == 0, done.stderr
        result = open_printed(done.stdout)
        assert [result.labels_of(result.get_data_info(i)) for i in range(2)] == [[0], []]
        (instance,) = result.get_data_info(0)["instances"]
        assert instance["bbox"] == pytest.approx([5, 5, 25, 25])
        assert result.get_data_info(0)["img_path"] == first.get_data_info(0)["img_path"]


def test_labelme_to_boxes(call_tool, images, tmp_path):
    done = call_tool(TOOL, images, "--from", "labelme", "--to", "yolo", "--out", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    (instance,) = open_printed(done.stdout).get_data_info(0)["instances"]
    assert instance["bbox"] == pytest.approx([5, 5, 25, 25])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "voc"], "--from voc needs --to: coco, voc or yolo"),
        (["--from", "yolo", "--to", "yolo"], "--from and --to are both yolo"),
        (["--from", "yolo", "--to", "masks"], "yolo holds boxes, which tell no areas"),
        (["--from", "coco", "--to", "voc", "--split", "a"], "are for voc and yolo"),
    ],
)
def test_choices_that_do_not_fit(call_tool, tmp_path, arguments, sentence):
    done = call_tool(TOOL, tmp_path, *arguments, "--out", tmp_path / "out")

    assert done.returncode == 2
    assert sentence in done.stderr


def test_boxes_of_nothing(call_tool, tmp_path):
    arguments = ["--from", "voc", "--to", "coco", "--out", tmp_path / "out"]

    done = call_tool(TOOL, tmp_path / "nowhere", *arguments)

    assert done.returncode == 1
    assert done.stderr.startswith("error: found 0 images: ")
    assert done.stderr.count("\n") == 1
