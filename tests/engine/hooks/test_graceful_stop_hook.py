from __future__ import annotations

import json
import multiprocessing
import signal
import time

import psutil
import pytest
import torch
from mmengine.hooks import Hook

from aicore.apis import test as run_test
from aicore.apis import train
from aicore.engine.hooks import GracefulStopHook
from aicore.registry import HOOKS, TRANSFORMS


@HOOKS.register_module()
class SendSignalHook(Hook):
    """Sends a signal in an iteration of the training or of a validation.

    To this process and, as Ctrl-C and schedulers do, to its data workers.
    """

    def __init__(self, number: int, iteration: int, stage: str, times: int = 1) -> None:
        self.number, self.iteration, self.stage, self.times = number, iteration, stage, times

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.stage == "train" and runner.iter == self.iteration:
            for _ in range(self.times):
                self.send()

    def before_train_epoch(self, runner):
        if self.stage == "epoch" and runner.iter == self.iteration:
            self.send()

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.stage == "val" and runner.iter == self.iteration and batch_idx == 0:
            self.send()

    def before_test_iter(self, runner, batch_idx, data_batch=None):
        if self.stage == "test" and batch_idx == self.iteration:
            self.send()

    def send(self) -> None:
        for process in [*psutil.Process().children(), psutil.Process()]:
            process.send_signal(self.number)


@TRANSFORMS.register_module()
class HangingTransform:
    """Waits for what never comes, as for a network drive."""

    def __call__(self, results: dict) -> dict:
        while True:
            time.sleep(1)


def sending(number: int, iteration: int, stage: str = "train", times: int = 1) -> list[dict]:
    hook = dict(type="aicore.SendSignalHook", number=int(number), iteration=iteration)
    return [dict(**hook, stage=stage, times=times)]


@pytest.fixture
def stop(small_config, tmp_path):
    """A function that trains two epochs of three iterations and returns what it exits with."""

    def run(*signal_and_place: object) -> int:
        config = small_config(max_epochs=2, num_workers=2, custom_hooks=sending(*signal_and_place))
        with pytest.raises(SystemExit) as ended:
            train(config, work_dir=tmp_path / "run")
        return ended.value.code

    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_finishes_the_iteration_saves_and_exits(stop, tmp_path, number, code):
    assert stop(number, 4) == code

    checkpoint = torch.load(tmp_path / "run" / "epoch_1_iter_2.pth", weights_only=False)
    assert (checkpoint["meta"]["epoch"], checkpoint["meta"]["iter"]) == (1, 5)
    assert not checkpoint["meta"]["validation_pending"]


def test_in_a_validation_too(stop, tmp_path):
    assert stop(signal.SIGTERM, 3, "val") == 143

    checkpoint = torch.load(tmp_path / "run" / "epoch_1.pth", weights_only=False)
    assert checkpoint["meta"]["validation_pending"]


@pytest.mark.parametrize("place", [(4, "train"), (2, "train"), (3, "val")])
def test_the_resumed_training_ends_with_the_same_weights(stop, small_config, tmp_path, place):
    stop(signal.SIGTERM, *place)
    config = small_config(max_epochs=2, num_workers=2, custom_hooks=[])
    stopped = train(config, work_dir=tmp_path / "run", resume=True)
    whole = train(config, work_dir=tmp_path / "whole")

    expected, weights = whole.model.state_dict(), stopped.model.state_dict()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    for name in ("best_score", "epoch", "iter"):
        assert stopped.message_hub.get_info(name) == whole.message_hub.get_info(name)


def test_the_log_says_how_to_go_on(stop, tmp_path, capsys):
    stop(signal.SIGTERM, 4)

    text = " ".join(capsys.readouterr().out.split())
    assert "Stopped by SIGTERM after 5 iterations; go on with --resume from" in text
    assert "epoch_1_iter_2.pth" in text


def test_a_second_interrupt_stops_at_once(small_config, tmp_path):
    config = small_config(custom_hooks=sending(signal.SIGINT, 1, "train", 2))

    with pytest.raises(KeyboardInterrupt):
        train(config, work_dir=tmp_path / "run")

    assert not list((tmp_path / "run").glob("epoch_*"))


def test_it_does_not_wait_for_a_batch_that_never_comes(small_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("aicore.engine.hooks.graceful_stop_hook._PATIENCE", 1)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)  # seconds
    config = small_config(
        max_epochs=1, num_workers=1, custom_hooks=sending(signal.SIGTERM, 0, "epoch")
    )
    options = {"train_dataloader.dataset.pipeline": [dict(type="aicore.HangingTransform")]}

    with pytest.raises(SystemExit) as ended:
        train(config, work_dir=tmp_path / "run", options=options)

    assert ended.value.code == 143
    assert "Stopped by SIGTERM without saving: no batch has come" in capsys.readouterr().out
    assert not multiprocessing.active_children()


def test_it_waits_for_an_iteration_however_long(stop, tmp_path, monkeypatch):
    alarms = []
    monkeypatch.setattr(signal, "alarm", alarms.append)
    hook = GracefulStopHook()
    hook._receive(signal.SIGTERM, None)

    hook._give_up(signal.SIGALRM, None)

    assert alarms == [60, 60]


def test_a_test_ends_at_once_and_in_order(trained, tmp_path):
    config = tmp_path / "test.py"
    config.write_text(
        f"_base_ = {str(trained.config)!r}\ncustom_hooks = {sending(signal.SIGTERM, 1, 'test')!r}\n"
    )

    with pytest.raises(SystemExit) as ended:
        run_test(config, trained.checkpoint, out=tmp_path / "out")

    assert ended.value.code == 143
    records = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert len(records) == 8  # of the first batch


def test_the_signals_are_given_back(stop, small_config, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    stop(signal.SIGTERM, 1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

    train(small_config(), work_dir=tmp_path / "other")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
