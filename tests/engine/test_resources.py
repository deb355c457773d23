from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal

import cv2
import numpy as np
import pytest
import torch

from aicore.apis import test as run_test
from aicore.apis import train
from aicore.engine.resources import exhaustion_sentence, explain_exhaustion
from aicore.errors import ResourceError
from aicore.registry import TRANSFORMS

SHARED = (
    "Caught RuntimeError in a data worker that sent a batch.\nOriginal Traceback (most recent call "
    "last):\n  ...\nRuntimeError: unable to allocate shared memory(shm) for file </torch_17_0>: "
    "No space left on device (28)"
)
BUS = (
    "DataLoader worker (pid 17) is killed by signal: Bus error. It is possible that dataloader's "
    "workers are out of shared memory. Please try to raise your shared memory limit."
)
WORKER = "Caught _ArrayMemoryError in DataLoader worker process 0.\nOriginal Traceback ...\n"
GPU = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.14 GiB"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError(SHARED), "shared memory.*too small.*--shm-size=1g.*num_workers=0"),
        (RuntimeError(BUS), "shared memory.*too small.*--shm-size=1g.*num_workers=0"),
        (
            RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. "),
            r"a data worker \(pid 17\) was killed.*out of memory.*batch_size.*num_workers",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 17, 18) exited unexpectedly"),
            r"a data worker \(pid 17, 18\) ended without a word.*out of memory",
        ),
        (
            RuntimeError("DataLoader worker (pid 17) is killed by signal: Segmentation fault. "),
            r"a data worker \(pid 17\) crashed: Segmentation fault.*num_workers=0",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (RuntimeError("unable to open file: Too many open files (24)"), "ulimit -n"),
        (
            torch.OutOfMemoryError(GPU),
            r"memory of the GPU \(asked for 20.00 MiB more\).*batch_size",
        ),
        (MemoryError(), r"out of memory \(none is left\).*batch_size, image_size or num_workers"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (
            RuntimeError(f"{WORKER}numpy.MemoryError: Unable to allocate 1.5 GiB for an array"),
            r"out of memory \(asked for 1.5 GiB more\)",
        ),
    ],
)
def test_what_ran_out_and_what_to_lower(error, words):
    assert re.search(words, exhaustion_sentence(error))


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(2**60),
        lambda: np.empty(2**60, np.uint8),
        lambda: cv2.resize(np.zeros((1, 1), np.uint8), (2**31 - 1, 2**20)),
    ],
)
def test_what_libraries_raise_is_understood(allocate):
    with pytest.raises(ResourceError, match=r"^out of memory .*batch_size"), explain_exhaustion():
        allocate()


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), FileNotFoundError(2, "none")])
def test_other_errors_pass_through(error):
    with pytest.raises(type(error)) as caught, explain_exhaustion():
        raise error
    assert caught.value is error


@TRANSFORMS.register_module()
class KilledTransform:
    """Ends its worker as the system does when memory runs out."""

    def __call__(self, results: dict) -> dict:
        assert multiprocessing.parent_process()
        os.kill(os.getpid(), signal.SIGKILL)


@TRANSFORMS.register_module()
class GreedyTransform:
    """Asks for more memory than there is."""

    def __call__(self, results: dict) -> dict:
        return np.empty(2**60, np.uint8)


@pytest.mark.parametrize("stage", ["train", "test"])
@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ("KilledTransform", "^a data worker .*num_workers"),
        ("GreedyTransform", "out of memory .*more"),
    ],
)
def test_a_run_ends_with_the_sentence(trained, small_config, tmp_path, stage, transform, words):
    options = {"num_workers": 2}
    options[f"{stage}_dataloader.dataset.pipeline"] = [dict(type=f"aicore.{transform}")]

    with pytest.raises(ResourceError, match=words):
        if stage == "train":
            train(small_config(), work_dir=tmp_path / "run", options=options)
        else:
            run_test(trained.config, trained.checkpoint, out=tmp_path / "run", options=options)

    assert not multiprocessing.active_children()
