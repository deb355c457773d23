"""Detection through the tools' own functions: train, resume, test, demo, check, browse."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aicore.apis import browse, infer, measure_complexity, open_config, train
from aicore.apis import test as run_test
from aicore.datasets.check import check_config
from aicore.detection import DetectionInferencer
from aicore.errors import DataError
from tests.conftest import REPOSITORY
from tests.flows.test_kill_and_resume import differences, finish, start, wait_for_iteration

CONFIGS = REPOSITORY / "configs/detection"
CLASSES = ("dark", "bright")
SIDE = 64


def draw_scene(seed: int) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """Returns a noisy grey image with up to two rectangles, and their classes and boxes (xywh)."""
    generator = np.random.default_rng(seed)
    image = generator.normal(128, 5, (SIDE, SIDE, 3))
    boxes = []
    for column in range(seed % 3):
        label = int(generator.integers(2))
        width, height = (int(side) for side in generator.integers(14, 26, 2))
        x = 32 * column + int(generator.integers(0, 32 - width))
        y = int(generator.integers(0, SIDE - height))
        image[y : y + height, x : x + width] += (-90, 90)[label]
        boxes.append((label, [x, y, width, height]))
    return image.clip(0, 255).astype(np.uint8), boxes


def write_scenes(root: Path, counts: dict[str, int]) -> Path:
    """Writes scenes as COCO files and folders of images."""
    for split, count in counts.items():
        folder = root / "images" / split
        folder.mkdir(parents=True)
        content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": n} for i, n in enumerate(CLASSES, start=1)],
        }
        for number in range(count):
            image, boxes = draw_scene(number + (1000 if split == "val" else 0))
            cv2.imwrite(str(folder / f"{number}.png"), image)
            content["images"].append(
                {"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE}
            )
            for label, box in boxes:
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": number,
                        "category_id": label + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/{split}.json").write_text(json.dumps(content))
    return root


def write_config(file: Path, data_root: Path, **settings) -> Path:
    """Writes a leaf config for a training of a few seconds."""
    settings = {
        "data_root": data_root.as_posix(),
        "image_size": SIDE,
        "batch_size": 4,
        "num_workers": 0,
        "max_epochs": 2,
        "last_epochs": 1,
        "warmup_epochs": 0,
        "log_interval": 1,
        **settings,
    }
    lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
    base = (CONFIGS / "yolox_nano.py").as_posix()
    file.write_text(f"_base_ = {base!r}\n{''.join(lines)}")
    return file


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """24 training and 8 validation pictures; one for validation cannot be read."""
    root = write_scenes(tmp_path_factory.mktemp("flow"), {"train": 24, "val": 8})
    (root / "images/val/4.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def trained(data_root, tmp_path_factory):
    """A config and the runner of its training, long enough to find some rectangles."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(
        folder / "flow.py",
        data_root,
        max_epochs=50,
        last_epochs=50,
        learning_rate=0.32,
        ema_momentum=0.05,
    )
    runner = train(config, folder / "work", options={"train_cfg.val_interval": 25})
    return config, runner


@pytest.fixture(scope="module")
def tested(trained, tmp_path_factory):
    config, runner = trained
    out = tmp_path_factory.mktemp("tested")
    return run_test(config, runner.message_hub.get_info("best_ckpt"), out), out


def test_a_fault_in_the_test_data_is_told_before_the_first_batch(trained, data_root, tmp_path):
    _, runner = trained
    broken = shutil.copytree(data_root, tmp_path / "data")
    file = broken / "annotations/val.json"
    content = json.loads(file.read_text())
    content["annotations"][-1]["bbox"][2] *= -1
    file.write_text(json.dumps(content))
    config = write_config(tmp_path / "broken.py", broken)

    with pytest.raises(DataError, match="Faults in the annotations of test"):
        run_test(config, runner.message_hub.get_info("best_ckpt"), tmp_path / "out")

    assert not (tmp_path / "out/predictions.json").exists()


def test_it_learns(trained):
    _, runner = trained

    assert runner.message_hub.get_info("best_score") > 20
    assert runner.cfg.monitor == "AP"


def test_a_test_leaves_figures_and_pictures(tested):
    metrics, out = tested

    content = json.loads((out / "metrics.json").read_text())
    assert metrics["AP"] == content["AP"]
    assert metrics["not_inspected"] == 1
    assert list(content["classes"]) == list(CLASSES)
    for name in ("confusion_matrix.png", "examples.png", "precision_recall.png"):
        assert cv2.imread(str(out / name)) is not None
    records = json.loads((out / "predictions.json").read_text())
    assert [record["inspected"] for record in records] == [n != 4 for n in range(8)]
    assert all("truth" in record for record in records)


def test_time_augmentation(trained, tmp_path):
    config, runner = trained

    metrics = run_test(config, runner.message_hub.get_info("best_ckpt"), tmp_path, tta=True)

    assert metrics["AP50"] > 20


