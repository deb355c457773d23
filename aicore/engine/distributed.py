"""Several processes, on one machine or many: how they meet, and what they tell each other.

Each process drives one GPU with nccl or, without CUDA, trains on the CPU with gloo. The processes
are started by ``tools/dist_train.sh`` or ``tools/slurm_train.sh``, which set the environment that
torchrun sets: ``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import psutil
import torch
from mmengine.dist import (
    all_reduce,
    broadcast_object_list,
    get_backend,
    get_rank,
    get_world_size,
    is_distributed,
)
from mmengine.logging import print_log
from mmengine.model import (
    MMDistributedDataParallel,
    convert_sync_batchnorm,
    is_model_wrapper,
    revert_sync_batchnorm,
)
from torch import distributed, nn

from aicore.errors import AicoreError, ConfigError

T = TypeVar("T")

_START_WITH = "Start several processes with tools/dist_train.sh or tools/slurm_train.sh."


def init_distributed(launcher: str, timeout_s: int = 1800, backend: str | None = None) -> None:
    """Joins this process to the others; does nothing where it has joined already.

    Args:
        launcher: ``'pytorch'``: the environment of torchrun.
        timeout_s: Seconds after which a process stops waiting for another.
        backend: Of :mod:`torch.distributed`; default nccl with CUDA, else gloo.

    Raises:
        ConfigError: The launcher is not known, the environment is incomplete, there is no GPU for
            this process, or no interface that the other machines can reach.
    """
    if is_distributed():
        return
    if launcher != "pytorch":
        raise ConfigError(f"launcher {launcher!r} is not known, it is 'pytorch'. {_START_WITH}")
    rank, local_rank, world_size, port = (
        _read_number(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
    )
    address = os.environ.get("MASTER_ADDR")
    if not address:
        raise ConfigError(f"launcher 'pytorch' needs MASTER_ADDR in the environment. {_START_WITH}")
    if rank >= world_size:
        raise ConfigError(f"RANK is {rank}, but WORLD_SIZE {world_size}. {_START_WITH}")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise ConfigError(
                f"process {local_rank + 1} of this machine has no GPU, {count} can be used here. "
                "Start no more processes than GPUs; CUDA_VISIBLE_DEVICES can hide some."
            )
        torch.cuda.set_device(local_rank)
    # gloo takes the address that the host name stands for, on many machines 127.0.1.1.
    if "GLOO_SOCKET_IFNAME" not in os.environ:
        one_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world_size)) == world_size
        os.environ["GLOO_SOCKET_IFNAME"] = _interface_towards(address, port, one_machine)
    distributed.init_process_group(
        backend or ("nccl" if torch.cuda.is_available() else "gloo"),
        timeout=timedelta(seconds=timeout_s),
    )
    atexit.register(_leave)


def _leave() -> None:
    """Ends the groups: gloo's threads abort a process that ends while they wait for another."""
    if is_distributed() and get_backend() == "gloo":  # nccl's could wait for the others for ever
        distributed.destroy_process_group()
        # A wrapped model keeps the group and its threads alive. They need the interpreter once
        # more, to give back the tensors of the last message, and abort if it has gone by then.
        time.sleep(0.1)


def _read_number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        found = f"it is {text!r}" if text else "it is missing"
        raise ConfigError(
            f"launcher 'pytorch' needs a number in the environment variable {name}, {found}. "
            f"{_START_WITH}"
        )
    return int(text)


def _interface_towards(address: str, port: int, one_machine: bool) -> str:
    """Returns the name of the network interface from which ``address`` is reached.

    Raises:
        ConfigError: There is none, or it is one that other machines cannot reach.
    """
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # chooses the route, sends nothing
            own = probe.getsockname()[0]
    except OSError as error:
        raise ConfigError(
            f"MASTER_ADDR {address!r} cannot be reached from this machine ({error}). Give the "
            "address of the first machine."
        ) from error
    interfaces = psutil.net_if_addrs()
    names = [
        name
        for name, entries in interfaces.items()
        # psutil writes an IPv6 address with its interface: fe80::1%eth0
        if any(entry.address.split("%")[0] == own.split("%")[0] for entry in entries)
    ]
    loopback = own == "::1" or own.startswith("127.")
    if loopback and not one_machine:
        raise ConfigError(
            f"MASTER_ADDR {address!r} is {own} on this machine, which no other can reach. Give "
            "the address that this machine has in the network, or name its interface in "
            "GLOO_SOCKET_IFNAME."
        )
    if not names and loopback:  # 127.0.1.1 belongs to the loopback interface, but is not its name
        names = [n for n, e in interfaces.items() if any(x.address == "127.0.0.1" for x in e)]
    if not names:
        raise ConfigError(
            f"no network interface has the address {own}, from which MASTER_ADDR {address!r} is "
            "reached. Name the interface in GLOO_SOCKET_IFNAME."
        )
    return names[0]


