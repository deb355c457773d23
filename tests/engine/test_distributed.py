"""Two processes that talk by gloo: they agree, and train as one with the doubled batch."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import distributed, nn

from aicore.engine.distributed import (
    any_rank,
    average_buffers,
    broadcast_object,
    control_group,
    init_distributed,
    is_restarted,
    stop_launcher,
    wrap_distributed,
)
from aicore.errors import ConfigError, DataError

STEPS = 4
ENVIRONMENT = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


class Model(BaseModel):
    """Two layers with a squared error, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor, mode: str) -> Any:
        """Returns the loss, or the outputs as a list."""
        outputs = self.layers(inputs)
        if mode == "loss":
            return {"loss": (outputs - targets).square().mean()}
        return list(outputs)


class NormalisedModel(nn.Module):
    """Buffers of all kinds: running statistics, a count, a constant."""

    def __init__(self, rank: int, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm(3)
        self.norm.running_mean.fill_(rank)
        self.norm.running_var.copy_(torch.tensor([1.0, 2.0, 3.0]) * (rank + 1))
        self.norm.num_batches_tracked.fill_(rank)
        self.register_buffer("constant", torch.tensor([123.675, 1 / 3]))
        self.register_buffer("low", torch.tensor(rank, dtype=torch.bfloat16))


def _batch(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        "inputs": torch.randn(8, 5, generator=generator, dtype=torch.float64),
        "targets": torch.randn(8, 1, generator=generator, dtype=torch.float64),
    }


def _train(model: nn.Module, share: slice) -> list[torch.Tensor]:
    """Trains on a share of each batch, and returns all weights after each step."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    weights = []
    for step in range(STEPS):
        model.train_step({key: value[share] for key, value in _batch(step).items()}, wrapper)
        weights.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    return weights


def _messages(act: Any) -> list[str]:
    """Returns what ``act`` logs."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    act()
    logger.removeHandler(handler)
    return [record.getMessage() for record in records]


def _raise() -> None:
    raise DataError("the list is missing")


def _work(rank: int, port: int, folder: str) -> None:
    """What each of the two processes does; its findings are read by the tests."""
    torch.set_num_threads(1)
    os.environ.update(ENVIRONMENT, RANK=str(rank), LOCAL_RANK=str(rank), MASTER_PORT=str(port))
    os.environ.update(TORCHELASTIC_RESTART_COUNT=str(rank))
    os.environ.pop("GLOO_SOCKET_IFNAME", None)  # a user's own wins
    init_distributed("pytorch", timeout_s=30)
    init_distributed("pytorch")  # joined already
    found: dict[str, Any] = {"interface": os.environ["GLOO_SOCKET_IFNAME"]}

    model = wrap_distributed(Model())
    found["initial"] = nn.utils.parameters_to_vector(model.parameters()).detach()
    found["weights"] = _train(model, slice(4 * rank, 4 * rank + 4))
    found["val"] = model.val_step(_batch(0))
    found["test"] = model.test_step(_batch(0))

    buffers = NormalisedModel(rank)
    average_buffers(buffers)
    found["buffers"] = dict(buffers.named_buffers())

    group = control_group()
    found["group"] = group
    found["any"] = [any_rank(flag, group) for flag in (False, rank == 1, True, rank == 0)]
    found["restarted"] = is_restarted()

    calls = []
    found["object"] = broadcast_object(lambda: calls.append(1) or {"rank": rank})
    found["calls"] = len(calls)
    try:
        broadcast_object(_raise)
    except DataError as error:
        found["error"] = str(error)

    for norm in (nn.BatchNorm2d, nn.SyncBatchNorm):
        wrapped: list[nn.Module] = []
        found[f"said {norm.__name__}"] = _messages(
            lambda norm=norm, wrapped=wrapped: wrapped.append(
                wrap_distributed(NormalisedModel(rank, norm), sync_bn=norm is nn.BatchNorm2d)
            )
        )
        output = wrapped[0].module.norm(torch.randn(2, 3, 4, 4))
        found[f"shape {norm.__name__}"] = tuple(output.shape)
    frozen = Model().requires_grad_(False)
    found["frozen"] = wrap_distributed(frozen) is frozen
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder, port = tmp_path_factory.mktemp("two"), _free_port()
    commands = [[sys.executable, __file__, str(rank), str(port), str(folder)] for rank in range(2)]
    processes = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands
    ]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_processes_have_equal_weights_after_every_step(found: list[dict[str, Any]]) -> None:
    for first, second in zip(found[0]["weights"], found[1]["weights"], strict=True):
        assert torch.equal(first, second)


def test_two_processes_equal_one_with_the_doubled_batch(found: list[dict[str, Any]]) -> None:
    for one, two in zip(_train(Model(), slice(None)), found[0]["weights"], strict=True):
        # Sums of eight float64 terms in another order.
        torch.testing.assert_close(two, one, rtol=1e-12, atol=1e-14)
    assert not torch.equal(found[0]["initial"], found[0]["weights"][0])


