"""No tool runs code from a checkpoint, unless it is told to trust it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


class Payload:
    """Makes a folder when it is unpickled by the ordinary unpickler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.makedirs, (str(self.folder), 0o777, True)


@pytest.fixture
def ran(tmp_path) -> Path:
    """The folder that is there once the payload has run."""
    return tmp_path / "ran"


@pytest.fixture
def crafted(trained, tmp_path, ran) -> Path:
    """A checkpoint that could be resumed, tested and published, with a payload in its meta."""
    content = torch.load(trained.last_checkpoint, weights_only=False)
    content["meta"]["note"] = Payload(ran)
    file = tmp_path / "crafted.pth"
    torch.save(content, file)
    return file


def with_config(trained, tool: str, *arguments: object) -> list:
    return [f"tools/{tool}.py", trained.config, *arguments]


COMMANDS = {
    "train --load-from": lambda t, c: with_config(
        t, "train", "--load-from", c, "--cfg-options", "max_epochs=1"
    ),
    "train --resume FILE": lambda t, c: with_config(
        t, "train", "--resume", c, "--cfg-options", "max_epochs=4"
    ),
    "test": lambda t, c: with_config(t, "test", c),
    "demo": lambda t, c: with_config(t, "demo", c, t.data_root / "val" / "dark" / "dark_0.png"),
    "publish": lambda t, c: ["tools/misc/publish_model.py", c],
}
PRETRAINED = {
    "train pretrained": lambda t, c: with_config(
        t, "train", "--cfg-options", f"pretrained={c}", "max_epochs=1"
    ),
    "benchmark": lambda t, c: with_config(
        t, "benchmark", "--switches", "", "--cfg-options", f"pretrained={c}"
    ),
}


@pytest.fixture
def call(trained, crafted, call_tool, tmp_path, monkeypatch):
    """Runs one of the commands on the crafted checkpoint."""
    monkeypatch.chdir(tmp_path)

    def run(command, *more: str):
        tool, *arguments = command(trained, crafted)
        if tool == "tools/benchmark.py":
            arguments.insert(0, "train")
        return call_tool(tool, *arguments, *more)

    return run


# The benchmark starts a process for each variant.
SLOW = [pytest.param("benchmark", marks=pytest.mark.slow)]


@pytest.mark.parametrize(
    "name", [*COMMANDS, *(name for name in PRETRAINED if name != "benchmark"), *SLOW]
)
def test_the_checkpoint_is_refused_and_named(call, ran, name):
    done = call((COMMANDS | PRETRAINED)[name])

    assert not ran.exists()
    text = done.stdout + done.stderr
    assert "holds more than weights and is not loaded, since that could run code" in text
    assert "it names os.makedirs" in text
    assert "--trust-checkpoint" in text
    assert "Traceback" not in text
    assert done.returncode == 1


def test_it_is_refused_as_the_newest_of_a_training_too(trained, crafted, call_tool, ran, tmp_path):
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    (work_dir / "epoch_1.pth").write_bytes(trained.last_checkpoint.read_bytes())
    crafted.rename(work_dir / "epoch_2.pth")
    (work_dir / "epoch_2.pth").touch()  # the newest, and an unsafe file is no damaged one

    done = call_tool("tools/train.py", trained.config, "--work-dir", work_dir, "--resume")

    assert not ran.exists()
    assert done.returncode == 1
    assert "epoch_2.pth' holds more than weights" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_trusted_one_is_read(call, ran, name):
    done = call(COMMANDS[name], "--trust-checkpoint")

    assert ran.exists()
    assert done.returncode == 0, done.stderr
