from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.structures import BaseDataElement

from aicore.datasets import InspectionDataset, base_datasets
from aicore.datasets.bad_images import BadImageLog
from aicore.datasets.base import require_images
from aicore.errors import DataError, ImageError
from aicore.runtime.images import NO_IMAGE


class Numbers(InspectionDataset):
    """The numbers 0 to 9; those in ``broken`` cannot be read."""

    METAINFO = {"classes": ("even", "odd")}  # noqa: RUF012

    def __init__(self, broken=(), samples=1, **settings) -> None:
        self.broken = set(broken)
        self.samples = samples
        super().__init__(pipeline=[self.read], serialize_data=False, **settings)

    def load_data_list(self) -> list[dict]:
        return [{"img_path": f"{number}.png", "gt_label": number % 2} for number in range(10)]

    def labels_of(self, record: dict) -> list[int]:
        return [record["gt_label"]]

    def read(self, record: dict) -> dict:
        number = int(Path(record["img_path"]).stem)
        if "not_inspected" not in record and number in self.broken:
            raise ImageError(record["img_path"], "it is broken")
        value = -1 if "not_inspected" in record else number
        samples = [BaseDataElement() for _ in range(self.samples)]
        return {
            "inputs": torch.tensor(value),
            "data_samples": samples if self.samples > 1 else samples[0],
        }


def log_of(tmp_path, total=10, max_share=None) -> BadImageLog:
    return BadImageLog(tmp_path / "bad.txt", "train", total, max_share)


# ---- reading ----


def test_readable_images_come_as_they_are():
    dataset = Numbers()

    assert [int(dataset[index]["inputs"]) for index in range(10)] == list(range(10))


def test_training_takes_another_image_for_an_unreadable_one(tmp_path):
    dataset = Numbers(broken=[3])
    dataset.bad_images = log_of(tmp_path)

    values = {int(dataset[3]["inputs"]) for _ in range(30)}

    assert 3 not in values
    assert len(values) > 3  # not always the same
    assert dataset.bad_images.paths() == {"3.png": "it is broken"}


def test_training_without_a_list():
    assert int(Numbers(broken=[3])[3]["inputs"]) != 3


def test_training_ends_where_nothing_can_be_read():
    dataset = Numbers(broken=range(10), max_refetch=4, data_root="parts")

    with pytest.raises(DataError, match=r"no readable image among 4 tries in 'parts'"):
        dataset[0]


def test_training_that_sees_each_image_once_keeps_the_place_of_an_unreadable_one(tmp_path):
    dataset = Numbers(broken=[3])
    dataset.replaces_unreadable = False
    dataset.bad_images = log_of(tmp_path)

    data = dataset[3]

    assert int(data["inputs"]) == -1
    assert data["data_samples"].not_inspected == "it is broken"
    assert dataset.bad_images.paths() == {"3.png": "it is broken"}


@pytest.mark.parametrize("samples", [1, 3])
def test_evaluation_keeps_the_place_of_an_unreadable_image(tmp_path, samples):
    dataset = Numbers(broken=[3], samples=samples, test_mode=True)
    dataset.bad_images = log_of(tmp_path)

    data = dataset[3]

    assert int(data["inputs"]) == -1
    marked = data["data_samples"] if samples > 1 else [data["data_samples"]]
    assert [sample.not_inspected for sample in marked] == ["it is broken"] * samples
    assert dataset.bad_images.paths() == {"3.png": "it is broken"}
    assert "not_inspected" not in dataset.get_data_info(3)


def test_evaluation_of_a_readable_image_has_no_mark():
    dataset = Numbers(broken=[3], test_mode=True)

    assert "not_inspected" not in dataset[4]["data_samples"]


# ---- checks ----


def test_labels_outside_the_classes_are_faults():
    dataset = Numbers()

    assert dataset.faults_of({"gt_label": 1}) == []
    assert dataset.faults_of({"gt_label": 2}) == ["label 2 is outside 0..1 (2 classes)"]
    assert dataset.faults_of({"gt_label": -1}) == ["label -1 is outside 0..1 (2 classes)"]


def test_base_datasets_looks_into_wrappers():
    first, second, third = Numbers(), Numbers(), Numbers()

    nested = SimpleNamespace(datasets=[first, SimpleNamespace(dataset=second), third])

    assert list(base_datasets(nested)) == [first, second, third]
    assert list(base_datasets(ConcatDataset([first, second]))) == [first, second]
    assert list(base_datasets(RepeatDataset(first, times=2))) == [first]
    assert list(base_datasets(first)) == [first]
    assert list(base_datasets([1, 2])) == []


def test_images_are_there():
    require_images(3, Path("nowhere"), "pictures", "a.png")


@pytest.mark.parametrize(
    ("folder", "state"), [("nowhere", "does not exist"), ("", "holds none of them")]
)
def test_no_images(tmp_path, folder, state):
    tried = tmp_path / folder

    with pytest.raises(DataError) as caught:
        require_images(0, tried, "one folder per class", "good/a.png")

    assert str(caught.value) == (
        f"found 0 images: {str(tried)!r} {state}. Expected: one folder per class, e.g. good/a.png. "
        "Set data_root (and train, val) in the config."
    )


@pytest.mark.parametrize(
    ("name", "left_out", "state"),
    [
        ("train.csv", [], "is a file but no list: lists end in .txt"),
        ("train.txt", [], "holds none of them. Expected"),
        ("pipe", [], "cannot be read: a named pipe, no file"),
        ("folder", [(Path("a.gif"), NO_IMAGE)], "holds none of them (1 file is no image (.gif 1))"),
        ("folder", [(Path("a"), "permission denied")], "holds none of them ('a' is permission"),
    ],
)
def test_a_split_without_images_says_what_it_is(tmp_path, name, left_out, state):
    (tmp_path / "train.csv").touch()
    (tmp_path / "train.txt").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=re.escape(f"{name}' {state}")):
        require_images(0, tmp_path / name, "a folder", "a.png", left_out)
