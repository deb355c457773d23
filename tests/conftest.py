"""What the tests of all stages share: easily told pictures, a trained model, the tools."""

from __future__ import annotations

import gc
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

import aicore  # noqa: F401  (mmcv's ops, before a test imports a host library)

# Before torch is imported, here and in the tools' processes: threads that wait for each other take
# longer over these small tensors than the work itself, the more so on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# As the tools do: looking for garbage takes a fifth of the time of importing the libraries.
gc.set_threshold(50_000)

REPOSITORY = Path(__file__).parents[1]
Tool = Callable[..., subprocess.CompletedProcess[str]]
CLASSES = ("bright", "dark", "striped")  # in sorted order, as folders are read
SIDE = 32  # pixels


@dataclass(frozen=True)
class Trained:
    """What a short training leaves behind."""

    config: Path
    """The leaf config."""
    checkpoint: Path
    """The best checkpoint, in ``work_dir``: weights and classes."""
    last_checkpoint: Path
    """The last epoch's, which holds the optimiser's state too: it can be resumed."""
    work_dir: Path
    """Logs and checkpoints."""
    data_root: Path
    """The data: see :func:`class_folders`."""


def draw_example(name: str, generator: np.random.Generator) -> np.ndarray:
    """Returns a noisy colour picture of one of ``CLASSES``, SIDE x SIDE x 3 uint8."""
    levels = {
        "bright": np.full((SIDE, SIDE), 200),
        "dark": np.full((SIDE, SIDE), 50),
        "striped": np.where(np.arange(SIDE) % 8 < 4, 50, 200) * np.ones((SIDE, 1)),
    }
    noise = generator.normal(0, 8, (SIDE, SIDE, 3))
    return np.clip(levels[name][..., None] + noise, 0, 255).astype(np.uint8)


def write_class_folders(root: Path) -> Path:
    """Writes ``train/<class>`` with 8 and ``val/<class>`` with 4 pictures each."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(folder / f"{name}_{index}.png"), draw_example(name, generator))
    return root


def write_leaf_config(file: Path, data_root: Path) -> Path:
    """Writes a config for a training of a few seconds: resnet18 on pictures of 32 pixels."""
    base = REPOSITORY / "configs" / "classification" / "resnet18.py"
    file.write_text(
        f"_base_ = {base.as_posix()!r}\n"
        f"data_root = {data_root.as_posix()!r}\n"
        f"image_size = {SIDE}\n"
        "batch_size = 8\n"
        "num_workers = 0\n"
        "max_epochs = 3\n"
        "log_interval = 1\n",
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="module", autouse=True)
def _frozen_garbage_collection() -> None:
    """Has MMEngine's collection after each reading of a data set pass over the libraries' objects.

    It takes 0.4 s each time otherwise, which is most of what many of these tests do.
    """
    gc.freeze()


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root with ``train`` and ``val``, a folder each for bright, dark and striped pictures.

    8 and 4 PNG of 32 x 32 a class. Read only: a test that changes the data copies them first.
    """
    return write_class_folders(tmp_path_factory.mktemp("class_folders"))


@pytest.fixture(scope="session")
def leaf_config(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaf config over ``class_folders``: resnet18, 32 pixels, three epochs, no workers."""
    return write_leaf_config(tmp_path_factory.mktemp("configs") / "tiny.py", class_folders)


@pytest.fixture
def small_config(leaf_config: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function ``small_config(max_epochs=1)``: a leaf over ``leaf_config`` with a tiny network.

    Its name is the test's own: MMEngine gives two runs of one config that begin in the same second
    one logger.
    """

    def write(**settings: object) -> Path:
        settings = {"model_name": "test_resnet.r160_in1k", "max_epochs": 1, **settings}
        lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
        file = tmp_path / f"{tmp_path.name}.py"
        file.write_text(f"_base_ = {leaf_config.as_posix()!r}\n{''.join(lines)}", encoding="utf-8")
        return file

    return write


@pytest.fixture(scope="session")
def trained(
    leaf_config: Path, class_folders: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """A resnet18 trained on ``class_folders`` for three epochs. Read only."""
    from aicore.apis import train

    work_dir = tmp_path_factory.mktemp("trained")
    runner = train(leaf_config, work_dir=work_dir)
    info = runner.message_hub.runtime_info
    best, last = Path(info["best_ckpt"]), Path(info["last_ckpt"])
    return Trained(leaf_config, best, last, work_dir, class_folders)


@pytest.fixture(scope="session")
def run_tool() -> Tool:
    """A function ``run_tool('tools/train.py', config, '--work-dir', folder)``.

    It runs the tool from the repository root with this interpreter, in a process of its own, and
    returns the :class:`subprocess.CompletedProcess` with ``returncode``, ``stdout``, ``stderr``.
    """

    def run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, tool, *map(str, arguments)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture
def call_tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """As ``run_tool``, but within this process: seconds faster, and seen by the coverage.

    The working directory stays as it is, and an error that a tool does not turn into a sentence
    comes through.
    """

    def call(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [tool, *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        # A logger that an earlier test built may hold that test's captured stream, now closed.
        monkeypatch.setattr(logging, "raiseExceptions", False)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(REPOSITORY / tool), run_name="__main__")
        output = capsys.readouterr()
        return subprocess.CompletedProcess(command, ended.value.code or 0, output.out, output.err)

    return call