def test_validation_and_test_of_the_wrapped_model(found: list[dict[str, Any]]) -> None:
    model = Model()
    _train(model, slice(None))
    expected = model.test_step(_batch(0))
    for findings in found:
        for outputs in (findings["val"], findings["test"]):
            torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-14)


def test_average_of_the_buffers(found: list[dict[str, Any]]) -> None:
    for rank, findings in enumerate(found):
        buffers = findings["buffers"]
        assert torch.equal(buffers["norm.running_mean"], torch.full((3,), 0.5))
        assert torch.equal(buffers["norm.running_var"], torch.tensor([1.5, 3.0, 4.5]))
        assert buffers["norm.num_batches_tracked"] == rank  # an integer: left
        assert torch.equal(buffers["constant"], torch.tensor([123.675, 1 / 3]))
        assert buffers["low"].dtype == torch.bfloat16
        assert buffers["low"] == 0.5


def test_flag_of_any_process(found: list[dict[str, Any]]) -> None:
    for findings in found:
        assert findings["group"] is None  # gloo already
        assert findings["any"] == [False, True, True, True]
        assert findings["restarted"] is True  # though the first process is in its first start


def test_object_of_the_first_process(found: list[dict[str, Any]]) -> None:
    for rank, findings in enumerate(found):
        assert findings["object"] == {"rank": 0}
        assert findings["calls"] == (rank == 0)
        assert findings["error"] == "the list is missing"


def test_gloo_takes_the_interface_towards_the_first_machine(found: list[dict[str, Any]]) -> None:
    addresses = psutil.net_if_addrs()[found[0]["interface"]]
    assert "127.0.0.1" in [address.address for address in addresses]


@pytest.mark.parametrize("norm", ["BatchNorm2d", "SyncBatchNorm"])
def test_statistics_stay_per_process_on_a_cpu(found: list[dict[str, Any]], norm: str) -> None:
    for findings in found:
        (message,) = findings[f"said {norm}"]
        assert "statistics stay per process" in message
        assert findings[f"shape {norm}"] == (2, 3, 4, 4)  # torch's SyncBatchNorm refuses a CPU


def test_model_with_nothing_to_optimise_is_not_wrapped(found: list[dict[str, Any]]) -> None:
    assert found[0]["frozen"]


def test_one_process_needs_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    model = NormalisedModel(1)
    average_buffers(model)
    assert torch.equal(model.norm.running_mean, torch.ones(3))
    assert control_group() is None
    assert any_rank(True) is True
    assert any_rank(False) is False
    assert is_restarted() is False
    assert broadcast_object(lambda: 3) == 3
    with pytest.raises(DataError, match="the list is missing"):
        broadcast_object(_raise)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RANK": None}, ["RANK", "missing", "tools/dist_train.sh"]),
        ({"WORLD_SIZE": "two"}, ["WORLD_SIZE", "'two'", "tools/dist_train.sh"]),
        ({"MASTER_PORT": "-1"}, ["MASTER_PORT", "'-1'"]),
        ({"MASTER_ADDR": None}, ["MASTER_ADDR", "tools/dist_train.sh"]),
        ({"RANK": "2"}, ["RANK is 2", "WORLD_SIZE 2"]),
        ({"MASTER_ADDR": "no.such.host.invalid"}, ["no.such.host.invalid", "cannot be reached"]),
        ({"LOCAL_WORLD_SIZE": "1"}, ["127.0.0.1", "no other can reach", "GLOO_SOCKET_IFNAME"]),
    ],
)
def test_environment_that_cannot_work(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], words: list[str]
) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value in {**ENVIRONMENT, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        init_distributed("pytorch")
    assert all(word in str(caught.value) for word in words), caught.value
    assert not distributed.is_initialized()


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ENVIRONMENT, "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"process 3 of this machine has no GPU, 2 can be used"):
        init_distributed("pytorch")


def test_unknown_launcher_and_kind_of_batch_norm() -> None:
    with pytest.raises(ConfigError, match=r"'mpi' is not known.*tools/dist_train.sh"):
        init_distributed("mpi")
    with pytest.raises(ConfigError, match=r"sync_bn is 'nccl', expected True, False"):
        wrap_distributed(NormalisedModel(0), sync_bn="nccl")


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"TORCHELASTIC_RUN_ID": "a", "LOCAL_RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "a", "LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0"}, False),  # Slurm
    ],
)
def test_the_first_process_tells_torchrun_to_stop(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: bool
) -> None:
    sent = []
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stop_launcher(15)
    assert sent == ([(os.getppid(), signal.SIGTERM)] if told else [])


if __name__ == "__main__":
    _work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
