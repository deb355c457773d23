"""A training that is killed at any moment and resumed ends with the same weights, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aicore.apis import train
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

# More moments: AICORE_KILL_MOMENTS=20 pytest tests/flows/test_kill_and_resume.py
MOMENTS = int(os.environ.get("AICORE_KILL_MOMENTS", "2"))
LAST = "epoch_4.pth"
ITERATIONS = 48


@pytest.fixture
def config(small_config) -> Path:
    """Four epochs of 12 iterations with all that draws, averages or counts."""
    return small_config(
        max_epochs=4,
        batch_size=2,
        num_workers=2,
        batch_augments=[dict(type="Mixup", alpha=0.5)],
        default_hooks=dict(checkpoint=dict(interval_iters=5)),
        custom_hooks=[
            dict(type="aicore.EMAHook", momentum=0.05, update_buffers=True),
            dict(type="aicore.MultiScaleHook", sizes=[32, 64], interval=2),
            dict(type="aicore.EarlyStoppingHook", monitor="accuracy/top1", patience=9),
        ],
        optim_wrapper=dict(accumulative_counts=2),
    )


def start(config: Path, work_dir: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "tools/train.py", config, "--work-dir", work_dir, *arguments]
    with (work_dir.parent / f"{work_dir.name}.log").open("ab") as log:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that the workers can be killed with it
        )


def finish(process: subprocess.Popen, work_dir: Path) -> None:
    code = process.wait(600)
    assert code == 0, (work_dir.parent / f"{work_dir.name}.log").read_text()[-3000:]


def wait_for_iteration(process: subprocess.Popen, work_dir: Path, iteration: int) -> None:
    """Waits until the log has that many lines of training, or the training has ended."""
    log = work_dir.parent / f"{work_dir.name}.log"
    deadline = time.monotonic() + 600
    while log.read_text().count("Epoch(train)") < iteration and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def differences(one: object, other: object, where: str = "") -> list[str]:
    """Returns where two checkpoints differ; when they were written does not count."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: {one.keys() ^ other.keys()}"]
        return [d for key in one for d in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return [d for i, (a, b) in enumerate(pairs) for d in differences(a, b, f"{where}/{i}")]
    return [] if one == other else [f"{where}: {one!r} {other!r}"]


def state_of(work_dir: Path) -> dict:
    """Returns all that a training goes on from, and its outcome."""
    checkpoint = torch.load(work_dir / LAST, weights_only=False)
    info = checkpoint.pop("message_hub")["runtime_info"]
    meta = checkpoint.pop("meta")
    best = Path(info["best_ckpt"]).name
    return {
        **checkpoint,
        "best_score": info["best_score"],
        "best": best,
        "best_weights": torch.load(work_dir / best, weights_only=False)["ema_state_dict"],
        "position": {key: meta[key] for key in ("epoch", "iter", "validation_pending")},
    }


def test_the_weights_are_the_same(config, tmp_path):
    whole = tmp_path / "whole"
    finish(start(config, whole), whole)
    expected = state_of(whole)
    seed = random.SystemRandom().randrange(1000)
    moments = random.Random(seed)
    killed = 0

    for number in range(MOMENTS):
        work_dir = tmp_path / f"killed_{number}"
        process = start(config, work_dir)
        wait_for_iteration(process, work_dir, moments.randint(1, ITERATIONS))
        time.sleep(moments.uniform(0, 0.1))  # in a validation or while a checkpoint is written
        if process.poll() is None:
            killed += 1
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            finish(start(config, work_dir, "--resume"), work_dir)
        assert differences(expected, state_of(work_dir)) == [], f"seed {seed}, moment {number}"
    assert killed  # the others had come to their end


def test_the_number_of_workers_makes_no_difference(config, tmp_path):
    for workers in (0, 1, 2):
        train(config, work_dir=tmp_path / str(workers), options={"num_workers": workers})

    expected = state_of(tmp_path / "2")
    assert differences(expected, state_of(tmp_path / "0")) == []
    assert differences(expected, state_of(tmp_path / "1")) == []
