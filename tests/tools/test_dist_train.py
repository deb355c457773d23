"""The scripts for several processes, around stubs of the programs that they start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPTS = ("dist_run.sh", "dist_train.sh", "dist_test.sh", "slurm_train.sh", "torchrun.py")
Start = Callable[..., subprocess.Popen[str]]

STUB = """
import json, os, pathlib, signal, sys, time

rank, restart = os.environ["RANK"], os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
folder = pathlib.Path(os.environ["STUB_FOLDER"])
received = []
for number in (signal.SIGTERM, signal.SIGINT) if os.environ["STUB"] == "wait" else ():
    signal.signal(number, lambda number, frame: received.append(number))
found = {"arguments": sys.argv, "environment": dict(os.environ)}
(folder / f"{rank}.{restart}.json").write_text(json.dumps(found))
if os.environ["STUB"] == "die" and rank == "1" and restart == "0":
    raise ValueError("the error of the process itself")
if os.environ["STUB"] == "wait":
    end = time.monotonic() + 600
    while not received and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)  # saves its work
    (folder / f"{rank}.received").write_text(str([int(number) for number in received]))
    sys.exit(128 + received[0])
if os.environ["STUB"] == "die" and restart == "0":
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a blank in its name, with copies of the scripts, and stubs beside them."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in SCRIPTS:
        shutil.copy(TOOLS / name, folder)
    for name in ("train.py", "test.py"):
        (folder / name).write_text(STUB)
    return folder


