"""A training on two machines: network namespaces that a pair of interfaces joins."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
# In the order of texts, in which torchrun numbers machines, the second comes first.
ADDRESSES = ("10.213.77.9", "10.213.77.10")
ITERATIONS = 60  # ten epochs of six
INTERVAL = 4  # iterations between two checkpoints

# Each process says what its model is like after each iteration.
WITNESS = """
import os
import zlib

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from aicore.registry import HOOKS


@HOOKS.register_module()
class TwoMachinesHook(Hook):
    priority = "LOWEST"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert get_rank() == int(os.environ["NODE_RANK"])
        weights = runner.model.module.state_dict().items()
        parts = (v.numpy().tobytes() for name, v in weights if v.is_floating_point())
        print(f"rank {get_rank()} iteration {runner.iter + 1}: {zlib.crc32(b''.join(parts))}")
"""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Machine:
    """A network namespace in which ``tools/dist_train.sh`` runs."""

    def __init__(self, config: Path, rank: int) -> None:
        self.config = config
        self.folder = config.parent
        self.rank = rank
        self.name = f"aicore{os.getpid()}m{rank}"
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the script; its output goes to a file of its own."""
        self.starts += 1
        # Each has its own disk: only the first finds checkpoints in its work dir.
        work_dir = self.folder / f"machine_{self.rank}"
        command = [REPOSITORY / "tools" / "dist_train.sh", self.config, 1, "--work-dir", work_dir]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *map(str, command), "--max-restarts", "2"],
                cwd=REPOSITORY,
                env=os.environ
                | {
                    "PYTHON": sys.executable,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": str(self.folder),
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

    def await_iteration(self, iteration: int) -> int:
        """Waits until the last start has come that far, and returns how far it is."""
        end = time.monotonic() + 600
        while time.monotonic() < end:
            reached = [number for _, number, _ in _iterations(self.log)]
            if reached and reached[-1] >= iteration:
                return reached[-1]
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

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
            self.process.wait(timeout=600)

    def end(self) -> str:
        """Waits for the script to end well, and returns what it said."""
        assert self.process is not None
        code = self.process.wait(timeout=600)
        assert code == 0, self.log.read_text()
        return self.log.read_text()


def _iterations(log: Path) -> list[tuple[int, int, str]]:
    """Returns rank, iteration and the sum over the weights after it, for each in a log."""
    lines = re.findall(r"rank (\d) iteration (\d+): (\d+)\n", log.read_text())
    return [(int(rank), int(iteration), weights) for rank, iteration, weights in lines]


@pytest.fixture
def machines(small_config: Callable[..., Path]) -> Iterator[list[Machine]]:
    """Two machines that reach each other, and nothing else."""
    config = small_config(
        max_epochs=ITERATIONS // 6,
        batch_size=2,
        default_hooks=dict(checkpoint=dict(interval_iters=INTERVAL)),
        custom_imports=dict(imports=["two_machines_witness"]),
        custom_hooks=[dict(type="aicore.TwoMachinesHook")],
    )
    (config.parent / "two_machines_witness.py").write_text(WITNESS)
    machines = [Machine(config, rank) for rank in range(2)]
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


def test_a_machine_that_is_killed_and_started_again_goes_on(
    machines: list[Machine], tmp_path: Path
) -> None:
    for machine in machines:
        machine.start()
    for killed, iteration in zip(reversed(machines), (10, 25), strict=True):
        reached = machines[0].await_iteration(iteration)
        killed.kill()
        killed.start()
    texts = [machine.end() for machine in machines]

    # Rank 0, killed last, goes on where it was: its hook speaks after a checkpoint is written.
    assert "Loaded checkpoint" in texts[0]
    assert int(re.findall(r"resumed epoch: \d+, iter: (\d+)", texts[0])[-1]) > reached - INTERVAL
    assert "The machine with NODE_RANK=0 is lost" in texts[1]
    assert (tmp_path / "machine_0" / f"epoch_{ITERATIONS // 6}.pth").exists()
    assert not list((tmp_path / "machine_1").glob("*.pth"))
    # The same weights on both, and again when an iteration is done again.
    weights: dict[int, set[str]] = defaultdict(set)
    done = set()
    for log in tmp_path.glob("?.?.log"):
        for rank, number, after in _iterations(log):
            weights[number].add(after)
            done.add((rank, number))
    assert done == {(r, n) for r in range(2) for n in range(1, ITERATIONS + 1)}
    assert all(len(found) == 1 for found in weights.values())
    assert len(weights) == len(set.union(*weights.values()))
