"""Anomaly detection from a config to figures: fit, threshold, test, demo, resume, processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aicore.anomaly import AnomalyInferencer
from aicore.apis import infer, train
from aicore.apis import test as evaluate
from aicore.engine.checkpoint import read_checkpoint
from aicore.errors import CheckpointError, DataError
from tests.conftest import REPOSITORY

SIDE = 64
DEFECTS = ("hole", "stain")
# Small, and with a statistics' position every 4 pixels.
MODEL = dict(pretrained=False, num_features=20, image_size=SIDE, batch_size=4, num_workers=0)


def draw(generator: np.random.Generator, defect: str | None = None):
    """Returns a striped picture, SIDE x SIDE x 3 uint8, and its mask."""
    image = np.full((SIDE, SIDE, 3), 150.0) + 30 * (np.arange(SIDE) % 16 < 8)[:, None, None]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if defect:
        x, y = generator.integers(4, SIDE - 24, 2)
        mask[y : y + 18, x : x + 18] = 255
        image[mask > 0] = 10 if defect == "hole" else (200, 60, 30)
    return np.clip(image + generator.normal(0, 4, image.shape), 0, 255).astype(np.uint8), mask


def write_parts(root: Path, good: int = 22, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for folder in ("train/good", "test/good", *(f"test/{d}" for d in DEFECTS)):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index in range(good):
        cv2.imwrite(str(root / f"train/good/{seed}_{index:02}.png"), draw(generator)[0])
    for index in range(4):
        cv2.imwrite(str(root / f"test/good/{index}.png"), draw(generator)[0])
        for defect in DEFECTS:
            image, mask = draw(generator, defect)
            (root / "ground_truth" / defect).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / f"test/{defect}/{index}.png"), image)
            cv2.imwrite(str(root / f"ground_truth/{defect}/{index}_mask.png"), mask)
    return root


def write_config(file: Path, data_root: Path, **settings) -> Path:
    base = REPOSITORY / "configs/anomaly/padim_resnet18.py"
    lines = [f"_base_ = {base.as_posix()!r}", f"data_root = {data_root.as_posix()!r}"]
    lines += [f"{name} = {value!r}" for name, value in {**MODEL, **settings}.items()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def gaussians(checkpoint: Path) -> dict[str, torch.Tensor]:
    weights = read_checkpoint(checkpoint)["state_dict"]
    return {name: weights[f"method.{name}"] for name in ("count", "mean", "factor")}


def assert_same(one: Path, other: Path, tolerance: float = 0.0) -> None:
    first, second = gaussians(one), gaussians(other)
    for name, value in first.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(second[name], value, rtol=0, atol=tolerance * scale)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def fitted(parts, tmp_path_factory) -> tuple[Path, Path]:
    """Config, and the work dir of its fit."""
    folder = tmp_path_factory.mktemp("fitted")
    config = write_config(folder / "flow.py", parts)
    train(config, folder / "work")
    return config, folder / "work"


def test_defects_are_found(fitted, tmp_path):
    config, work_dir = fitted

    metrics = evaluate(config, work_dir / "epoch_1.pth", tmp_path)

    assert metrics["image_AUROC"] == 100
    assert metrics["pixel_AUROC"] > 90
    assert metrics["AUPRO"] > 70
    assert metrics["escape"] == 0
    written = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert set(written["defect_types"]) >= set(DEFECTS)
    records = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert len(records) == 12
    for picture in ("score_histograms", "examples", "confusion_matrix"):
        assert (tmp_path / f"{picture}.png").stat().st_size > 5_000


def test_a_random_backbone_is_told(fitted):
    (log,) = fitted[1].glob("*/*.log")
    assert "WARNING - pretrained = False: unless" in log.read_text(encoding="utf-8")


def test_a_fault_in_the_test_data_is_told_before_the_first_batch(fitted, parts, tmp_path):
    _, work_dir = fitted
    broken = shutil.copytree(parts, tmp_path / "data")
    cv2.imwrite(str(broken / "ground_truth/stain/3_mask.png"), np.zeros((7, 7), np.uint8))
    config = write_config(tmp_path / "broken.py", broken)

    with pytest.raises(DataError, match=r"Faults in the annotations of test .*3_mask\.png"):
        evaluate(config, work_dir / "epoch_1.pth", tmp_path / "out")

    assert not (tmp_path / "out/predictions.json").exists()


def test_the_checkpoint_says_how_the_threshold_came_about(fitted):
    _, work_dir = fitted

    checkpoint = read_checkpoint(work_dir / "epoch_1.pth")

    kept = checkpoint["meta"]["threshold"]
    assert kept["good"] == 2  # a tenth of 22
    assert kept["value"] == pytest.approx(float(checkpoint["state_dict"]["threshold"]))


def test_demo_and_inferencer_say_what_the_test_says(fitted, parts, tmp_path):
    config, work_dir = fitted
    checkpoint = work_dir / "epoch_1.pth"
    evaluate(config, checkpoint, tmp_path / "test")
    tested = json.loads((tmp_path / "test/predictions.json").read_text(encoding="utf-8"))
    image = parts / "test/hole/1.png"
    expected = next(record for record in tested if record["image"] == str(image))

    (shown,) = infer(config, checkpoint, image, tmp_path / "demo")
    (found,) = AnomalyInferencer(config, checkpoint)(cv2.imread(str(image)))["predictions"]

    assert shown["prediction"] == found["prediction"] == "ng"
    for record in (shown, found):
        assert record["pred_distance"] == pytest.approx(expected["pred_distance"], rel=1e-5)
        assert record["pred_ng_score"] == pytest.approx(expected["pred_ng_score"], rel=1e-5)
    for file in ("1.png", "heat_maps/1.png", "masks/1.png"):
        assert (tmp_path / "demo" / file).is_file()


DIES = """
import os, signal, sys
from mmengine.hooks import Hook
from aicore.apis import train
from aicore.registry import HOOKS

