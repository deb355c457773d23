"""Segmentation through the tools' own functions: train, resume, test, demo, check, browse."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from aicore.apis import browse, infer, measure_complexity, open_config, publish_model, train
from aicore.apis import test as run_test
from aicore.datasets.check import check_config
from aicore.errors import DataError
from aicore.segmentation import SegmentationInferencer, to_class_map
from tests.segmentation.conftest import CLASSES, draw_scene, write_scenes

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs/segmentation"
SMALL = "test_resnet.r160_in1k"
# In batches of other sizes sums are added up in another order, which decides between classes whose
# scores are as good as equal: a share of the pixels.
TIES = 2e-3


def write_config(file: Path, data_root: Path, base: str = "unet_resnet18.py", **settings) -> Path:
    """Writes a leaf config for a training of a few seconds."""
    settings = {
        "data_root": data_root.as_posix(),
        "model_name": SMALL,
        "image_size": 64,
        "batch_size": 4,
        "num_workers": 0,
        "max_epochs": 2,
        "log_interval": 1,
        **settings,
    }
    lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
    file.write_text(f"_base_ = {(CONFIGS / base).as_posix()!r}\n{''.join(lines)}")
    return file


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """12 training and 6 validation pictures; one for validation cannot be read."""
    root = write_scenes(tmp_path_factory.mktemp("flow"), {"train": 12, "val": 6})
    (root / "images/val/4.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def trained(data_root, tmp_path_factory):
    """A config and the work dir of its training, long enough to find the shapes."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder / "flow.py", data_root, max_epochs=14, learning_rate=1e-3)
    runner = train(config, folder / "work")
    return config, runner


@pytest.fixture(scope="module")
def tested(trained, tmp_path_factory):
    config, runner = trained
    out = tmp_path_factory.mktemp("tested")
    metrics = run_test(config, runner.message_hub.get_info("best_ckpt"), out)
    return metrics, out


