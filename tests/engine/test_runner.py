from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from aicore.apis import test as run_test
from aicore.apis import train
from aicore.apis.setup import build_runner
from aicore.config import load_config
from aicore.errors import CheckpointError, ConfigError
from aicore.registry import TRANSFORMS

REPOSITORY = Path(__file__).parents[2]


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


def test_resuming_with_other_images_is_refused(trained, small_config, tmp_path):
    config = small_config(model_name="resnet18", image_size=48)

    with pytest.raises(CheckpointError, match=r"image_size = 32, in the config 48"):
        train(config, work_dir=tmp_path, resume=trained.last_checkpoint)


def test_resuming_with_renamed_classes_is_refused(trained, small_config, tmp_path):
    shutil.copytree(trained.data_root, tmp_path / "data")
    for folder in (tmp_path / "data").glob("*/striped"):
        folder.rename(folder.with_name("a_striped"))  # sorted first
    config = small_config(model_name="resnet18", data_root=str(tmp_path / "data"))

    with pytest.raises(CheckpointError, match=r"classes bright, dark, striped, but .* a_striped"):
        train(config, work_dir=tmp_path / "run", resume=trained.last_checkpoint)


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


# ---- resuming with another config ----


@pytest.fixture(scope="module")
def two_epochs(leaf_config, tmp_path_factory):
    """The last checkpoint of two epochs of a tiny network."""
    work_dir = tmp_path_factory.mktemp("two_epochs")
    options = {"max_epochs": 2, "model_name": "test_resnet.r160_in1k"}
    train(leaf_config, work_dir=work_dir, options=options)
    return work_dir / "epoch_2.pth"


def test_a_longer_schedule_goes_on_to_the_configs_end(two_epochs, small_config, tmp_path, capsys):
    train(small_config(max_epochs=5), work_dir=tmp_path / "run", resume=two_epochs)

    rates = [line["lr"] for line in losses_and_rates(tmp_path / "run")]
    assert len(rates) == 9
    assert all(after < before for before, after in pairwise(rates))
    assert rates[-1] < 0.2 * rates[0]
    text = " ".join(capsys.readouterr().out.split())
    assert "The schedule of the config is not the checkpoint's (CosineAnnealingLR)" in text


def test_the_same_schedule_is_no_matter_of_a_warning(two_epochs, small_config, tmp_path, capsys):
    train(small_config(max_epochs=2), work_dir=tmp_path / "run", resume=two_epochs)

    assert "The schedule of the config" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(optim_wrapper=dict(optimizer=dict(_delete_=True, type="SGD", lr=0.1))),
            r"is of AdamW, the config has SGD\. Resume with the optim_wrapper",
        ),
        (dict(param_scheduler=[]), r"with 2 param_schedulers, this one has 0"),
        (dict(batch_size=4), r"with 3 iterations an epoch, this one has 6"),
    ],
)
def test_what_cannot_go_on_is_refused(two_epochs, small_config, tmp_path, settings, message):
    with pytest.raises(CheckpointError, match=message):
        train(small_config(max_epochs=3, **settings), work_dir=tmp_path / "run", resume=two_epochs)


def test_a_checkpoint_of_another_program_is_refused(two_epochs, small_config, tmp_path):
    content = torch.load(two_epochs, weights_only=False)
    torch.save({"model": content["state_dict"], "optimizer": {}}, tmp_path / "other.pth")

    with pytest.raises(CheckpointError, match=r"is of another program.*Use --load-from"):
        train(small_config(), work_dir=tmp_path / "run", resume=tmp_path / "other.pth")


def test_the_seed_of_the_checkpoint_holds(two_epochs, small_config, tmp_path):
    config = small_config(max_epochs=3)
    expected = train(config, work_dir=tmp_path / "same", resume=two_epochs)
    other = train(config, work_dir=tmp_path / "other", resume=two_epochs, options={"seed": 5})

    weights = other.model.state_dict()
    assert all(torch.equal(w, weights[key]) for key, w in expected.model.state_dict().items())