def _heed_interrupts() -> None:
    """Undoes what a shell does to commands in the background, these tests perhaps among them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """A function ``start('dist_train.sh', 'config.py', 2, stub='wait', PORT='1234')``."""
    started: list[subprocess.Popen[str]] = []

    def begin(
        script: str, *arguments: str | int, stub: str = "end", **environment: str
    ) -> subprocess.Popen[str]:
        names = ("OMP_NUM_THREADS", "MAX_RESTARTS", "GLOO_SOCKET_IFNAME")
        inherited = {key: value for key, value in os.environ.items() if key not in names}
        own = {"PYTHON": sys.executable, "STUB": stub, "STUB_FOLDER": str(folder)}
        process = subprocess.Popen(
            [str(folder / script), *map(str, arguments)],
            env=inherited | own | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_heed_interrupts,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=600)


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def _read(folder: Path, rank: int, restart: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"{rank}.{restart}.json").read_text())


def test_two_processes_get_the_arguments_and_their_ranks(start: Start, folder: Path) -> None:
    options = ["--amp", "--cfg-options", "a=[1,2]", "name=with a blank", "empty="]
    code, output = _end(start("dist_train.sh", "my config.py", 2, *options))
    assert code == 0, output
    assert "OMP_NUM_THREADS" not in output  # torchrun's warning
    for rank in range(2):
        found = _read(folder, rank)
        assert found["arguments"] == [
            str(folder / "train.py"),
            "my config.py",
            "--launcher",
            "pytorch",
            *options,
        ]
        environment = found["environment"]
        expected = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        assert expected.items() <= environment.items()
        assert environment["MASTER_ADDR"] == "127.0.0.1"
        cores = len(os.sched_getaffinity(0))
        assert int(environment["OMP_NUM_THREADS"]) == max(cores // 2, 1)
    assert not Path(environment["LAUNCH_FOLDER"]).exists()


def test_testing_in_two_processes(start: Start, folder: Path) -> None:
    code, output = _end(start("dist_test.sh", "c.py", "best.pth", 2, "--out", "x y"))
    assert code == 0, output
    arguments = ["c.py", "best.pth", "--launcher", "pytorch", "--out", "x y"]
    assert _read(folder, 1)["arguments"][1:] == arguments


def test_a_process_that_dies_ends_all_with_its_own_error(start: Start, folder: Path) -> None:
    process = start("dist_train.sh", "c.py", 2, stub="die")
    code, output = _end(process)
    assert code == 1
    assert "ValueError: the error of the process itself" in output
    assert not _is_alive(_read(folder, 0)["environment"]["LAUNCH_FOLDER"])
    assert not (folder / "0.1.json").exists()  # no restart unless asked for


def _is_alive(launch_folder: str) -> bool:
    """Returns whether a process of that launch is left."""
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"LAUNCH_FOLDER={launch_folder}".encode() in file.read_bytes():
                return "Z" not in (file.parent / "stat").read_text().rpartition(")")[2][:3]
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return False


@pytest.mark.slow
def test_all_processes_are_started_again(start: Start, folder: Path) -> None:
    port = str(_free_port())
    options = ["-a", "--max-restarts=1", "-b"]
    code, output = _end(start("dist_train.sh", "c.py", 2, *options, stub="die", PORT=port))
    assert code == 0, output
    assert "ValueError: the error of the process itself" in output
    for rank in range(2):
        assert _read(folder, rank, 1)["arguments"][-2:] == ["-a", "-b"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("number", "to_torchrun"),
    [
        (signal.SIGTERM, False),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.slow),
    ],
)
def test_a_signal_reaches_all_processes(
    start: Start, folder: Path, number: signal.Signals, to_torchrun: bool
) -> None:
    process = start("dist_train.sh", "c.py", 2, "--max-restarts", 3, stub="wait")
    for rank in range(2):
        _await(folder / f"{rank}.0.json")
    if to_torchrun:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children.split()[0]), number)
    else:
        process.send_signal(number)
        time.sleep(0.2)
        process.send_signal(number)  # an impatient user's: torchrun would not wait any longer
    code, output = _end(process)
    assert code == 128 + number, output
    for rank in range(2):
        assert (folder / f"{rank}.received").read_text() == f"[{int(number)}]"
        assert not (folder / f"{rank}.1.json").exists()


def _await(file: Path) -> None:
    end = time.monotonic() + 600
    while not file.exists():
        assert time.monotonic() < end, f"{file.name} did not appear"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("script", "arguments", "environment", "words"),
    [
        ("dist_train.sh", [], {}, "usage: tools/dist_train.sh CONFIG GPUS"),
        ("dist_train.sh", ["--help"], {}, "usage: tools/dist_train.sh CONFIG GPUS"),
        ("dist_train.sh", ["c.py"], {}, "usage: tools/dist_train.sh CONFIG GPUS"),
        ("dist_train.sh", ["c.py", "two"], {}, "at least 1, not 'two'"),
        ("dist_train.sh", ["c.py", "0"], {}, "at least 1, not '0'"),
        ("dist_train.sh", ["c.py", "2", "--max-restarts"], {}, "usage: tools/dist_train.sh"),
        ("dist_train.sh", ["c.py", "2", "--max-restarts", "x"], {}, "are numbers, not 'x'"),
        ("dist_train.sh", ["c.py", "2"], {"NNODES": "2", "NODE_RANK": "2"}, "expected 0 to 1"),
        ("dist_train.sh", ["c.py", "2"], {"NNODES": "2"}, "MASTER_ADDR=127.0.0.1 is this machine"),
        (
            "dist_train.sh",
            ["c.py", "2"],
            {"NNODES": "2", "MASTER_ADDR": "no.such.host.invalid"},
            "MASTER_ADDR=no.such.host.invalid cannot be reached",
        ),
        ("dist_test.sh", ["c.py", "2"], {}, "usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS"),
        ("slurm_train.sh", ["part", "c.py"], {}, "usage: tools/slurm_train.sh PARTITION JOB_NAME"),
        ("dist_run.sh", ["2"], {}, "usage: tools/dist_run.sh GPUS PROGRAM.py"),
    ],
)
def test_wrong_arguments(
    start: Start, script: str, arguments: list[str], environment: dict[str, str], words: str
) -> None:
    code, output = _end(start(script, *arguments, **environment))
    assert code == 2
    assert words in output


def test_port_in_use(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output = _end(start("dist_train.sh", "c.py", 1, PORT=str(port)))
    assert code == 2
    assert f"error: port {port} is in use on this machine; set PORT to a free one." in output


FAKE_SRUN = """#!/usr/bin/env bash
# As srun: the options up to the command, then the command once for each task.
printf '%s\\n' "$@" > "$STUB_FOLDER/srun.txt"
while [[ $1 == -* ]]; do shift; done
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 SLURM_JOB_ID=123456 \\
        SLURM_JOB_NODELIST='node[3-4]' "$@" || exit
done
"""
FAKE_SCONTROL = """#!/usr/bin/env bash
[ "$*" = 'show hostnames node[3-4]' ] && printf 'node3\\nnode4\\n'
"""


@pytest.mark.parametrize("port", [None, "4567"])
def test_slurm(start: Start, folder: Path, tmp_path: Path, port: str | None) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", FAKE_SRUN), ("scontrol", FAKE_SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "GPUS": "2",
        "CPUS_PER_TASK": "3",
        "SRUN_ARGS": "--time=10 --exclusive",
        **({"PORT": port} if port else {}),
    }
    options = ["--cfg-options", "name=with a blank"]
    code, output = _end(start("slurm_train.sh", "gpu", "my job", "c.py", *options, **environment))
    assert code == 0, output
    asked = (folder / "srun.txt").read_text().splitlines()
    for option in (
        "--partition=gpu",
        "--job-name=my job",
        "--gres=gpu:2",
        "--ntasks=2",
        "--ntasks-per-node=2",
        "--cpus-per-task=3",
        "--time=10",
        "--exclusive",
    ):
        assert option in asked
    for rank in range(2):
        found = _read(folder, rank)
        assert found["arguments"][1:] == ["c.py", "--launcher", "pytorch", *options]
        assert {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "node3",
            "MASTER_PORT": port or "23456",
            "OMP_NUM_THREADS": "3",
        }.items() <= found["environment"].items()