def differing(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of the pixels that have another class."""
    assert one.shape == other.shape
    return float((one != other).mean())


# ---- train and test ----


def test_a_fault_in_the_test_data_is_told_before_the_first_batch(trained, data_root, tmp_path):
    _, runner = trained
    broken = shutil.copytree(data_root, tmp_path / "data")
    mask = max((broken / "masks/val").iterdir())
    Image.fromarray(np.zeros((7, 7), np.uint8)).save(mask)
    config = write_config(tmp_path / "broken.py", broken)

    with pytest.raises(DataError, match=f"Faults in the annotations of test .*{mask.name}"):
        run_test(config, runner.message_hub.get_info("best_ckpt"), tmp_path / "out")

    assert not (tmp_path / "out/predictions.json").exists()


def test_it_learns(trained):
    _, runner = trained

    assert runner.message_hub.get_info("best_score") > 60
    assert runner.cfg.monitor == "mIoU"


def test_a_test_leaves_figures_and_pictures(tested):
    metrics, out = tested

    content = json.loads((out / "metrics.json").read_text())
    assert metrics["mIoU"] == content["mIoU"] > 60
    assert metrics["not_inspected"] == 1
    assert list(content["classes"]) == list(CLASSES)
    assert np.sum(content["confusion_matrix"]) == 5 * 64 * 64
    for name in ("confusion_matrix.png", "examples.png"):
        assert cv2.imread(str(out / name)) is not None


def test_the_means_are_those_of_the_matrix(tested):
    metrics, out = tested
    content = json.loads((out / "metrics.json").read_text())

    ious = [figures["IoU"] for figures in content["classes"].values()]
    assert metrics["mIoU"] == pytest.approx(np.mean(ious))
    matrix = np.array(content["confusion_matrix"])
    assert metrics["aAcc"] == pytest.approx(100 * np.trace(matrix) / matrix.sum())


def test_each_image_has_a_record(tested, data_root):
    _, out = tested

    records = json.loads((out / "predictions.json").read_text())

    assert [record["inspected"] for record in records] == [True] * 4 + [False, True]
    truth = cv2.imread(str(data_root / "masks/val/1.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(to_class_map(records[1]["truth"]), truth)
    assert "prediction" not in records[4]
    assert "truth" in records[4]


def test_time_augmentation(trained, tested, tmp_path):
    config, runner = trained

    metrics = run_test(config, runner.message_hub.get_info("best_ckpt"), tmp_path, tta=True)

    assert metrics["mIoU"] > 50
    assert metrics["not_inspected"] == 1
    assert metrics != tested[0]


def test_a_demo_and_the_inferencer_agree_with_the_test(trained, tested, data_root, tmp_path):
    config, runner = trained
    checkpoint = runner.message_hub.get_info("best_ckpt")
    file = data_root / "images/val/1.png"

    (record,) = infer(config, checkpoint, [file], tmp_path, device="cpu")

    records = json.loads((tested[1] / "predictions.json").read_text())
    expected, shown = (to_class_map(r["prediction"]) for r in (records[1], record))
    assert differing(shown, expected) < TIES
    mask = cv2.imread(str(tmp_path / "masks/1.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask, shown)
    assert cv2.imread(str(tmp_path / "1.png")).shape[1] == 320
    inferencer = SegmentationInferencer(config, checkpoint, "cpu")
    found = inferencer(cv2.imread(str(file)), draw=True)
    assert np.array_equal(to_class_map(found["predictions"][0]["prediction"]), shown)
    assert found["visualization"][0].shape[1] == 320


def test_images_of_several_sizes_at_once(trained, tmp_path):
    config, runner = trained
    generator = np.random.default_rng(5)
    for index, side in enumerate((64, 80, 64, 100)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), draw_scene(generator, 1, side)[0])

    records = infer(
        config, runner.message_hub.get_info("best_ckpt"), [tmp_path], tmp_path / "out", device="cpu"
    )

    assert [record["prediction"]["size"][0] for record in records] == [64, 80, 64, 100]


def test_published_weights_predict_the_same(trained, tested, tmp_path):
    config, runner = trained
    file = publish_model(runner.message_hub.get_info("best_ckpt"), tmp_path / "model.safetensors")

    assert run_test(config, file, tmp_path / "out") == tested[0]


# ---- other settings ----


@pytest.mark.slow
def test_a_training_that_was_interrupted_goes_on_exactly(data_root, tmp_path):
    config = write_config(
        tmp_path / "resume.py", data_root, deep_supervision=0.4, ema=True, balance=1.0
    )
    whole = train(config, tmp_path / "whole")

    resumed = train(config, tmp_path / "part", resume=tmp_path / "whole/epoch_1.pth")

    assert resumed.iter == whole.iter
    ours, theirs = (runner.model.state_dict() for runner in (resumed, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_large_images_are_trained_on_crops_and_tested_by_tiles(tmp_path):
    generator = np.random.default_rng(0)
    root = tmp_path / "large"
    for split, count in (("train", 6), ("val", 2)):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            image, mask = draw_scene(generator, 1 + index % 2, 150 + 30 * index)
            cv2.imwrite(str(root / "images" / split / f"{index}.png"), image)
            cv2.imwrite(str(root / "masks" / split / f"{index}.png"), mask)
    config = write_config(tmp_path / "tiles.py", root, tile_size=64, classes=CLASSES, max_epochs=1)

    runner = train(config, tmp_path / "work")

    batch = next(iter(runner.train_dataloader))
    assert {tuple(image.shape) for image in batch["inputs"]} == {(3, 64, 64)}
    checkpoint = runner.message_hub.get_info("best_ckpt")
    metrics = run_test(config, checkpoint, tmp_path / "out")
    records = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [record["prediction"]["size"] for record in records] == [[150, 150], [180, 180]]
    (record,) = infer(
        config, checkpoint, [root / "images/val/1.png"], tmp_path / "demo", device="cpu"
    )
    assert differing(*(to_class_map(r["prediction"]) for r in (record, records[1]))) < TIES
    assert metrics["not_inspected"] == 0


def test_grey_images_of_16_bits_and_amp(tmp_path):
    generator = np.random.default_rng(0)
    root = tmp_path / "grey"
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for index in range(3):
            image, mask = draw_scene(generator, index % 3)
            cv2.imwrite(
                str(root / "images" / split / f"{index}.tif"), image[..., 0].astype(np.uint16) * 16
            )
            cv2.imwrite(str(root / "masks" / split / f"{index}.png"), mask)
    config = write_config(
        tmp_path / "grey.py",
        root,
        in_channels=1,
        white_level=4095,
        classes=CLASSES,
        max_epochs=1,
        amp="bfloat16",
        channels_last=True,
    )

    runner = train(config, tmp_path / "work")

    assert "mIoU" in run_test(config, runner.message_hub.get_info("best_ckpt"), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    "base",
    ["unetplusplus_resnet18.py", "pspnet_resnet50.py", "deeplabv3_resnet50.py",
     "deeplabv3plus_resnet50.py"],
)  # fmt: skip
def test_every_model_trains(base, data_root, tmp_path):
    config = write_config(tmp_path / f"{tmp_path.name}.py", data_root, base, max_epochs=1)
    # 12 images in batches of 11: the last one of the epoch is a single image.
    runner = train(config, tmp_path / "work", options={"batch_size": 11})

    assert runner.iter == 2


@pytest.mark.slow
def test_two_processes_find_what_one_does(trained, tested, tmp_path):
    config, runner = trained
    command = [REPOSITORY / "tools/dist_test.sh", config, runner.message_hub.get_info("best_ckpt")]

    done = subprocess.run(
        [*map(str, command), "2", "--out", str(tmp_path)],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    metrics, expected = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, tested[1])
    )
    assert metrics["mIoU"] == pytest.approx(expected["mIoU"], abs=0.1)
    assert np.sum(metrics["confusion_matrix"]) == np.sum(expected["confusion_matrix"])
    records, ours = (
        json.loads((folder / "predictions.json").read_text()) for folder in (tmp_path, tested[1])
    )
    assert [record["image"] for record in records] == [record["image"] for record in ours]
    for record, own in zip(records, ours, strict=True):
        assert record["inspected"] == own["inspected"]
        assert record["truth"] == own["truth"]
        if own["inspected"]:
            assert differing(*(to_class_map(r["prediction"]) for r in (record, own))) < TIES


def test_losses_and_the_switch_of_a_loss(data_root, tmp_path):
    losses = [
        dict(type="aicore.SoftmaxFocalLoss"),
        dict(type="aicore.TverskyLoss"),
        dict(type="aicore.BoundaryLoss", loss_weight=0.1),
    ]
    switch = dict(epoch=1, set={"decode_head.loss_decode.1": dict(type="aicore.LovaszLoss")})
    config = write_config(
        tmp_path / "losses.py",
        data_root,
        losses=losses,
        custom_hooks=[
            dict(type="aicore.LossSwitchHook", switches=[switch]),
            dict(type="aicore.MultiScaleHook", sizes=[64, 96], interval=1),
        ],
    )

    runner = train(config, tmp_path / "work")

    (log,) = (tmp_path / "work").glob("*/vis_data/scalars.json")
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    epochs = {r["epoch"]: {key for key in r if ".loss" in key} for r in logged if "epoch" in r}
    common = {"decode.loss_focal", "decode.loss_boundary"}
    assert epochs[1] == {*common, "decode.loss_tversky"}
    assert epochs[2] == {*common, "decode.loss_lovasz"}
    assert runner.iter == 6


# ---- data ----


def paint(generator: np.random.Generator, index: int, palette: list[int]) -> tuple:
    """Returns a picture and its mask as an image with a palette, as Pascal VOC has them."""
    image, mask = draw_scene(generator, index % 3)
    border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    mask = np.where(border, 255, mask * 7).astype(np.uint8)
    painted = Image.fromarray(mask, mode="P")
    painted.putpalette(palette)
    return image, painted


@pytest.mark.slow
def test_ten_images_of_pascal_vocs_layout(tmp_path):
    generator = np.random.default_rng(0)
    palette = generator.integers(0, 256, 768).tolist()
    root = tmp_path / "VOC2012"
    folders = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    for folder in folders:
        (root / folder).mkdir(parents=True)
    names = [f"2007_{index:06}" for index in range(10)]
    for index, name in enumerate(names):
        image, mask = paint(generator, index, palette)
        cv2.imwrite(str(root / f"JPEGImages/{name}.jpg"), image)
        mask.save(root / f"SegmentationClass/{name}.png")
    for split, part in (("train", names[:7]), ("val", names[7:])):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(part))
    config = tmp_path / "voc.py"
    config.write_text(f"_base_ = {(CONFIGS / 'unet_resnet50_voc.py').as_posix()!r}\n")
    options = dict(data_root=str(root), image_size=64, batch_size=4, num_workers=0, max_epochs=1)

    runner = train(config, tmp_path / "work", options=options)
    out = tmp_path / "out"
    run_test(config, runner.message_hub.get_info("best_ckpt"), out, options=options)

    content = json.loads((out / "metrics.json").read_text())
    matrix = np.array(content["confusion_matrix"])
    assert matrix.shape == (21, 21)
    # Values 7 and 14 alone were drawn; the borders, 255, do not count.
    names_of_classes = list(content["classes"])
    assert [names_of_classes[index] for index in np.flatnonzero(matrix.sum(1))] == [
        "background", "car", "motorbike"
    ]  # fmt: skip
    assert 0 < matrix.sum() < 3 * 64 * 64
    assert runner.iter == 2


def test_camvids_layout(tmp_path):
    generator = np.random.default_rng(0)
    root = tmp_path / "camvid"
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for index in range(3):
            image, mask = draw_scene(generator, index % 3)
            mask[0] = 11
            cv2.imwrite(str(root / split / f"{index}.png"), image)
            cv2.imwrite(str(root / f"{split}annot/{index}.png"), mask)
    config = write_config(tmp_path / "camvid.py", root, "unet_resnet50_camvid.py", max_epochs=1)

    runner = train(config, tmp_path / "work")
    run_test(config, runner.message_hub.get_info("best_ckpt"), tmp_path / "out")

    matrix = np.array(json.loads((tmp_path / "out/metrics.json").read_text())["confusion_matrix"])
    assert matrix.shape == (11, 11)
    assert matrix.sum() == 3 * 63 * 64


def test_a_value_outside_the_classes_stops_before_training(tmp_path):
    root = write_scenes(tmp_path / "data", {"train": 3, "val": 3})
    file = root / "masks/train/1.png"
    mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    mask[:2, :5] = 77
    cv2.imwrite(str(file), mask)
    config = write_config(tmp_path / "wrong.py", root)

    with pytest.raises(DataError, match=r"masks/train/1.png' has value 77 in 10 pixels"):
        train(config, tmp_path / "work")
    plain = dict(sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True))
    config = write_config(tmp_path / "plain.py", root, train_dataloader=plain)
    with pytest.raises(DataError, match=r"has value 77 in 10 pixels: expected 0 to 2"):
        train(config, tmp_path / "work")


def test_the_check_of_the_data(data_root, tmp_path):
    report = check_config(open_config(write_config(tmp_path / "check.py", data_root)))

    text = report.text()
    assert [problem.text for problem in report.of_level("error")] == [
        "image files that cannot be read: 1 of 6"
    ]
    shares = report.splits["train"].pixel_shares
    assert list(shares) == list(CLASSES)
    assert sum(shares.values()) == pytest.approx(1)
    assert re.search(rf"square +{100 * shares['square']:.3f} %", text)


def test_browsing(data_root, tmp_path):
    config = write_config(tmp_path / "browse.py", data_root)

    picture = cv2.imread(str(browse(config, count=4, out=tmp_path / "grid.png")))

    assert picture.shape[1] > 4 * 320
    assert picture.std() > 0


def test_complexity(data_root, tmp_path):
    config = write_config(tmp_path / "flops.py", data_root)

    complexity = measure_complexity(config)

    assert complexity.shape == (3, 64, 64)
    assert {"backbone", "decode_head"} <= set(complexity.modules)
    assert complexity.macs > 10**7