# ---- settings that would have no effect ----


def test_counting_iterations_is_refused(small_config, tmp_path):
    config = small_config(train_cfg=dict(_delete_=True, by_epoch=False, max_iters=9))

    with pytest.raises(ConfigError, match=r"by_epoch = False: training counts epochs.*max_epochs"):
        train(config, work_dir=tmp_path / "run")


def test_amp_that_the_wrapper_does_not_know_is_refused(small_config, tmp_path):
    optimizer = dict(type="SGD", lr=0.1)
    wrapper = dict(_delete_=True, type="OptimWrapper", optimizer=optimizer)
    config = small_config(optim_wrapper=wrapper, amp=True)

    with pytest.raises(ConfigError, match=r"amp = True has no effect.*aicore\.OptimWrapper"):
        train(config, work_dir=tmp_path / "run")


def test_a_hook_of_the_base_config_can_be_left_out(small_config, tmp_path):
    config = small_config(default_hooks=dict(summary=None, timer=None, logger=None))

    names = {type(hook).__name__ for hook in train(config, work_dir=tmp_path / "run").hooks}

    assert not {"SummaryHook", "IterTimerHook", "LoggerHook"} & names
    assert "CheckpointHook" in names


# ---- running ----


@TRANSFORMS.register_module()
class BrokenTransform:
    """A transform with a bug."""

    def __call__(self, results: dict) -> dict:
        raise ZeroDivisionError("a bug")


BROKEN = [dict(type="aicore.BrokenTransform")]


@pytest.mark.parametrize("stage", ["train", "val"])
def test_an_error_in_a_worker_ends_all_workers(small_config, tmp_path, stage):
    options = {"num_workers": 2, f"{stage}_dataloader.dataset.pipeline": BROKEN}

    with pytest.raises(ZeroDivisionError) as caught:
        train(small_config(), work_dir=tmp_path / "run", options=options)

    assert not multiprocessing.active_children()
    assert "a bug" in str(caught.value)  # which holds the frames, and so the loader


def test_an_error_in_a_worker_of_a_test_ends_all_workers(trained, tmp_path):
    options = {"num_workers": 2, "test_dataloader.dataset.pipeline": BROKEN}

    with pytest.raises(ZeroDivisionError) as caught:
        run_test(trained.config, trained.checkpoint, out=tmp_path, options=options)

    assert not multiprocessing.active_children()
    assert "a bug" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["tools/train.py", "tools/test.py"])
def test_a_process_with_an_error_in_a_worker_ends(trained, tmp_path, tool):
    steps = "'${load_image}', '${resize}', dict(type='LoadAnnotations'), dict(type='PackInputs')"
    unlabelled = f"dict(dataset=dict(pipeline=[{steps}]))"  # LoadAnnotations finds none
    config = tmp_path / "broken.py"
    config.write_text(
        f"_base_ = {str(trained.config)!r}\nnum_workers = 2\n"
        f"train_dataloader = {unlabelled}\ntest_dataloader = {unlabelled}\n"
    )
    arguments = [config, "--work-dir", tmp_path]
    if tool == "tools/test.py":
        arguments = [config, trained.checkpoint, "--out", tmp_path]

    done = subprocess.run(
        [sys.executable, tool, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=150,  # seconds; for workers that are still there it would wait 300
    )

    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("KeyError: 'instances'")


# ---- the log ----


def test_names_steer_no_terminal_that_shows_the_log(runner, log):
    runner.logger.info("\x1b[2J 零件 %s", "\udcff")

    shown = "\\x1b[2J 零件 \\udcff"
    assert shown in log_of(Path(runner.work_dir))
    assert log.records[-1].getMessage() == shown  # what every handler gets


def test_a_log_that_cannot_be_written_ends_the_run(runner):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*\.log"):
            runner.logger.info("a line")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
