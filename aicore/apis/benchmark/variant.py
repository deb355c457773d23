"""One variant of a training, in a process of its own that runs when it is told to."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner as BaseRunner
from mmengine.runner import set_random_seed
from mmengine.runner.runner import build_optim_wrapper
from mmengine.utils.dl_utils import set_multi_processing
from torch import Tensor
from torch.utils.data import DataLoader

from aicore.apis.setup import build_runner, open_config
from aicore.errors import AicoreError
from aicore.registry import MODELS, explain_build_errors

_WITHOUT_END = 10**6  # epochs or iterations
_LEFT_OUT = ("CheckpointHook", "EarlyStoppingHook")


@dataclass(frozen=True)
class Variant:
    """A way to run the training of a config."""

    name: str
    switches: frozenset[str] | None
    """Of ``amp``, ``channels_last``, ``compile``; None for the bare loop."""


@dataclass(frozen=True)
class Round:
    """What some iterations took."""

    images_per_second: float
    data_wait_share: float
    """Share in [0, 1] of the time that the loop waited for the next batch."""
    peak_memory: float
    """MB (2^20 bytes) since the process began: on CUDA what torch had allocated at most, on a CPU
    the resident memory of the process, without its data workers."""


class Pacer:
    """Holds a training loop until the other end of ``connection`` asks for a round, and times it.

    A round's first iterations, as many as the data workers prefetch, are run but not counted:
    their batches were made while the loop was held, and would pass for free ones.

    Args:
        connection: Gives the number of iterations of a round, takes its :class:`Round`.
        prefetched: Batches that lie ready when the loop is let go.
    """

    def __init__(self, connection: Connection, prefetched: int) -> None:
        self.connection = connection
        self.prefetched = prefetched

    def wait(self) -> None:
        """Waits for the next round; ends the process when the other end is closed."""
        try:
            self.iterations = self.connection.recv()
        except EOFError:
            sys.exit()
        self.done = -self.prefetched
        self._begin()

    def batch_ready(self, images: int) -> None:
        """Has to be called with each batch's size, before anything is done with the batch."""
        self.images += images
        self.waited += time.perf_counter() - self.mark

    def iteration_done(self) -> None:
        """Has to be called when all of an iteration's work is done."""
        self.done += 1
        if self.done == 0:
            self._begin()
        elif self.done == self.iterations:
            synchronize()
            seconds = time.perf_counter() - self.began
            self.connection.send(
                Round(self.images / seconds, self.waited / seconds, _peak_memory())
            )
            self.wait()
        self.mark = time.perf_counter()

    def _begin(self) -> None:
        synchronize()
        self.images = 0
        self.waited = 0.0
        self.began = self.mark = time.perf_counter()


def synchronize() -> None:
    """Waits until the GPU, where there is one, has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_memory() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10  # bytes there, KB here


def prefetched_batches(settings: Config) -> int:
    """Returns how many batches the data workers of a training prepare ahead."""
    loader = settings.train_dataloader
    return loader.get("num_workers", 0) * (loader.get("prefetch_factor") or 2)  # 2: torch's default


def run_variant(
    variant: Variant,
    config: str | Path,
    options: dict[str, Any] | None,
    folder: Path,
    connection: Connection,
) -> None:
    """Builds a variant and trains, a round at a time, until ``connection`` is closed.

    The target of a process. A failure is sent as a sentence instead of a :class:`Round`.

    Args:
        variant: What to run.
        config: Config file.
        options: Overrides of the config, with dotted keys.
        folder: The training's work dir; what would go to the console goes to ``console.log``.
        connection: See :class:`Pacer`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "console.log").open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        settings = open_config(config, options)
        _switch(settings, variant.switches or frozenset())
        pacer = Pacer(connection, prefetched_batches(settings))
        with explain_build_errors(settings):
            if variant.switches is None:
                _train_bare(settings, pacer)
            else:
                _train_with_runner(settings, folder, pacer)
    except Exception as error:  # a variant may fail in any way: the others go on
        traceback.print_exc()
        connection.send(_sentence(error))
    finally:
        # Python would wait here for the data workers, which end only once this process is gone.
        os._exit(0)


def _switch(settings: Config, switches: frozenset[str]) -> None:
    """Turns switches on, with the config's own options where it has such, and all others off."""
    precision = settings.optim_wrapper.pop("amp", False) or True
    if "amp" in switches:
        settings.optim_wrapper.update(type="aicore.OptimWrapper", amp=precision)
    settings.amp = settings.optim_wrapper.get("amp", False)
    settings.channels_last = "channels_last" in switches
    settings.compile = (settings.get("compile") or True) if "compile" in switches else False


