from __future__ import annotations

import json
import multiprocessing
import shutil

import pytest

from aicore.apis import train
from aicore.errors import DataError

REASON = "it is not an image; expected jpg, png, bmp, tif, webp, pgm or ppm"


@pytest.fixture
def data(class_folders, tmp_path):
    """A copy of the data to break."""
    return shutil.copytree(class_folders, tmp_path / "data")


def break_files(folder, count: int) -> list[str]:
    files = sorted(folder.rglob("*.png"))[:count]
    for file in files:
        file.write_bytes(b"no image")
    return [str(file) for file in files]


def validations(work_dir) -> list[dict]:
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "not_inspected" in line]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_listed_and_counted(data, small_config, tmp_path, capsys, workers):
    train_files = break_files(data / "train", 1)
    val_files = break_files(data / "val", 2)
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    (work_dir / "bad_images.txt").write_text("of an earlier run", encoding="utf-8")

    train(
        small_config(data_root=str(data), max_epochs=2),
        work_dir=work_dir,
        options={"num_workers": workers},
    )

    lines = (work_dir / "bad_images.txt").read_text(encoding="utf-8").splitlines()
    expected = [f"train\t{file}\t{REASON}" for file in train_files]
    expected += [f"val\t{file}\t{REASON}" for file in val_files]
    assert sorted(lines) == sorted(expected)
    console = capsys.readouterr().out
    assert (
        "1 of 24 training images cannot be read and were replaced by others; listed in "
        f"{work_dir / 'bad_images.txt'}"
    ) in console
    assert "Epoch(train) [2][3/3]" in console  # every batch is whole
    assert [line["not_inspected"] for line in validations(work_dir)] == [2, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_the_allowed_share_stops_the_training(data, small_config, tmp_path, workers):
    files = break_files(data / "train", 2)
    work_dir = tmp_path / "work"

    with pytest.raises(DataError) as caught:
        train(
            small_config(data_root=str(data)), work_dir=work_dir, options={"num_workers": workers}
        )

    message = str(caught.value)
    assert not multiprocessing.active_children()
    assert "2 of 24 train images (8.3%) cannot be read, more than the allowed 5%: " in message
    assert all(f"{file} ({REASON})" in message for file in files)
    assert f"All are listed in {work_dir / 'bad_images.txt'}." in message
    assert "raise default_hooks.bad_images.max_share" in message
    listed = (work_dir / "bad_images.txt").read_text(encoding="utf-8")
    assert all(file in listed for file in files)


def test_another_share_may_be_allowed(data, small_config, tmp_path):
    break_files(data / "train", 2)
    options = {"default_hooks.bad_images.max_share": 0.1}

    runner = train(small_config(data_root=str(data)), work_dir=tmp_path / "work", options=options)

    assert runner.epoch == 1


def test_joined_data_sets_share_the_list_and_the_limit(data, small_config, tmp_path):
    break_files(data / "train", 2)  # of 48: each part has the 24 images
    part = {
        "type": "aicore.ClassificationDataset",
        "data_root": str(data),
        "split": "train",
        "metainfo": {"classes": "${classes}"},
        "pipeline": "${train_pipeline}",
    }
    joined = {"type": "ConcatDataset", "datasets": [part, part]}
    config = small_config(
        data_root=str(data),
        classes=("bright", "dark", "striped"),
        train_dataloader={"dataset": {"_delete_": True, **joined}},
    )

    runner = train(config, work_dir=tmp_path / "work")

    logs = {part.bad_images.total for part in runner.train_dataloader.dataset.datasets}
    assert logs == {48}
