from __future__ import annotations

from pathlib import Path

import pytest

from aicore.apis import train
from aicore.config import load_config
from aicore.datasets.sample import make_sample
from aicore.detection import MosaicSwitchHook
from aicore.engine.checkpoint import read_checkpoint
from aicore.errors import ConfigError
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample") / "data", images=25, size=64)


@pytest.fixture
def config(sample, tmp_path) -> Path:
    """Four epochs of YOLOX-nano, the last one without mosaic, on 20 small images."""
    file = tmp_path / "flow.py"
    base = (REPOSITORY / "configs/detection/yolox_nano.py").as_posix()
    file.write_text(
        f"_base_ = {base!r}\n"
        f"data_root = {(sample / 'detection').as_posix()!r}\n"
        "image_size = 64\nbatch_size = 8\nnum_workers = 2\nmax_epochs = 4\nlast_epochs = 1\n"
        "warmup_epochs = 1\nlog_interval = 1\n"
    )
    return file


def losses_by_epoch(work_dir: Path) -> dict[int, bool]:
    """Returns for each epoch of the log whether the L1 loss was computed."""
    import json

    (file,) = work_dir.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {line["epoch"]: "loss_l1" in line for line in lines if "loss" in line}


def test_the_last_epochs_have_the_l1_loss_and_no_mosaic(config, tmp_path):
    runner = train(config, tmp_path / "work")

    assert losses_by_epoch(tmp_path / "work") == {1: False, 2: False, 3: False, 4: True}
    dataset = runner.train_dataloader.dataset.dataset
    assert dataset.mosaic_epochs == 3
    for epoch, mixed in ((0, True), (2, True), (3, False)):
        dataset.epoch = epoch
        assert ("draw_another" in dataset.get_data_info(0)) == mixed
    runner.train_dataloader.close()


def test_a_resumed_training_switches_too(config, tmp_path):
    work = tmp_path / "work"
    train(config, work, options={"train_cfg.max_epochs": 4})
    whole = read_checkpoint(work / "epoch_4.pth")["state_dict"]
    before = read_checkpoint(work / "epoch_3.pth")
    assert not any("use_l1" in key for key in before["state_dict"])

    again = tmp_path / "again"
    again.mkdir()
    (again / "epoch_3.pth").write_bytes((work / "epoch_3.pth").read_bytes())
    runner = train(config, again, resume=True)

    assert runner.model.bbox_head.use_l1 is True
    assert losses_by_epoch(again) == {4: True}
    resumed = read_checkpoint(again / "epoch_4.pth")["state_dict"]
    assert all(weight.equal(whole[key]) for key, weight in resumed.items())


@pytest.mark.parametrize("last_epochs", [-1, 1.5, "3", True])
def test_last_epochs_has_to_be_a_number_of_epochs(last_epochs):
    with pytest.raises(ConfigError, match=r"MosaicSwitchHook\.last_epochs = .*expected a whole"):
        MosaicSwitchHook(last_epochs)


def test_there_has_to_be_something_to_switch(small_config, tmp_path):
    config = small_config(custom_hooks=[dict(type="aicore.MosaicSwitchHook", last_epochs=1)])

    with pytest.raises(ConfigError, match="Take the hook out of custom_hooks"):
        train(config, tmp_path)


def test_the_configs_have_it():
    config = load_config(
        REPOSITORY / "configs/detection/yolox_s.py", {"last_epochs": 7}, classes=("a", "b")
    )

    assert config.default_hooks.mosaic_switch == dict(type="aicore.MosaicSwitchHook", last_epochs=7)
    assert config.default_hooks.multi_scale is None
