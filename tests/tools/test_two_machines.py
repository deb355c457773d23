"""``tools/dist_train.sh`` on two machines: network namespaces that a pair of interfaces joins."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
# In the order of texts, in which torchrun numbers machines, the second comes first.
ADDRESSES = ("10.213.77.9", "10.213.77.10")
ITERATIONS = 100

# Counts the iterations in a file on the first machine, and goes on from there when started again.
STUB = """
import os, pathlib, time
import torch
from torch import distributed
from aicore.engine.distributed import broadcast_object, init_distributed, is_restarted

saved = pathlib.Path(os.environ["STUB_FOLDER"]) / "saved.txt"
init_distributed("pytorch", timeout_s=60)
rank = distributed.get_rank()
assert rank == int(os.environ["NODE_RANK"])
again = is_restarted()
begin = broadcast_object(lambda: int(saved.read_text())) if again else 0
print(f"rank {rank} of {distributed.get_world_size()} begins at {begin}", flush=True)
for iteration in range(begin, %d):
    total = torch.tensor([1.0 + rank])
    distributed.all_reduce(total)
    assert total == 3
    if rank == 0:
        temporary = saved.with_suffix(".new")
        temporary.write_text(str(iteration + 1))
        temporary.replace(saved)
    time.sleep(0.05)
print(f"rank {rank} ends", flush=True)
distributed.destroy_process_group()
"""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Machine:
    """A network namespace in which ``tools/dist_train.sh`` runs."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self.rank = rank
        self.name = f"aicore{os.getpid()}m{rank}"
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the script; its output goes to a file of its own."""
        self.starts += 1
        script = str(self.folder / "dist_train.sh")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, script, "c", "1", "--max-restarts", "2"],
                env=os.environ
                | {
                    "PYTHON": sys.executable,
                    "OMP_NUM_THREADS": "1",
                    "STUB_FOLDER": str(self.folder),
                    "NNODES": "2",
                    "NODE_RANK": str(self.rank),
                    "MASTER_ADDR": ADDRESSES[0],
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> Path:
        """What the last start said."""
        return self.folder / f"{self.rank}.{self.starts}.log"

    def kill(self) -> None:
        """Kills all that runs on it, as a power cut does."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False
        )
        for number in listed.stdout.split():
            try:
                os.kill(int(number), signal.SIGKILL)
            except ProcessLookupError:  # ended meanwhile
                continue
        if self.process is not None:
            self.process.wait(timeout=30)

    def end(self) -> str:
        """Waits for the script to end well, and returns what it said."""
        assert self.process is not None
        code = self.process.wait(timeout=90)
        assert code == 0, self.log.read_text()
        return self.log.read_text()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    """Two machines that reach each other, and nothing else."""
    for name in ("dist_run.sh", "dist_train.sh"):
        shutil.copy(TOOLS / name, tmp_path)
    (tmp_path / "train.py").write_text(STUB % ITERATIONS)
    machines = [Machine(tmp_path, rank) for rank in range(2)]
    ends = [f"aic{os.getpid()}v{rank}" for rank in range(2)]
    try:
        for machine in machines:
            _ip("netns", "add", machine.name)
        _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for machine, end, address in zip(machines, ends, ADDRESSES, strict=True):
            _ip("link", "set", end, "netns", machine.name)
            _ip("-n", machine.name, "addr", "add", f"{address}/24", "dev", end)
            _ip("-n", machine.name, "link", "set", "lo", "up")
            _ip("-n", machine.name, "link", "set", end, "up")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        _remove(machines)
        pytest.skip(f"network namespaces cannot be made: {getattr(error, 'stderr', error)}")
    yield machines
    _remove(machines)


def _remove(machines: list[Machine]) -> None:
    if shutil.which("ip"):
        for machine in machines:
            machine.kill()
            # Its interface goes with it.
            subprocess.run(["ip", "netns", "del", machine.name], capture_output=True, check=False)


def _await_iteration(folder: Path, iteration: int) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        saved = folder / "saved.txt"
        if saved.exists() and int(saved.read_text()) >= iteration:
            return int(saved.read_text())
        time.sleep(0.05)
    raise AssertionError("\n".join(log.read_text() for log in sorted(folder.glob("*.log"))))


def test_a_machine_that_is_killed_and_started_again_goes_on(
    machines: list[Machine], tmp_path: Path
) -> None:
    for machine in machines:
        machine.start()
    for killed in machines:
        reached = _await_iteration(tmp_path, 5 + 40 * killed.rank)
        killed.kill()
        killed.start()
    for machine in machines:
        text = machine.end()
        begin = int(re.findall(rf"rank {machine.rank} of 2 begins at (\d+)", text)[-1])
        assert reached <= begin < ITERATIONS
        assert f"rank {machine.rank} ends" in text
    assert "The machine with NODE_RANK=0 is lost" in (tmp_path / "1.1.log").read_text()
    assert _await_iteration(tmp_path, ITERATIONS) == ITERATIONS
