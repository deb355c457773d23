from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from aicore.apis import infer, train
from aicore.apis import test as run_test
from aicore.classification import ClassificationInferencer
from aicore.errors import CheckpointError, ConfigError, DataError
from aicore.runtime.images import read_image

CLASSES = ("bright", "dark", "striped")


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture
def data(class_folders, tmp_path):
    """A copy of the data to change."""
    return shutil.copytree(class_folders, tmp_path / "data")


# ---- results ----


def test_the_data_is_checked_first(tested):
    log = next(tested.folder.glob("*/*.log")).read_text(encoding="utf-8")
    assert "test: 12 images, bright 4, dark 4, striped 4" in log


def test_a_record_for_every_image(tested, trained):
    files = sorted((trained.data_root / "val").rglob("*.png"))

    assert list(tested.records) == [str(file) for file in files]
    for file in files:
        record = tested.records[str(file)]
        assert record["truth"] == file.parent.name
        assert record["inspected"] is True
        assert tuple(record["pred_scores"]) == CLASSES
        assert record["prediction"] == max(record["pred_scores"], key=record["pred_scores"].get)


def test_metrics_follow_from_the_records(tested):
    pairs = [(record["truth"], record["prediction"]) for record in tested.records.values()]
    accuracy = 100 * np.mean([truth == prediction for truth, prediction in pairs])

    metrics = read(tested.folder / "metrics.json")

    assert tested.metrics["accuracy/top1"] == pytest.approx(accuracy)
    assert {key: metrics[key] for key in tested.metrics} == pytest.approx(tested.metrics)
    matrix = [[pairs.count((row, column)) for column in CLASSES] for row in CLASSES]
    assert metrics["confusion_matrix"] == matrix
    assert [metrics["classes"][name]["support"] for name in CLASSES] == [4, 4, 4]
    recalls = [metrics["classes"][name]["recall"] for name in CLASSES]
    assert tested.metrics["single-label/recall"] == pytest.approx(np.mean(recalls))


def test_pictures_and_log(tested):
    for name in ("confusion_matrix.png", "examples.png"):
        assert min(cv2.imread(str(tested.folder / name)).shape[:2]) > 100
    (log,) = tested.folder.glob("*/*.log")
    text = log.read_text(encoding="utf-8")
    assert "| class " in text
    assert "| truth \\ predicted | bright | dark | striped |" in text
    assert f"Results: {tested.folder}" in text


def test_the_best_checkpoint_gets_the_accuracy_of_its_training(tested, trained):
    (scalars,) = trained.work_dir.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in scalars.read_text(encoding="utf-8").splitlines()]
    best = max(line["accuracy/top1"] for line in lines if "accuracy/top1" in line)

    assert tested.metrics["accuracy/top1"] == pytest.approx(best)


def test_averaging_over_flips(trained, tmp_path):
    run_test(trained.config, trained.checkpoint, out=tmp_path, tta=True)

    inferencer = ClassificationInferencer(trained.config, trained.checkpoint, device="cpu")
    records = read(tmp_path / "predictions.json")
    assert len(records) == 12
    for record in records[:3]:
        image = read_image(record["image"])
        views = [image, image[:, ::-1].copy(), image[::-1].copy()]
        each = [list(r["pred_scores"].values()) for r in inferencer(views)["predictions"]]
        averaged = list(record["pred_scores"].values())
        assert averaged == pytest.approx(np.mean(each, axis=0), abs=1e-5)


def test_broken_images_are_counted_apart(trained, tested, data, tmp_path, capsys):
    broken = data / "val" / "dark" / "dark_0.png"
    broken.write_bytes(b"")

    metrics = run_test(
        trained.config, trained.checkpoint, out=tmp_path, options={"data_root": str(data)}
    )

    assert metrics["not_inspected"] == 1
    records = {record["image"]: record for record in read(tmp_path / "predictions.json")}
    reason = "the file is empty (0 bytes); copy it again or remove it"
    assert records[str(broken)] == {
        "image": str(broken),
        "inspected": False,
        "truth": "dark",
        "reason": reason,
    }
    others = [record for record in records.values() if record["inspected"]]
    right = [record["truth"] == record["prediction"] for record in others]
    assert len(others) == 11
    assert metrics["accuracy/top1"] == pytest.approx(100 * np.mean(right))
    assert f"1 of 12 images were not inspected:\n  {broken}: {reason}" in capsys.readouterr().out
    listed = (tmp_path / "bad_images.txt").read_text(encoding="utf-8")
    assert listed == f"test\t{broken}\t{reason}\n"


