"""A folder that another process writes into is refused."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import pytest

from aicore.apis import infer, train
from aicore.apis import test as run_test
from aicore.errors import ConfigError
from aicore.runtime.locks import lock_folder

fork = multiprocessing.get_context("fork")


def tell_refusal(pipe, run: Callable[[], object]) -> None:
    try:
        run()
    except ConfigError as error:
        pipe.send(str(error))


@pytest.mark.parametrize(
    "run",
    [
        lambda trained, out: train(trained.config, work_dir=out),
        lambda trained, out: run_test(trained.config, trained.checkpoint, out=out),
        lambda trained, out: infer(
            trained.config, trained.checkpoint, trained.data_root / "val/dark", out=out
        ),
    ],
    ids=["train", "test", "infer"],
)
def test_a_second_process_is_refused(trained, tmp_path, run):
    receiver, sender = fork.Pipe()
    with lock_folder(tmp_path):
        process = fork.Process(target=tell_refusal, args=(sender, lambda: run(trained, tmp_path)))
        process.start()
        assert receiver.poll(60)
        process.join()

    assert f"{str(tmp_path)!r} is in use: process {os.getpid()} on " in receiver.recv()
    assert not list(tmp_path.iterdir())


def test_the_next_training_may_use_the_folder(small_config, tmp_path):
    train(small_config(), work_dir=tmp_path / "run")

    process = fork.Process(target=lock_and_leave, args=(tmp_path / "run",))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_run_that_could_not_be_built_leaves_no_lock(small_config, tmp_path):
    with pytest.raises(ConfigError) as kept:  # as a notebook keeps the last error
        train(small_config(), work_dir=tmp_path / "run", options={"model.head.type": "NoHead"})

    assert "takes no argument 'head'" in str(kept.value)
    assert not (tmp_path / "run" / ".lock").exists()


def lock_and_leave(folder) -> None:
    with lock_folder(folder):
        pass
