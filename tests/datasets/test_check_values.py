"""What the check says of the pixels of images, and of the settings they are read with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from aicore.apis.setup import open_config
from aicore.datasets.check import check_config
from aicore.datasets.check.duplicates import Entry
from aicore.datasets.check.pictures import Picture, look_at
from aicore.datasets.check.values import problems_of_values
from aicore.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
PART = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)


def entry(folder: Path, image: np.ndarray, split: str = "train", name: str = "a.png") -> Entry:
    path = folder / f"{split}_{name}"
    Image.fromarray(image).save(path)
    picture = look_at(str(path))
    assert isinstance(picture, Picture)
    return Entry(split, str(path), ("good",), picture)


def found(entries: list[Entry], **white_levels: int) -> list[str]:
    return [f"{p.level} {p.split}: {p.text}" for p in problems_of_values(entries, white_levels)]


def deep(brightest: int) -> np.ndarray:
    return np.linspace(0, brightest, 600).astype(np.uint16).reshape(20, 30)


@pytest.mark.parametrize(
    ("brightest", "advice"), [(3744, 4095), (4095, 4095), (900, 1023), (16383, 16383), (200, 255)]
)
def test_16_bit_images_that_never_come_near_white(tmp_path, brightest, advice):
    (text,) = found([entry(tmp_path, deep(brightest))], train=65535)
    assert text.startswith(f"warning train: largest grey value {brightest} of 65535 (white_level)")
    assert f"set white_level = {advice} in the config" in text
    assert found([entry(tmp_path, deep(brightest))], train=advice) == []


def test_the_brightest_image_of_all_splits_counts(tmp_path):
    dim, bright = entry(tmp_path, deep(900)), entry(tmp_path, deep(60000), "val")
    assert found([dim, bright], train=65535, val=65535) == []
    (text,) = found([dim, bright], train=65535, val=60000)  # which are not of one scale
    assert text.startswith("warning train: largest grey value 900")


def test_16_bit_images_brighter_than_white(tmp_path):
    entries = [entry(tmp_path, deep(5000)), entry(tmp_path, deep(3000), name="b.png")]
    (problem,) = problems_of_values(entries, {"train": 4095})
    assert (problem.level, problem.cases) == ("error", [f"{tmp_path / 'train_a.png'}: 5000"])
    assert "values above white_level = 4095" in problem.text
    assert "set white_level = 8191" in problem.text


def test_without_a_step_that_reads_images_no_white_level_is_known(tmp_path):
    assert found([entry(tmp_path, deep(900))]) == []


@pytest.mark.parametrize(
    ("image", "values"), [(PART % 2, "0 to 1"), (PART % 9 + 240, "240 to 248")]
)
def test_8_bit_images_that_are_black_or_white(tmp_path, image, values):
    (text,) = found([entry(tmp_path, image)])
    assert text.startswith(f"warning train: grey values are only {values} of 255 in all 8-bit")
    assert found([entry(tmp_path, image), entry(tmp_path, PART, name="b.png")]) == []


def test_images_of_one_value(tmp_path):
    flat = entry(tmp_path, np.full_like(PART, 7))
    assert found([flat, entry(tmp_path, PART, name="b.png")]) == [
        "note train: images of one grey value throughout: 1"
    ]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_transparent_images(tmp_path, suffix):
    opaque = np.dstack([PART] * 3 + [np.full_like(PART, 255)])
    clear = opaque.copy()
    clear[:5, :, 3] = 9
    entries = [
        entry(tmp_path, image, name=f"{i}{suffix}") for i, image in enumerate((opaque, clear))
    ]
    assert found(entries) == [
        "warning train: images that are transparent in part, which is not heeded: 1"
    ]


def test_files_with_several_pages(tmp_path):
    page = Image.fromarray(PART)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    entries = [Entry("val", "a.tif", (), look_at(str(tmp_path / "a.tif")))]
    assert found(entries) == [
        "warning val: files with several pages, of which the first is read: 1"
    ]


TASKS = {
    "classification": "resnet18.py",
    "segmentation": "unet_resnet18.py",
    "detection": "yolox_nano.py",
    "anomaly": "padim_resnet18.py",
}


@pytest.mark.parametrize("task", TASKS)
def test_white_level_of_the_config_is_compared_in_every_task(tmp_path, monkeypatch, task):
    seen = {}

    def keep(_, white_levels):
        seen.update(white_levels)
        return []

    monkeypatch.setattr("aicore.datasets.check.full.problems_of_values", keep)
    options = {"white_level": 4095, "data_root": str(tmp_path)}
    if task != "anomaly":
        options["classes"] = ["background", "dent"]
    check_config(open_config(CONFIGS / task / TASKS[task], options))
    assert set(seen.values()) == {4095}
    assert {name for names in seen for name in names.split("/")} == {"train", "val", "test"}


def test_12_bit_images_end_to_end_behind_a_wrapper(tmp_path):
    for name in ("good", "dent"):
        (tmp_path / "train" / name).mkdir(parents=True)
        image = (deep(3744) + (name == "dent")).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "train" / name / "a.png"), image)
    dataset = {
        "type": "aicore.ClassificationDataset",
        "data_root": str(tmp_path),
        "split": "train",
        "pipeline": [{"type": "aicore.LoadImage", "in_channels": 1}],
    }
    wrapped = {"type": "RepeatDataset", "times": 2, "dataset": dataset}
    config = Config({"default_scope": "mmpretrain", "train_dataloader": {"dataset": wrapped}})
    problems = check_config(config).problems
    assert any(p.text.startswith("largest grey value 3745 of 65535") for p in problems)
    config.train_dataloader.dataset.dataset.pipeline[0].white_level = 4095
    assert not any("grey value" in problem.text for problem in check_config(config).problems)
    config.train_dataloader.dataset.dataset.pipeline[0].white_level = 0
    with pytest.raises(ConfigError, match="white_level is 0"):
        check_config(config)