def test_no_image_can_be_read(trained, data, tmp_path):
    for file in (data / "val").rglob("*.png"):
        file.write_bytes(b"")

    with pytest.raises(DataError, match=r"none of the 12 images could be inspected.* is empty"):
        run_test(trained.config, trained.checkpoint, tmp_path, options={"data_root": str(data)})


# ---- checkpoints ----


def test_pretrained_weights_need_not_be_at_hand(trained, tested, tmp_path):
    bare = torch.load(trained.checkpoint, weights_only=False)["state_dict"]
    torch.save(bare, tmp_path / "bare.pth")

    metrics = run_test(
        trained.config,
        tmp_path / "bare.pth",
        out=tmp_path,
        options={"pretrained": "nowhere.pth"},
    )

    assert metrics == pytest.approx(tested.metrics)


def test_other_classes_than_the_checkpoints(trained, tmp_path):
    options = {"classes": ["striped", "dark", "bright"]}

    with pytest.raises(CheckpointError) as caught:
        run_test(trained.config, trained.checkpoint, out=tmp_path, options=options)

    message = str(caught.value)
    assert "was trained on the classes bright, dark, striped, but " in message
    assert "has striped, dark, bright. Names and order have to agree." in message


def test_the_pre_processing_comes_from_the_checkpoint(trained, tested, small_config, tmp_path):
    config = small_config(model_name="resnet18", image_size=48)
    image = trained.data_root / "val" / "dark" / "dark_0.png"

    metrics = run_test(config, trained.checkpoint, out=tmp_path / "out")
    (record,) = infer(config, trained.checkpoint, image, out=tmp_path / "demo", device="cpu")

    assert metrics == pytest.approx(tested.metrics)
    of_test = tested.records[str(image)]
    assert record["pred_scores"] == pytest.approx(of_test["pred_scores"], abs=2e-6)


@pytest.mark.parametrize("run", ["test", "demo", "load_from", "resume"])
def test_weights_that_are_not_finite_are_refused(trained, tmp_path, run):
    content = torch.load(trained.last_checkpoint, weights_only=False)
    content["state_dict"]["fc.weight"][0, 0] = float("nan")
    file = tmp_path / "nan.pth"
    torch.save(content, file)
    calls = {
        "test": lambda: run_test(trained.config, file, out=tmp_path),
        "demo": lambda: infer(trained.config, file, trained.data_root / "val", out=tmp_path),
        "load_from": lambda: train(trained.config, work_dir=tmp_path, load_from=file),
        "resume": lambda: train(trained.config, work_dir=tmp_path, resume=file),
    }

    with pytest.raises(CheckpointError, match=r"nan\.pth' holds NaN or infinity in 'fc\.weight'"):
        calls[run]()


def test_data_of_another_class(trained, data, tmp_path):
    (data / "val" / "dark").rename(data / "val" / "dim")

    with pytest.raises(DataError, match=r"folder 'dim', which is not one of the classes bright"):
        run_test(trained.config, trained.checkpoint, tmp_path, options={"data_root": str(data)})


def test_a_missing_checkpoint(trained, tmp_path):
    with pytest.raises(CheckpointError, match=r"'nowhere\.pth' does not exist"):
        run_test(trained.config, "nowhere.pth", out=tmp_path)


@pytest.mark.parametrize("missing", [("tta_model",), ("tta_model", "tta_pipeline")])
def test_flips_need_their_settings(trained, small_config, tmp_path, missing):
    config = small_config(model_name="resnet18")
    text = config.read_text(encoding="utf-8")
    config.write_text(text + "".join(f"{name} = None\n" for name in missing), encoding="utf-8")

    with pytest.raises(ConfigError, match=f"--tta needs {' and '.join(missing)} in the config"):
        run_test(config, trained.checkpoint, out=tmp_path, tta=True)


# ---- demo and test agree ----


def test_demo_and_test_give_the_same_scores(trained, tested, tmp_path):
    files = [trained.data_root / "val"]

    records = infer(trained.config, trained.checkpoint, files, out=tmp_path, device="cpu")

    assert {record["image"] for record in records} == tested.records.keys()
    for record in records:
        of_test = tested.records[record["image"]]
        assert record["prediction"] == of_test["prediction"]
        assert record["pred_scores"] == pytest.approx(of_test["pred_scores"], abs=2e-6)