def _sentence(error: Exception) -> str:
    """Returns an AicoreError's own words, else the error's type and the start of its message."""
    if isinstance(error, AicoreError):  # a data worker's comes with a trace around it
        return str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:1])}".rstrip(": ")


# ---- aicore's Runner ----


class _FirstHook(Hook):
    """Sees a batch before all other hooks do."""

    priority = "HIGHEST"

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer

    def before_train_iter(self, runner: BaseRunner, batch_idx: int, data_batch: Any = None) -> None:
        self.pacer.batch_ready(len(data_batch["inputs"]))


class _LastHook(Hook):
    """Holds the training when all other hooks are through."""

    priority = "LOWEST"

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer

    def before_train(self, runner: BaseRunner) -> None:
        self.pacer.wait()

    def after_train_iter(self, *_: Any, **__: Any) -> None:
        self.pacer.iteration_done()


def _train_with_runner(settings: Config, folder: Path, pacer: Pacer) -> None:
    _train_without_end(settings)
    settings.work_dir = str(folder)
    runner = build_runner(settings)
    runner.register_hook(_FirstHook(pacer))
    runner.register_hook(_LastHook(pacer))
    runner.train()


def _train_without_end(settings: Config) -> None:
    """Takes out of a config what would end the training, or do something else in between."""
    settings.resume = False
    settings.val_cfg = settings.val_dataloader = settings.val_evaluator = None
    for key in {"max_epochs", "max_iters"} & set(settings.train_cfg):
        settings.train_cfg[key] = _WITHOUT_END
    kept = {name: hook for name, hook in settings.get("default_hooks", {}).items() if _stays(hook)}
    settings.default_hooks = {**kept, "checkpoint": None}  # MMEngine adds one where it lacks
    settings.custom_hooks = [hook for hook in settings.get("custom_hooks") or [] if _stays(hook)]


def _stays(hook: Mapping[str, Any] | None) -> bool:
    return hook is None or not str(hook["type"]).endswith(_LEFT_OUT)


# ---- the bare loop ----


def _train_bare(settings: Config, pacer: Pacer) -> NoReturn:
    """Trains the model of a config as a script of one page would, with plain PyTorch."""
    init_default_scope(settings.get("default_scope", "aicore"))
    environment = settings.get("env_cfg", {})
    set_multi_processing(**environment.get("mp_cfg", {}))
    torch.backends.cudnn.benchmark = environment.get("cudnn_benchmark", False)
    seed = set_random_seed(settings.get("randomness", {}).get("seed"))
    loader = BaseRunner.build_dataloader(settings.train_dataloader, seed=seed)
    model = MODELS.build(settings.model)
    model.init_weights()
    model.to(get_device()).train()
    # Only to read the config: the wrapper itself is not used.
    wrapper = build_optim_wrapper(model, settings.optim_wrapper)
    optimizer, clipping = wrapper.optimizer, wrapper.clip_grad_kwargs
    accumulate = settings.optim_wrapper.get("accumulative_counts", 1)
    by_iteration, by_epoch = _build_schedulers(settings, optimizer, loader)
    iterations = 0
    pacer.wait()
    while True:
        for batch in loader:
            pacer.batch_ready(len(batch["inputs"]))
            data = model.data_preprocessor(batch, True)
            loss = _total(model(**data, mode="loss"))
            (loss / accumulate).backward()
            iterations += 1
            if iterations % accumulate == 0:
                if clipping:
                    wrapper.clip_func(model.parameters(), **clipping)
                optimizer.step()
                optimizer.zero_grad()
            for scheduler in by_iteration:
                scheduler.step()
            pacer.iteration_done()
        for scheduler in by_epoch:
            scheduler.step()


def _build_schedulers(
    settings: Config, optimizer: torch.optim.Optimizer, loader: DataLoader
) -> tuple[list[Any], list[Any]]:
    """Returns the schedulers that step after each iteration, and those after each epoch."""
    configs = settings.get("param_scheduler") or []
    defaults = {"optimizer": optimizer, "epoch_length": len(loader)}
    schedulers = [
        PARAM_SCHEDULERS.build(config, default_args=defaults)
        for config in ([configs] if isinstance(configs, dict) else configs)
    ]
    steady = [s for s in schedulers if not getattr(s, "need_val_args", False)]
    return [s for s in steady if not s.by_epoch], [s for s in steady if s.by_epoch]


def _total(losses: Mapping[str, Tensor | list[Tensor]]) -> Tensor:
    """Returns the sum of the mean of every loss; other figures of the model are no losses."""
    return sum(
        part.mean()
        for name, value in losses.items()
        if "loss" in name
        for part in (value if isinstance(value, list | tuple) else [value])
    )
