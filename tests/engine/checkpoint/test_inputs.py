from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from aicore.config import load_config
from aicore.engine.checkpoint import (
    config_for_checkpoint,
    input_settings,
    read_checkpoint,
    require_same_inputs,
)
from aicore.engine.checkpoint import inputs as module
from aicore.errors import CheckpointError

CONFIGS = Path(__file__).parents[3] / "configs"
TASKS = {
    "classification": "classification/resnet18.py",
    "segmentation": "segmentation/unet_resnet18.py",
    "detection": "detection/yolox_nano.py",
    "anomaly": "anomaly/padim_resnet18.py",
}
CLASSES = ("a", "b")


@pytest.fixture
def told(monkeypatch):
    """What was logged."""
    texts = []

    def note(text: str, logger: str, level: int) -> None:
        assert level == logging.WARNING
        texts.append(text)

    monkeypatch.setattr(module, "print_log", note)
    return texts


@pytest.fixture(params=TASKS)
def leaf(request, tmp_path):
    """A config of each task."""
    file = tmp_path / f"{request.param}.py"
    file.write_text(f"_base_ = {(CONFIGS / TASKS[request.param]).as_posix()!r}\n")
    return file


def trained(path, **options) -> dict:
    """What a checkpoint of a training with these options holds, once it is read from its file."""
    config = config_for_checkpoint(path, checkpoint(None), "none", options)
    return checkpoint(json.loads(json.dumps(input_settings(config))), config.classes)


def checkpoint(settings, classes=CLASSES) -> dict:
    meta = {"dataset_meta": {"classes": classes}, "input_settings": settings}
    return {"meta": meta, "state_dict": {}}


def white_level_of(config) -> int:
    return config.test_dataloader.dataset.pipeline[0].white_level


@pytest.fixture(autouse=True)
def open_classes(request):
    """Anomaly detection has its own two classes."""
    if "leaf" in request.fixturenames:
        leaf = request.getfixturevalue("leaf")
        if leaf.stem == "anomaly":
            with leaf.open("a") as file:
                file.write(f"classes = {CLASSES!r}\n")


def test_the_same_config_says_nothing(leaf, told):
    content = trained(leaf, white_level=4095)
    told.clear()

    config = config_for_checkpoint(leaf, content, "a.pth", {"white_level": 4095})

    assert white_level_of(config) == 4095
    assert not told


def test_settings_come_from_the_checkpoint(leaf, told):
    content = trained(leaf, white_level=4095, image_size=64, in_channels=1)
    told.clear()

    config = config_for_checkpoint(leaf, content, "a.pth")

    assert white_level_of(config) == 4095
    assert input_settings(config) == content["meta"]["input_settings"]
    (text,) = told
    assert "pre-processing is that of checkpoint 'a.pth'" in text
    assert "white_level = 4095, in the config 65535" in text


def test_what_the_command_line_gives_holds_and_is_told(leaf, told):
    content = trained(leaf, white_level=4095, image_size=64)
    told.clear()

    config = config_for_checkpoint(leaf, content, "a.pth", {"white_level": 1023})

    assert white_level_of(config) == 1023
    assert config.image_size == 64
    taken, given = told
    assert "image_size = 64" in taken
    assert "white_level" not in taken
    assert "--cfg-options change the pre-processing of checkpoint 'a.pth'" in given
    assert "white_level = 4095, in the config 1023" in given


def test_what_it_gives_within_the_pipeline_too(leaf, told):
    content = trained(leaf, white_level=4095)
    told.clear()
    options = {"test_pipeline": [{"type": "aicore.LoadImage"}]}

    config = config_for_checkpoint(leaf, content, "a.pth", options)

    assert len(config.test_dataloader.dataset.pipeline) == 1
    assert "--cfg-options change the pre-processing" in told[-1]


def test_tiles_come_from_the_checkpoint(leaf, told):
    if leaf.stem == "classification":
        pytest.skip("has no tiles")
    content = trained(leaf, tile_size=64)

    config = config_for_checkpoint(leaf, content, "a.pth")

    assert config.tile_size == 64
    assert input_settings(config) == content["meta"]["input_settings"]


