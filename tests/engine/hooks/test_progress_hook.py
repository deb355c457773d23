from __future__ import annotations

import io
import logging
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch

from aicore.engine.hooks import ProgressHook


class Terminal(io.StringIO):
    """Takes what is written to the console; says whether it is a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def runner():
    logger = logging.Logger("mine")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    return SimpleNamespace(
        logger=logger,
        iter=0,
        epoch=0,
        max_iters=6,
        max_epochs=2,
        test_dataloader=range(4),
        on_exit=ExitStack(),
    )


def train(hook: ProgressHook, runner) -> None:
    hook.before_train(runner)
    for step in range(runner.iter, 6):
        runner.epoch = step // 3
        outputs = {"loss": torch.tensor(0.5 + step)} if step % 2 else None
        hook.after_train_iter(runner, step % 3, outputs=outputs)
    runner.on_exit.close()


def test_a_bar_in_a_terminal(runner, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal(True))

    train(ProgressHook(), runner)

    text = sys.stderr.getvalue()
    assert "train: 100%" in text
    assert "6/6" in text
    assert "epoch 2/2, loss 5.5000" in text


def test_nothing_elsewhere(runner, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal(False))
    hook = ProgressHook()

    train(hook, runner)
    hook.before_test(runner)
    hook.after_test_iter(runner, 0)
    runner.on_exit.close()

    assert sys.stderr.getvalue() == ""


def test_a_resumed_training_goes_on_where_it_was(runner, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    runner.iter = 3

    ProgressHook().before_train(runner)

    assert "3/6" in sys.stderr.getvalue()


def test_the_bar_of_a_test(runner, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    hook = ProgressHook()

    hook.before_test(runner)
    for index in range(4):
        hook.after_test_iter(runner, index)
    runner.on_exit.close()

    assert "test: 100%" in sys.stderr.getvalue()
    assert "4/4" in sys.stderr.getvalue()


def test_log_lines_stay_whole_and_keep_their_filter(runner, monkeypatch):
    console = Terminal(True)
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    handler = logging.StreamHandler(console)
    handler.addFilter(lambda record: "page" not in record.getMessage())
    runner.logger.handlers = [handler]
    hook = ProgressHook()

    hook.before_train(runner)
    runner.logger.warning("a line")
    runner.logger.warning("a long page")
    runner.on_exit.close()

    assert console.getvalue() == "a line\n"
    assert runner.logger.handlers == [handler]
