"""Accumulation, skipping and resuming with two processes: all ranks have the same weights."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from aicore.engine.optimizers import OptimWrapper

RANKS = 2
COUNT = 3  # iterations an update
LENGTH = 8
SAVE_AT = 4  # iterations done: amid the second accumulation


def batch(index: int, rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(RANKS * index + rank)
    return torch.randn(2, 4, generator=generator, dtype=torch.float64)


def start(done: int = 0) -> tuple[DistributedDataParallel, OptimWrapper]:
    torch.manual_seed(0)
    model = DistributedDataParallel(
        nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wrapper = OptimWrapper(optimizer, accumulative_counts=COUNT, clip_grad={"max_norm": 1})
    wrapper.initialize_count_status(model, done, LENGTH)
    return model, wrapper


def iterate(model, wrapper, indices, rank: int, bad: float = 1.0) -> None:
    for index in indices:
        with wrapper.optim_context(model):
            loss = model(batch(index, rank)).square().mean()
        wrapper.update_params(loss * bad)


def weights(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def work(rank: int, folder: Path) -> None:
    """What each of the processes runs; its results go into a file."""
    distributed.init_process_group(
        "gloo",
        store=distributed.FileStore(str(folder / "store"), RANKS),
        rank=rank,
        world_size=RANKS,
    )
    model, wrapper = start()
    iterate(model, wrapper, range(SAVE_AT), rank)
    wrapper.synchronise()
    if rank == 0:  # as in a training, one rank alone writes
        torch.save([model.state_dict(), wrapper.state_dict()], folder / "checkpoint.pth")
    iterate(model, wrapper, range(SAVE_AT, LENGTH), rank)
    found = {"weights": weights(model)}

    model, wrapper = start()
    model_state, optimizer_state = torch.load(folder / "checkpoint.pth", weights_only=True)
    model.load_state_dict(model_state)
    wrapper.load_state_dict(optimizer_state)
    wrapper.initialize_count_status(model, SAVE_AT, LENGTH)
    iterate(model, wrapper, range(SAVE_AT, LENGTH), rank)
    found["resumed"] = weights(model)

    # One rank's loss alone is not a number: after the all-reduce both have to skip.
    iterate(model, wrapper, range(COUNT), rank, math.nan if rank == 1 else 1.0)
    found["after_nan"], found["skipped"] = weights(model), wrapper.skipped_updates
    torch.save(found, folder / f"{rank}.pth")
    distributed.destroy_process_group()


def test_two_processes(tmp_path):
    command = [sys.executable, __file__]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(RANKS)
    ]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * RANKS, errors
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in range(RANKS))

    assert torch.equal(first["weights"], second["weights"])
    assert torch.equal(first["resumed"], first["weights"])
    assert torch.equal(second["resumed"], second["weights"])
    for found in (first, second):
        assert torch.equal(found["after_nan"], found["resumed"])
        assert found["skipped"] == 1

    # And they are those of one process with the batches of both.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for begin in range(0, LENGTH, COUNT):
        batches = [
            batch(index, rank)
            for index in range(begin, min(begin + COUNT, LENGTH))
            for rank in range(RANKS)
        ]
        optimizer.zero_grad()
        model(torch.cat(batches)).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
    torch.testing.assert_close(first["weights"], weights(model), rtol=1e-12, atol=1e-12)


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
