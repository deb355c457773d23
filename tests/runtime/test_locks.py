from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aicore.errors import ConfigError
from aicore.runtime import locks
from aicore.runtime.locks import lock_folder

fork = multiprocessing.get_context("fork")


def hold(folder: Path, pipe, with_child: bool) -> None:
    """Locks a folder for ever, and says so; its child says which process it is."""
    with lock_folder(folder):
        child = os.fork() if with_child else None
        if child != 0:
            pipe.send(child)
        time.sleep(100)


@pytest.fixture
def held() -> Iterator[Callable[..., multiprocessing.Process]]:
    """A function ``held(folder, with_child=False)``: another process that has locked the folder."""
    processes, children = [], []

    def start(folder: Path, with_child: bool = False) -> multiprocessing.Process:
        receiver, sender = fork.Pipe()
        process = fork.Process(target=hold, args=(folder, sender, with_child))
        process.start()
        processes.append(process)
        assert receiver.poll(30)
        children.append(receiver.recv())
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()
    for child in filter(None, children):
        os.kill(child, signal.SIGKILL)


def test_another_process_is_refused(held, tmp_path):
    process = held(tmp_path)

    with pytest.raises(ConfigError) as caught, lock_folder(tmp_path):
        pass

    owner = f"process {process.pid} on {socket.gethostname()}"
    assert str(caught.value).startswith(f"{str(tmp_path)!r} is in use: {owner} writes into it. ")
    assert "--work-dir" in str(caught.value)


@pytest.mark.parametrize("with_child", [False, True])
def test_the_lock_ends_with_its_process(held, tmp_path, with_child):
    process = held(tmp_path, with_child)  # a child, such as a data worker, lives on
    process.kill()
    process.join()

    with lock_folder(tmp_path):
        pass


def test_the_lock_ends_with_the_block(tmp_path):
    with lock_folder(tmp_path):
        pass
    process = fork.Process(target=lock_and_leave, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not list(tmp_path.iterdir())


def lock_and_leave(folder: Path) -> None:
    with lock_folder(folder):
        pass


def test_waiting_for_another_process(held, tmp_path, monkeypatch):
    process = held(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: (process.kill(), process.join()))

    with lock_folder(tmp_path, wait=True):
        assert not process.is_alive()


def test_one_at_a_time(tmp_path):
    """Removed and made anew, the file never lets two in."""
    (tmp_path / "counter").write_text("0")
    processes = [fork.Process(target=count_up, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "counter").read_text() == "100"


def count_up(folder: Path) -> None:
    locks._POLL = 0.001  # seconds; of this process alone
    for _ in range(25):
        with lock_folder(folder, wait=True):
            number = int((folder / "counter").read_text())
            (folder / "counter").write_text(str(number + 1))


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, lock_folder(tmp_path / "none"):
        pass
    assert caught.value.filename == str(tmp_path / "none")


@pytest.mark.skipif(os.name == "nt", reason="locks of another kind")
def test_a_drive_without_locks_is_a_warning(tmp_path, monkeypatch):
    def refuse(stream, flags: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.warns(UserWarning, match="cannot be locked: No locks"), lock_folder(tmp_path):
        pass
