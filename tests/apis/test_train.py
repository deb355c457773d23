from __future__ import annotations

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from aicore.apis import test as run_test
from aicore.apis import train
from aicore.errors import CheckpointError, ConfigError


def log_of(work_dir) -> str:
    (file,) = work_dir.glob("*/*.log")
    return file.read_text(encoding="utf-8")


def scalars_of(work_dir) -> list[dict]:
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def steps_of(work_dir) -> list[dict]:
    """Returns the JSON log's lines of the training's iterations."""
    return [line for line in scalars_of(work_dir) if "loss" in line]


# ---- what a training leaves ----


def test_the_work_dir(trained):
    work_dir = trained.work_dir

    assert trained.checkpoint.parent == trained.last_checkpoint.parent == work_dir
    assert re.fullmatch(r"best_accuracy_top1_epoch_[123]\.pth", trained.checkpoint.name)
    last = {file.name for file in work_dir.glob("epoch_*.pth")}
    assert last == {"epoch_2.pth", "epoch_3.pth"}
    assert trained.last_checkpoint.name == "epoch_3.pth"
    assert len(list(work_dir.glob("*/*.log"))) == 1
    assert len(list(work_dir.glob("*/vis_data/scalars.json"))) == 1
    (events,) = work_dir.glob("*/vis_data/events.out.tfevents.*")
    assert events.stat().st_size > 500


def test_the_config_in_the_work_dir_is_the_one_that_ran(trained):
    dumped = Config.fromfile(trained.work_dir / trained.config.name)

    assert dumped.max_epochs == 3
    assert dumped.classes == ("bright", "dark", "striped")
    assert dumped.model.num_classes == 3
    assert dumped.work_dir == str(trained.work_dir)


def test_an_iterations_log_line(trained):
    lines = re.findall(r"Epoch\(train\) .*", log_of(trained.work_dir))

    assert len(lines) == 9
    number = r"[\d.e+-]+"
    assert re.fullmatch(
        rf"Epoch\(train\) \[2\]\[1/3\]  lr: {number}  eta: \d:\d\d:\d\d  time: {number}  "
        rf"data_time: {number}  loss: {number}  memory: \d+ *",
        lines[3],
    )