def test_a_demo_draws_what_the_inferencer_finds(trained, data_root, tmp_path):
    config, runner = trained
    checkpoint = runner.message_hub.get_info("best_ckpt")
    images = data_root / "images/train"

    infer(config, checkpoint, str(images), tmp_path)

    records = json.loads((tmp_path / "predictions.json").read_text())
    assert len(records) == 24
    assert cv2.imread(str(tmp_path / "1.png")) is not None
    found = DetectionInferencer(config, checkpoint)(images / "1.png")["predictions"][0]
    expected = next(r for r in records if r["image"].endswith("/1.png"))
    # Alone and in a batch, sums are added up in another order.
    assert len(found["pred_boxes"]) == len(expected["pred_boxes"]) > 0
    for one, other in zip(found["pred_boxes"], expected["pred_boxes"], strict=True):
        assert one["class"] == other["class"]
        assert one["box"] == pytest.approx(other["box"], abs=0.01)
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_a_large_image_by_tiles(trained, tmp_path):
    config, runner = trained
    parts = [draw_scene(seed)[0] for seed in (4, 3, 3, 7)]  # objects in the first and the last
    image = np.concatenate([np.concatenate(parts[:2], 1), np.concatenate(parts[2:], 1)])
    inferencer = DetectionInferencer(
        config, runner.message_hub.get_info("best_ckpt"), options={"tile_size": SIDE}
    )

    found = inferencer(image)["predictions"][0]["pred_boxes"]

    assert any(box["box"][0] < SIDE and box["box"][1] < SIDE for box in found)
    assert any(box["box"][0] > SIDE - 8 and box["box"][1] > SIDE - 8 for box in found)


@pytest.mark.parametrize(
    "settings",
    [
        dict(in_channels=1, multi_scale=(48, 64)),
        pytest.param(dict(tile_size=48, image_size=48), marks=pytest.mark.slow),
        pytest.param(dict(mixup=1.0, mosaic_cache=6, channels_last=True), marks=pytest.mark.slow),
        pytest.param(dict(amp="bfloat16", balance=0.5), marks=pytest.mark.slow),
    ],
    ids=["grey, multi-scale", "tiles", "mixup, cache", "bfloat16, balanced"],
)
def test_settings(data_root, tmp_path, settings):
    config = write_config(tmp_path / "flow.py", data_root, **settings)

    runner = train(config, tmp_path / "work", options={"batch_size": 8})

    assert runner.epoch == 2
    assert (tmp_path / "work/epoch_2.pth").is_file()


@pytest.mark.slow
def test_killed_and_resumed_over_the_switch_it_is_the_same(data_root, tmp_path):
    config = write_config(tmp_path / "flow.py", data_root, max_epochs=4, num_workers=2)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(config, whole), whole)

    process = start(config, killed)
    wait_for_iteration(process, killed, 2 * 6 + 1)  # in the third epoch of 6 iterations
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finish(start(config, killed, "--resume"), killed)

    states = []
    for work_dir in (whole, killed):
        checkpoint = torch.load(work_dir / "epoch_4.pth", weights_only=False)
        states.append({k: v for k, v in checkpoint.items() if k not in ("meta", "message_hub")})
    assert differences(*states) == []


def test_the_check_names_file_and_object(data_root, tmp_path):
    root = write_scenes(tmp_path / "data", {"train": 6, "val": 6})
    file = root / "annotations/train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [5, 5, 0, 9]
    file.write_text(json.dumps(content))
    config = write_config(tmp_path / "flow.py", root)

    with pytest.raises(DataError, match=r"train.*annotation.* 1\b"):
        train(config, tmp_path / "work")

    report = str(check_config(open_config(config)))
    assert "faults in the annotations: 1" in report
    train(config, tmp_path / "dropped", options={"faults": "drop", "max_epochs": 1})


def test_browse_shows_the_mosaic_and_flops_are_counted(data_root, tmp_path):
    config = write_config(tmp_path / "flow.py", data_root)

    assert cv2.imread(str(browse(config, out=tmp_path / "browse.png", count=4))) is not None
    assert {"backbone", "neck", "bbox_head"} <= set(measure_complexity(config).modules)


def test_a_validation_without_any_object(tmp_path):
    root = write_scenes(tmp_path / "data", {"train": 8, "val": 1})  # the first scene is empty
    file = root / "annotations/val.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    config = write_config(tmp_path / "flow.py", root)

    runner = train(config, tmp_path / "work")

    assert runner.epoch == 2
    assert not list((tmp_path / "work").glob("best_*"))
    (log,) = (tmp_path / "work").glob("*/*.log")
    assert "AP is not defined for the validation data" in log.read_text()


def strict(file: Path) -> dict:
    """Returns a JSON file that holds nothing but JSON, no NaN."""

    def refuse(text: str) -> None:
        raise AssertionError(text)

    return json.loads(file.read_text(), parse_constant=refuse)


def test_figures_that_are_not_defined_are_null(tested):
    assert strict(tested[1] / "metrics.json")["APl"] is None
