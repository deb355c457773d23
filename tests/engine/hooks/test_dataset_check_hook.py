from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from aicore.classification.datasets import ClassificationDataset
from aicore.datasets.findings import ERROR, NOTE, WARNING, Finding
from aicore.engine.hooks import DatasetCheckHook
from aicore.errors import DataError

IMAGES = 20  # of each class


@pytest.fixture
def data_root(tmp_path) -> Path:
    _, png = cv2.imencode(".png", np.zeros((8, 8), np.uint8))
    for split in ("train", "val"):
        for name in ("dent", "good"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(IMAGES):
                (tmp_path / split / name / f"{index:02}.png").write_bytes(png.tobytes())
    return tmp_path


def check(hook: DatasetCheckHook, train, val=None) -> None:
    loader = SimpleNamespace(dataset=val)
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=train),
        val_loop=None if val is None else SimpleNamespace(dataloader=loader),
        val_dataloader=loader,
        logger=logging.getLogger("dataset check"),
    )
    hook.before_train(runner)


def check_test(hook: DatasetCheckHook, test) -> None:
    hook.before_test(
        SimpleNamespace(
            test_dataloader=SimpleNamespace(dataset=test),
            logger=logging.getLogger("dataset check"),
        )
    )


def folders(data_root: Path, split: str, **kwargs) -> ClassificationDataset:
    return ClassificationDataset(split, data_root=str(data_root), **kwargs)


def messages(caplog, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@pytest.fixture(autouse=True)
def log_everything(caplog) -> None:
    caplog.set_level(logging.INFO)


def test_a_line_for_each_split(data_root, caplog):
    (data_root / "val/good/00.png").unlink()
    check(DatasetCheckHook(), folders(data_root, "train"), folders(data_root, "val"))
    assert messages(caplog, logging.INFO) == [
        "train: 40 images, dent 20, good 20",
        "val: 39 images, dent 20, good 19",
    ]
    assert messages(caplog, logging.WARNING) == []


def test_training_without_validation(data_root, caplog):
    check(DatasetCheckHook(), folders(data_root, "train"))
    assert messages(caplog, logging.INFO) == ["train: 40 images, dent 20, good 20"]


def test_many_classes_make_one_short_line(tmp_path, caplog):
    for index in range(30):
        for image in range(1 + (index == 7)):
            file = tmp_path / "train" / f"class_{index:02}" / f"{image}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"image")
    check(DatasetCheckHook(), folders(tmp_path, "train"))
    assert messages(caplog, logging.INFO) == [
        "train: 31 images, 30 classes, from 1 (class_00) to 2 (class_07) labels each"
    ]


def test_few_missing_files_are_a_warning(data_root, caplog):
    train = folders(data_root, "train")
    (data_root / "train/good/03.png").unlink()
    (data_root / "train/dent/04.png").write_bytes(b"")
    check(DatasetCheckHook(), train)
    (warning,) = messages(caplog, logging.WARNING)
    assert "2 of 40 train images (5.0%) are missing or empty" in warning
    assert "03.png (no such file or directory)" in warning
    assert "04.png (the file is empty (0 bytes))" in warning


def test_many_missing_files_stop_the_run(data_root):
    train = folders(data_root, "train")
    for index in range(3):
        (data_root / f"train/good/{index:02}.png").unlink()
    with pytest.raises(DataError, match=r"3 of 40 train images \(7.5%\).*00\.png.*Allowed are 5%"):
        check(DatasetCheckHook(), train)
    check(DatasetCheckHook(max_bad_share=0.1), train)


def test_missing_files_of_the_validation_stop_the_run(data_root):
    train, val = folders(data_root, "train"), folders(data_root, "val")
    for file in (data_root / "val/good").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"20 of 40 val images \(50.0%\)"):
        check(DatasetCheckHook(), train, val)


def test_faulty_annotations_stop_the_run(data_root, monkeypatch):
    train = folders(data_root, "train")
    monkeypatch.setattr(train, "labels_of", lambda record: [record["gt_label"] + 1])
    with pytest.raises(DataError, match=r"Faults .* train \(20\): .*label 2 is outside 0\.\.1"):
        check(DatasetCheckHook(), train)


def test_what_a_data_set_says_of_itself(data_root, monkeypatch, caplog):
    train, said = folders(data_root, "train"), [Finding(NOTE, "one size only")]
    monkeypatch.setattr(train, "findings", lambda: said)
    check(DatasetCheckHook(), train)
    assert messages(caplog, logging.WARNING) == []

    said.append(Finding(WARNING, "2 files are no images", ["a.gif", "b.pgm"]))
    check(DatasetCheckHook(), train)
    (warning,) = messages(caplog, logging.WARNING)
    assert warning.startswith("train: 2 files are no images: a.gif; b.pgm.")

    said.append(Finding(ERROR, "all boxes are ignored"))
    with pytest.raises(DataError, match=r"^train: all boxes are ignored\. .*check_dataset"):
        check(DatasetCheckHook(), train)


def test_a_class_without_images_is_a_warning(data_root, caplog):
    train = folders(data_root, "train", metainfo=dict(classes=("dent", "good", "rust")))
    check(DatasetCheckHook(), train)
    assert messages(caplog, logging.WARNING) == ["train has no label of rust."]


def test_the_same_files_in_both_splits_are_a_warning(data_root, tmp_path, caplog):
    lists = {
        "train": [f"train/{name}/0{i}.png" for name in ("good", "dent") for i in range(2)],
        "val": ["train/good/00.png"],
    }
    (data_root / "labels.txt").write_text("dent\ngood\n")
    for name, paths in lists.items():
        lines = [f"{path} {path.split('/')[1]}\n" for path in paths]
        (data_root / f"{name}.txt").write_text("".join(lines))
    # The same file under another spelling.
    spelling = data_root / "train" / ".."
    val = ClassificationDataset(str(data_root / "val.txt"), data_root=str(spelling), test_mode=True)
    check(DatasetCheckHook(), folders(data_root, "train.txt"), val)
    warnings = messages(caplog, logging.WARNING)
    assert len(warnings) == 2
    assert warnings[0] == "val has no label of dent."
    assert "1 of 1 val images are train images as well" in warnings[1]


def test_faulty_annotations_stop_a_test(data_root, monkeypatch):
    test = folders(data_root, "val", test_mode=True)
    monkeypatch.setattr(test, "labels_of", lambda record: [record["gt_label"] + 1])
    with pytest.raises(DataError, match=r"Faults .* test \(20\): .*label 2 is outside 0\.\.1"):
        check_test(DatasetCheckHook(), test)


def test_a_test_goes_on_with_missing_files_and_one_class(data_root, monkeypatch, caplog):
    test = folders(data_root, "val", test_mode=True)
    monkeypatch.setattr(test, "findings", lambda: [Finding(ERROR, "all images are good")])
    for file in (data_root / "val").rglob("*.png"):
        file.unlink()

    check_test(DatasetCheckHook(), test)

    assert messages(caplog, logging.INFO) == ["test: 40 images, dent 20, good 20"]
    found, missing = messages(caplog, logging.WARNING)
    assert found.startswith("test: all images are good. ")
    assert missing.startswith("40 of 40 test images (100.0%) are missing or empty: ")


def test_it_runs_before_training(trained):
    log = next(trained.work_dir.glob("*/*.log")).read_text(encoding="utf-8")
    assert "train: 24 images, bright 8, dark 8, striped 8" in log
    assert "val: 12 images, bright 4, dark 4, striped 4" in log