def test_the_json_log(trained):
    steps = steps_of(trained.work_dir)

    assert [step["iter"] for step in steps] == list(range(1, 10))
    assert [step["epoch"] for step in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert all({"lr", "time", "data_time", "memory", "loss"} <= step.keys() for step in steps)
    assert all(10 < step["memory"] < 100_000 for step in steps)  # MB
    validations = [line for line in scalars_of(trained.work_dir) if "accuracy/top1" in line]
    assert [line["not_inspected"] for line in validations] == [0, 0, 0]
    assert {"single-label/precision", "single-label/recall", "single-label/f1-score"} <= (
        validations[0].keys()
    )


def test_the_last_lines_name_the_best_result(trained):
    validations = [line for line in scalars_of(trained.work_dir) if "accuracy/top1" in line]
    best = max(line["accuracy/top1"] for line in validations)

    lines = log_of(trained.work_dir).splitlines()

    # Not the very last: what other tests log to MMEngine's current logger can follow.
    (first,) = [number for number, line in enumerate(lines) if "Best accuracy/top1: " in line]
    assert lines[first].endswith(f"{best:.4f}, checkpoint: {trained.checkpoint}")
    assert lines[first + 1].endswith(f"Last checkpoint: {trained.last_checkpoint}")
    assert not any("Epoch(" in line for line in lines[first:])


def test_it_has_learnt(trained):
    losses = [step["loss"] for step in steps_of(trained.work_dir)]

    assert min(losses[-3:]) < 0.7 * losses[0]


# ---- going on ----


def test_resume_goes_on_with_the_next_epoch(trained, tmp_path):
    shutil.copy(trained.last_checkpoint, tmp_path)
    options = {"max_epochs": 4, "load_from": str(trained.checkpoint)}

    runner = train(trained.config, work_dir=tmp_path, resume=True, options=options)

    assert runner.epoch == 4
    steps = steps_of(tmp_path)
    assert [(step["epoch"], step["iter"]) for step in steps] == [(4, 10), (4, 11), (4, 12)]
    before = [step["loss"] for step in steps_of(trained.work_dir)]
    assert steps[0]["loss"] < before[0]
    assert "resumed epoch: 3, iter: 9" in log_of(tmp_path)


def test_resume_needs_no_pretrained_weights(trained, tmp_path):
    options = {"max_epochs": 3, "pretrained": "gone.pth"}

    runner = train(trained.config, tmp_path, resume=trained.last_checkpoint, options=options)

    assert runner.epoch == 3


def test_resume_in_an_empty_folder_begins(small_config, tmp_path):
    work_dir = tmp_path / "work"

    runner = train(small_config(resume=True), work_dir=work_dir)

    assert runner.epoch == 1
    assert f"--resume: no checkpoint in {work_dir}, training starts from the" in log_of(work_dir)


def test_resume_and_load_from_exclude_each_other(leaf_config, trained):
    with pytest.raises(ConfigError, match="--resume and --load-from exclude each other"):
        train(leaf_config, resume=True, load_from=trained.checkpoint)


@pytest.mark.parametrize("argument", ["resume", "load_from"])
def test_a_missing_checkpoint(leaf_config, tmp_path, argument):
    with pytest.raises(CheckpointError, match=r"checkpoint 'nowhere\.pth' does not exist"):
        train(leaf_config, work_dir=tmp_path / "work", **{argument: "nowhere.pth"})

    assert not (tmp_path / "work").exists()


# ---- settings ----


def test_auto_scale_lr_follows_the_batch_size(small_config, tmp_path):
    work_dir = tmp_path / "work"

    train(small_config(warmup_epochs=0), work_dir=work_dir, auto_scale_lr=True)

    assert steps_of(work_dir)[0]["lr"] == pytest.approx(0.001 * 8 / 32)


def test_auto_scale_lr_needs_its_base(small_config, tmp_path):
    config = small_config(auto_scale_lr=dict(_delete_=True, enable=False))

    with pytest.raises(ConfigError, match=r"--auto-scale-lr needs auto_scale_lr = dict\("):
        train(config, work_dir=tmp_path, auto_scale_lr=True)


def test_early_stopping(small_config, tmp_path):
    work_dir = tmp_path / "work"
    options = {"custom_hooks.0.min_delta": 1000}  # nothing counts as better

    runner = train(small_config(max_epochs=6, patience=1), work_dir=work_dir, options=options)

    assert runner.epoch == 2
    assert (work_dir / "epoch_2.pth").exists()
    assert "Last checkpoint: " in log_of(work_dir)


def test_the_seed_decides(small_config, tmp_path):
    losses = {}
    for run, seed in {"first": 0, "same": 0, "other": 1}.items():
        folder = tmp_path / run
        file = shutil.copy(small_config(seed=seed), tmp_path / f"{tmp_path.name}_{run}.py")
        train(file, work_dir=folder)
        losses[run] = [step["loss"] for step in steps_of(folder)]

    assert losses["first"] == pytest.approx(losses["same"], rel=1e-4)
    assert losses["first"][0] != pytest.approx(losses["other"][0], rel=1e-4)


# ---- other images ----


def test_grey_images_of_sixteen_bits(class_folders, small_config, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(class_folders, data)
    for file in data.rglob("*.png"):
        grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE).astype(np.uint16)
        cv2.imwrite(str(file), grey * 16)  # of a camera of 12 bits
    config = small_config(data_root=str(data), in_channels=1, white_level=4095)

    runner = train(config, work_dir=tmp_path / "work")
    checkpoint = runner.message_hub.get_info("best_ckpt")
    metrics = run_test(config, checkpoint, out=tmp_path / "test")

    assert next(runner.model.parameters()).shape[1] == 1
    best = runner.message_hub.get_info("best_score")
    assert metrics["accuracy/top1"] == pytest.approx(float(best))
    assert metrics["not_inspected"] == 0
