from __future__ import annotations

import json
import shutil

import pytest
import torch

from aicore.apis import train
from aicore.apis.setup import build_runner
from aicore.config import load_config
from aicore.errors import CheckpointError


def losses_and_rates(work_dir) -> list[dict]:
    """Returns the JSON log's lines of the training."""
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "loss" in line]


def log_of(work_dir) -> str:
    (file,) = work_dir.glob("*/*.log")
    return file.read_text(encoding="utf-8")


@pytest.fixture
def runner(trained, tmp_path):
    """A Runner that could train what ``trained`` is, before its first step."""
    config = load_config(trained.config)
    config.work_dir = str(tmp_path)
    config.experiment_name = tmp_path.name
    return build_runner(config)


@pytest.fixture
def log(runner, caplog):
    """The records of the Runner's logger."""
    runner.logger.addHandler(caplog.handler)
    yield caplog
    runner.logger.removeHandler(caplog.handler)


# ---- loading ----


def test_weights_are_loaded_into_the_model(runner, trained, log):
    checkpoint = runner.load_checkpoint(str(trained.checkpoint))

    own = runner.model.state_dict()
    assert all(torch.equal(own[key], w) for key, w in checkpoint["state_dict"].items())
    assert f"Loaded checkpoint {trained.checkpoint}" in log.text
    assert "WARNING" not in log.text


def test_what_does_not_fit_is_logged(runner, trained, log, tmp_path):
    content = torch.load(trained.checkpoint, weights_only=False)
    content["state_dict"]["fc.weight"] = torch.zeros(9, 512)
    del content["state_dict"]["bn1.weight"]
    content["state_dict"]["extra"] = torch.zeros(1)
    torch.save(content, tmp_path / "other.pth")

    runner.load_checkpoint(str(tmp_path / "other.pth"))

    (record,) = [r for r in log.records if r.levelname == "WARNING"]
    assert "1 mismatched: fc.weight 9x512 for 3x512" in record.message
    assert "1 missing: bn1.weight; 1 unexpected: extra" in record.message


def test_strict_loading_refuses_it(runner, trained, tmp_path):
    content = torch.load(trained.checkpoint, weights_only=False)
    del content["state_dict"]["bn1.weight"]
    torch.save(content, tmp_path / "other.pth")

    with pytest.raises(CheckpointError, match=r"does not fit the model of the config: 1 missing"):
        runner.load_checkpoint(str(tmp_path / "other.pth"), strict=True)


def test_a_config_text_in_a_checkpoint_is_not_run(runner, trained, tmp_path):
    content = torch.load(trained.last_checkpoint, weights_only=False)
    content["meta"]["config"] = f"open({str(tmp_path / 'ran')!r}, 'w')"
    torch.save(content, tmp_path / "other.pth")

    checkpoint = runner.load_checkpoint(str(tmp_path / "other.pth"))

    assert "config" not in checkpoint["meta"]
    assert not (tmp_path / "ran").exists()


# ---- testing and resuming need all weights ----


def test_testing_is_strict(runner, trained, tmp_path):
    content = torch.load(trained.checkpoint, weights_only=False)
    del content["state_dict"]["bn1.weight"]
    torch.save(content, tmp_path / "other.pth")
    runner._load_from = str(tmp_path / "other.pth")

    with pytest.raises(CheckpointError, match=r"1 missing: bn1\.weight"):
        runner.test()


def test_resuming_from_weights_alone_is_refused(trained, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds weights only.*Use --load-from"):
        train(trained.config, work_dir=tmp_path, resume=trained.checkpoint)


def test_resuming_another_model_is_refused(trained, small_config, tmp_path):
    with pytest.raises(CheckpointError, match=r"does not fit the model of the config"):
        train(small_config(), work_dir=tmp_path, resume=trained.last_checkpoint)


# ---- fine-tuning, and what the console shows ----


def test_fine_tuning_with_other_classes(trained, small_config, tmp_path, capsys):
    shutil.copytree(trained.data_root, tmp_path / "data")
    for folder in (tmp_path / "data").glob("*/striped"):
        shutil.rmtree(folder)
    config = small_config(model_name="resnet18", data_root=str(tmp_path / "data"))
    work_dir = tmp_path / "work"

    runner = train(config, work_dir=work_dir, load_from=trained.checkpoint)

    console, log = capsys.readouterr().out, log_of(work_dir)
    assert "2 mismatched: fc.weight 3x512 for 2x512, fc.bias 3 for 2" in console
    assert runner.model.model.fc.out_features == 2
    assert runner.epoch == 1
    for page in ("System environment", "Config:\n", "Hooks will be executed"):
        assert page in log
        assert page not in console
    for line in ("Epoch(train) [1][2/2]", "Epoch(val) [1][1/1]", "Last checkpoint: "):
        assert line in log
        assert line in console


# ---- schedules ----


def test_a_warm_up_of_one_step_is_left_out(small_config, tmp_path):
    work_dir = tmp_path / "work"

    train(small_config(batch_size=24, max_epochs=3), work_dir=work_dir)

    rates = [line["lr"] for line in losses_and_rates(work_dir)]
    assert rates[:2] == pytest.approx([0.001, 0.001])  # MMEngine's would be 1 % of it for good
    assert rates[2] == pytest.approx(0.001 * (0.01 + 0.99 / 2))


def test_no_warm_up(small_config, tmp_path):
    work_dir = tmp_path / "work"

    train(small_config(warmup_epochs=0), work_dir=work_dir)

    rates = [line["lr"] for line in losses_and_rates(work_dir)]
    assert rates == pytest.approx([0.001, 0.001 * (0.01 + 0.99 * 0.75), 0.001 * (0.01 + 0.99 / 4)])


def test_schedules_in_epochs_and_built_ones_stay(runner):
    runner.optim_wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    one, two = (
        dict(type="LinearLR", start_factor=0.1, begin=1, end=1 + epochs) for epochs in (1, 2)
    )

    (built,) = runner.build_param_scheduler([one, two])

    assert (built.begin, built.end, built.by_epoch) == (1, 3, True)
    assert runner.build_param_scheduler([built]) == [built]
    assert len(runner.build_param_scheduler(two)) == 1