@HOOKS.register_module()
class DieHook(Hook):
    priority = "LOWEST"  # after the checkpoint
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 3:
            os.kill(os.getpid(), signal.SIGKILL)

train(sys.argv[1], sys.argv[2], options={"default_hooks.die": dict(type="aicore.DieHook"),
                                         "interval_iters": 3})
"""


@pytest.mark.slow
def test_killed_while_fitting_and_resumed_gives_the_same_factor(fitted, tmp_path):
    config, work_dir = fitted
    process = subprocess.run(
        [sys.executable, "-c", DIES, str(config), str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert process.returncode == -9, process.stderr.decode()[-2000:]
    assert [file.name for file in tmp_path.glob("*.pth")] == ["epoch_0_iter_3.pth"]
    with pytest.raises(CheckpointError, match="interrupted, on other images than the config's"):
        train(
            config,
            tmp_path / "others",
            resume=str(tmp_path / "epoch_0_iter_3.pth"),
            options={"split_seed": 1},
        )

    train(config, tmp_path, resume=True)

    assert_same(work_dir / "epoch_1.pth", tmp_path / "epoch_1.pth")


@pytest.mark.slow
def test_two_processes_fit_what_one_fits(parts, tmp_path):
    # 19 images in batches of 4: the processes' shares differ, and one image would be repeated.
    config = write_config(tmp_path / "flow.py", parts, held_out=0.14)
    train(config, tmp_path / "one")

    process = subprocess.run(
        ["tools/dist_train.sh", config, "2", "--work-dir", tmp_path / "two"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
        text=True,
    )

    assert process.returncode == 0, process.stderr[-3000:]
    assert float(gaussians(tmp_path / "two/epoch_1.pth")["count"].max()) == 19
    assert_same(tmp_path / "one/epoch_1.pth", tmp_path / "two/epoch_1.pth", tolerance=1e-5)
    scores = [
        read_checkpoint(tmp_path / name / "epoch_1.pth")["meta"]["threshold"]["value"]
        for name in ("one", "two")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_more_good_images_are_added(tmp_path):
    old = write_parts(tmp_path / "old")
    new = write_parts(tmp_path / "new", good=10, seed=5)
    config = write_config(tmp_path / "flow.py", old, val="test/good")
    train(config, tmp_path / "first")

    resume = str(tmp_path / "first/epoch_1.pth")
    train(config, tmp_path / "added", resume=resume, options={"data_root": str(new)})

    for file in (old / "train/good").glob("*.png"):
        (new / "train/good" / file.name).write_bytes(file.read_bytes())
    train(config, tmp_path / "whole", options={"data_root": str(new), "batch_size": 7})
    assert float(gaussians(tmp_path / "added/epoch_1.pth")["count"].max()) == 32
    assert_same(tmp_path / "whole/epoch_1.pth", tmp_path / "added/epoch_1.pth", tolerance=1e-5)


def test_images_are_not_added_twice(fitted, parts, tmp_path):
    config, work_dir = fitted
    train(config, tmp_path / "again", resume=str(work_dir / "epoch_1.pth"))  # nothing to add
    assert not (tmp_path / "again/epoch_2.pth").exists()

    mixed = write_parts(tmp_path / "mixed", good=4, seed=8)
    for file in sorted((parts / "train/good").glob("*.png"))[:8]:
        (mixed / "train/good" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=r"are in the model of .* already"):
        train(
            config,
            tmp_path / "mix",
            resume=str(work_dir / "epoch_1.pth"),
            options={"data_root": str(mixed)},
        )


def test_nothing_is_added_to_what_was_trained_by_gradients(fitted, trained, tmp_path):
    with pytest.raises(CheckpointError, match="not of a fit in one pass"):
        train(fitted[0], tmp_path / "gradients", resume=str(trained.last_checkpoint))


def test_a_defective_image_in_the_training_is_refused(parts, tmp_path):
    config = write_config(tmp_path / "flow.py", parts, train="test")

    with pytest.raises(DataError, match="good images only"):
        train(config, tmp_path / "work")


def test_an_unreadable_image_is_left_out(tmp_path):
    root = write_parts(tmp_path / "parts")
    broken = sorted((root / "train/good").glob("*.png"))[3]
    broken.write_bytes(broken.read_bytes()[:100])
    config = write_config(tmp_path / "flow.py", root, held_out=0.0, val="test/good")

    train(config, tmp_path / "unreadable", options={"default_hooks.bad_images.max_share": 0.2})

    assert float(gaussians(tmp_path / "unreadable/epoch_1.pth")["count"].max()) == 21
    (log,) = (tmp_path / "unreadable").glob("*/*.log")
    assert "1 of 22 training images cannot be read and were left out" in log.read_text()


@pytest.mark.parametrize(
    "settings",
    [
        dict(in_channels=1, image_size=(75, 50), reduction="semi_orthogonal"),
        pytest.param(dict(tile_size=32, sigma=2.0), marks=pytest.mark.slow),
        pytest.param(dict(half=True, batch_size=1), marks=pytest.mark.slow),
        pytest.param(dict(amp="bfloat16", channels_last=True), marks=pytest.mark.slow),
        dict(roi="roi.png"),
        pytest.param(dict(threshold=7.0), marks=pytest.mark.slow),
    ],
    ids=["grey, odd size", "tiles", "half, batch of one", "bfloat16", "ROI", "fixed threshold"],
)
def test_settings(parts, tmp_path, settings):
    roi = np.zeros((SIDE, SIDE), np.uint8)
    roi[:, 8:] = 255
    cv2.imwrite(str(parts / "roi.png"), roi)
    config = write_config(tmp_path / "flow.py", parts, **settings)

    train(config, tmp_path / "work")
    metrics = evaluate(config, tmp_path / "work/epoch_1.pth", tmp_path / "test")

    assert metrics["image_AUROC"] > 80
    assert metrics["not_inspected"] == 0


def test_sixteen_bit_images(tmp_path):
    root = write_parts(tmp_path / "parts")
    for file in root.glob("t*/*/*.png"):
        image = cv2.imread(str(file))[..., 1].astype(np.uint16) * 16
        cv2.imwrite(str(file), image)
    config = write_config(tmp_path / "flow.py", root, in_channels=1, white_level=4095)

    train(config, tmp_path / "work")

    assert evaluate(config, tmp_path / "work/epoch_1.pth", tmp_path / "test")["image_AUROC"] > 95