def test_what_is_no_setting_is_refused(leaf, told):
    content = trained(leaf)
    content["meta"]["input_settings"]["pipeline"][0]["white_level"] = 4095

    with pytest.raises(CheckpointError) as caught:
        config_for_checkpoint(leaf, content, "a.pth")

    assert "'a.pth' was trained with another pre-processing than that of" in str(caught.value)
    assert "pipeline.0.white_level = 4095, in the config 65535" in str(caught.value)


def test_a_checkpoint_that_says_nothing_is_told(leaf, told):
    config_for_checkpoint(leaf, checkpoint(None), "a.pth")

    require_same_inputs(checkpoint(None), "b.pth", Config({}), None)

    assert "'a.pth' does not say what pre-processing it was trained with" in told[0]
    assert "'b.pth' does not say" in told[1]


def test_the_configs_copy_of_a_work_dir_fits(leaf, told):
    content = trained(leaf, white_level=4095)
    config = config_for_checkpoint(leaf, content, "a.pth", {"white_level": 4095})
    copy = leaf.with_name("copy.py")
    config.dump(copy)
    told.clear()

    assert white_level_of(config_for_checkpoint(copy, content, "a.pth")) == 4095
    assert not told


def test_a_resume_with_other_images_is_refused(leaf, told):
    content = trained(leaf, white_level=4095)
    config = config_for_checkpoint(leaf, checkpoint(None), "none")

    with pytest.raises(CheckpointError, match=r"white_level = 4095, in the config 65535"):
        require_same_inputs(content, "a.pth", config, {"classes": CLASSES})

    require_same_inputs(trained(leaf), "a.pth", config, {"classes": list(CLASSES)})


@pytest.mark.parametrize("classes", [("b", "a"), ("a", "c"), ("a",)])
def test_a_resume_with_other_classes_is_refused(tmp_path, classes):
    file = tmp_path / "c.py"
    file.write_text("")
    config = Config({"model": {}}, filename=str(file))

    with pytest.raises(CheckpointError, match=r"trained on the classes a, b, but \S+c\.py has"):
        require_same_inputs(checkpoint(None), "a.pth", config, {"classes": classes})


def test_labels_and_places_do_not_count():
    steps = [
        {"type": "LoadImageFromFile", "backend_args": {"key": "secret"}},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "mmdet.Resize", "scale": (4, 3), "ratio": float("inf"), "dtype": torch.float32},
        {"type": "aicore.LoadROI", "data_root": "data/parts"},
        {"type": "PackDetInputs", "meta_keys": ("img_id",)},
    ]
    data = {"dataset": {"type": "RepeatDataset", "dataset": {"pipeline": steps}}}

    kept = input_settings({"test_dataloader": data, "model": {"test_cfg": {"score": 1}}})

    assert kept["pipeline"] == [
        {"type": "LoadImageFromFile"},
        {"type": "mmdet.Resize", "scale": [4, 3], "ratio": "inf", "dtype": "torch.float32"},
    ]
    assert kept["tiles"] == {}


def test_a_training_keeps_them(trained_checkpoint):
    kept = trained_checkpoint["meta"]["input_settings"]

    assert kept["settings"]["white_level"] == 65535
    assert [step["type"] for step in kept["pipeline"]] == ["aicore.LoadImage", "Resize"]
    assert kept["data_preprocessor"]["to_rgb"] is True
    assert trained_checkpoint["meta"]["model"]["model_name"] == "resnet18"


@pytest.fixture
def trained_checkpoint(request) -> dict:
    return read_checkpoint(request.getfixturevalue("trained").checkpoint)


def test_what_a_preprocessor_does_in_training_alone_does_not_count(leaf):
    own = load_config(leaf, classes=CLASSES)
    mixed = load_config(leaf, classes=CLASSES)
    mixed.model.data_preprocessor.batch_augments = dict(augments=[dict(type="Mixup", alpha=0.2)])

    assert input_settings(mixed) == input_settings(own)
