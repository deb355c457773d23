from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from aicore.apis.setup import build_runner, open_config
from aicore.engine import TrainLoop


class Watch(Hook):
    """Notes what each stage begins with, and numbers of all generators in each iteration."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.numbers: list[tuple] = []

    def before_train_epoch(self, runner):
        self.events.append(f"epoch {runner.epoch}")

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.events.append(f"batch {batch_idx}")
        self.numbers.append((random.random(), np.random.rand(), float(torch.rand(()))))

    def before_val(self, runner):
        self.events.append(f"val {runner.epoch}")


@pytest.fixture
def run(small_config, tmp_path):
    """A function that trains with settings, from a position; returns what was seen."""

    def train(epoch: int = 0, iteration: int = 0, pending: bool = False, **settings) -> Watch:
        config = open_config(small_config(**settings))
        config.work_dir = str(tmp_path / "run")
        runner = build_runner(config)
        watch = Watch()
        runner.register_hook(watch)
        loop = runner.train_loop
        loop._epoch, loop._iter, loop.validation_pending = epoch, iteration, pending
        runner.train()
        return watch

    return train


WHOLE = ["epoch 0", "batch 0", "batch 1", "batch 2", "val 1"]
SECOND = ["epoch 1", "batch 0", "batch 1", "batch 2", "val 2"]


def test_epochs_and_validations(run):
    assert run(max_epochs=2).events == WHOLE + SECOND


def test_a_validation_every_other_epoch_and_after_the_last(run):
    config = dict(by_epoch=True, max_epochs=3, val_interval=2)
    events = run(max_epochs=3, train_cfg=config).events

    assert [event for event in events if "val" in event] == ["val 2", "val 3"]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (dict(epoch=1, iteration=3), SECOND),
        (dict(epoch=1, iteration=4), [SECOND[0], *SECOND[2:]]),
        (dict(epoch=1, iteration=6), [SECOND[0], SECOND[-1]]),
        (dict(epoch=1, iteration=3, pending=True), ["val 1", *SECOND]),
        (dict(epoch=2, iteration=6, pending=True), ["val 2"]),
        (dict(epoch=2, iteration=6), []),
    ],
)
def test_it_goes_on_where_it_stands(run, position, expected):
    assert run(max_epochs=2, **position).events == expected


def test_random_numbers_depend_on_the_iteration_alone(run):
    whole = run(max_epochs=2).numbers
    rest = run(max_epochs=2, epoch=1, iteration=4).numbers

    assert rest == whole[4:]
    assert len(set(whole)) == 6


def test_configs_that_count_epochs_get_it(small_config, tmp_path):
    config = open_config(small_config())
    config.work_dir = str(tmp_path / "run")

    assert isinstance(build_runner(config).train_loop, TrainLoop)


def test_intervals_that_change_are_known_beforehand(run):
    config = dict(by_epoch=True, max_epochs=6, val_interval=3, dynamic_intervals=[(5, 1)])
    events = run(max_epochs=6, train_cfg=config).events

    assert [event for event in events if "val" in event] == ["val 3", "val 4", "val 5", "val 6"]