def wrap_distributed(
    model: nn.Module, find_unused_parameters: bool = False, sync_bn: bool | str = False
) -> nn.Module:
    """Wraps a model so that the gradients of all processes are averaged.

    Args:
        model: A :class:`mmengine.model.BaseModel`, on its device.
        find_unused_parameters: Whether some parameters take no part in some iterations.
        sync_bn: Whether batch norm uses the statistics of the whole batch (CUDA only); True or
            ``'torch'`` for torch's layers, ``'mmcv'`` for mmcv's.

    Returns:
        The wrapped model; the model itself where it has nothing to optimise.

    Raises:
        ConfigError: ``sync_bn`` has another value.
    """
    if sync_bn not in (False, None, True, "torch", "mmcv"):
        raise ConfigError(f"sync_bn is {sync_bn!r}, expected True, False, 'torch' or 'mmcv'.")
    cuda = any(parameter.is_cuda for parameter in model.parameters())
    if cuda and sync_bn:
        model = convert_sync_batchnorm(model, "torch" if sync_bn is True else sync_bn)
    elif not cuda and (sync_bn or _has_sync_batchnorm(model)):
        model = revert_sync_batchnorm(model)
        print_log(
            "Batch-norm statistics stay per process: each normalises by its own share of the "
            "batch, since sync_bn needs CUDA.",
            logger="current",
            level=logging.WARNING,
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return model
    with warnings.catch_warnings():
        # Newer releases of torch would have a name for it that older ones do not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return MMDistributedDataParallel(
            model,
            device_ids=[torch.cuda.current_device()] if cuda else None,
            broadcast_buffers=False,  # average_buffers does it, once for each checkpoint
            find_unused_parameters=find_unused_parameters,
        )


def _has_sync_batchnorm(model: nn.Module) -> bool:
    return any(type(module).__name__ == "SyncBatchNorm" for module in model.modules())


def plain_model(model: nn.Module) -> nn.Module:
    """Returns the model itself, without what :func:`wrap_distributed` puts around it."""
    return model.module if is_model_wrapper(model) else model


@torch.no_grad()
def average_buffers(model: nn.Module) -> None:
    """Gives all processes the mean of their float buffers, such as running statistics.

    Integer buffers stay as they are. One message for all buffers, in float64, in which the mean
    of equal values is that value.
    """
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if get_world_size() == 1 or not buffers:
        return
    flat = torch.cat([buffer.flatten().double() for buffer in buffers])
    all_reduce(flat, op="mean")
    means = flat.split([buffer.numel() for buffer in buffers])
    for buffer, mean in zip(buffers, means, strict=True):
        buffer.copy_(mean.view_as(buffer))


def control_group() -> distributed.ProcessGroup | None:
    """Returns the group for :func:`any_rank`, which needs no GPU; every process has to call it.

    None, which stands for the default group, where that is gloo or there is one process only.
    """
    return distributed.new_group(backend="gloo") if get_backend() not in (None, "gloo") else None


def any_rank(flag: bool, group: distributed.ProcessGroup | None = None) -> bool:
    """Returns whether the flag is set on any process; every process has to call it.

    Args:
        flag: This process's.
        group: See :func:`control_group`.
    """
    if get_world_size() == 1:
        return flag
    common = torch.tensor(int(flag))
    all_reduce(common, op="max", group=group)
    return bool(common)


def broadcast_object(make: Callable[[], T], group: distributed.ProcessGroup | None = None) -> T:
    """Returns what ``make`` returns on the first process; every process has to call it.

    So a file is read once, and the machines need no common disk.

    Args:
        make: Called on the first process only.
        group: See :func:`control_group`; through it the object takes no memory of a GPU.

    Raises:
        AicoreError: ``make`` raised it on the first process; it is raised on all.
    """
    if get_world_size() == 1:
        return make()
    outcome: list[T | AicoreError | None] = [None]
    if get_rank() == 0:
        try:
            outcome = [make()]
        except AicoreError as error:
            outcome = [error]
    broadcast_object_list(outcome, group=group)
    if isinstance(outcome[0], AicoreError):
        raise outcome[0]
    return outcome[0]


def is_restarted() -> bool:
    """Returns whether any process was started again by torchrun; every process has to call it.

    A machine that joins a training later is in its first start, while the others are not.
    """
    return any_rank(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0)


def stop_launcher(number: int) -> None:
    """Passes a signal on to the torchrun that started this process, where one has.

    For a process that stops because another was asked to, and has had no signal itself: its own
    torchrun would take that for a failure, and start it again. Only the first process of a machine
    passes it on, since torchrun stops waiting for the others when it is asked more than twice.

    Args:
        number: SIGTERM or SIGINT.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("LOCAL_RANK") == "0":
        os.kill(os.getppid(), signal.Signals(number))
