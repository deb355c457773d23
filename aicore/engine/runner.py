"""MMEngine's Runner: exact resume, safe checkpoints, CPUs in several processes, speed switches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as BaseRunner
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from aicore.config import without_pretrained
from aicore.engine.checkpoint import (
    checkpoints_in,
    inference_weights,
    input_settings,
    load_weights,
    plain_values,
    prepare_resume,
    read_checkpoint,
    require_same_inputs,
    write_checkpoint,
)
from aicore.engine.distributed import (
    broadcast_object,
    control_group,
    init_distributed,
    is_restarted,
    plain_model,
    wrap_distributed,
)
from aicore.engine.fitting import FitWrapper
from aicore.engine.hooks.batch_norm_hook import BatchNormHook
from aicore.engine.hooks.compile_hook import CompileHook
from aicore.engine.hooks.sync_buffers_hook import SyncBuffersHook
from aicore.engine.loading import SeededBatchSampler, SeededLoader
from aicore.engine.log_handlers import adapt_handlers
from aicore.engine.loops import TrainLoop
from aicore.engine.memory import frozen_garbage_collection, keep_freed_memory
from aicore.engine.optimizers import OptimWrapper
from aicore.engine.resources import explain_exhaustion
from aicore.errors import BrokenCheckpointError, CheckpointError, ConfigError
from aicore.registry import RUNNERS
from aicore.runtime.locks import lock_folder
from aicore.version import __version__

# How far a scheduler has come; all else of its state is the config's.
_PROGRESS = ("last_step", "_global_step", "_last_value", "base_values")
# Those that MMEngine adds itself, unless the config says None.
_MMENGINE_HOOKS = (
    "runtime_info",
    "timer",
    "sampler_seed",
    "logger",
    "param_scheduler",
    "checkpoint",
)


@RUNNERS.register_module()
class Runner(BaseRunner):
    """Drives training and testing; see :class:`mmengine.runner.Runner` for the arguments.

    Further settings at the top level of the config, each a switch: ``channels_last`` (memory
    layout NHWC), ``compile`` (torch.compile for the training), ``trust_checkpoint`` (read
    checkpoints that could run code), ``sync_bn`` (batch-norm statistics over all processes).

    Testing and resuming need a checkpoint that fits the model in full: a checkpoint of another
    model would otherwise give random results without a word. Fine-tuning (``load_from``) takes
    what fits and logs the rest.
    """

    _strict = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.on_exit = ExitStack()
        """What hooks want done at the end of a training or test, also when it fails."""
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self.on_exit.close()  # the lock's, however long somebody keeps the error
            raise
        self._group = control_group()
        if self.distributed and is_model_wrapper(self.model):  # what learns by gradients
            self.register_hook(SyncBuffersHook())
        self.register_hook(BatchNormHook())

    # ---- set-up ----

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Joins the other processes, if there are such, and locks the work dir.

        See :mod:`aicore.engine.distributed`. The lock lasts until the end of the training or test.
        """
        if get_device() == "cpu":
            keep_freed_memory()
        if self.distributed:
            init_distributed(self.launcher)
        super().setup_env(env_cfg)
        # Before the first file is written.
        broadcast_object(lambda: self.on_exit.enter_context(lock_folder(self._work_dir)))

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Puts the model on its device and, with several processes, joins their gradients."""
        model = model.to(get_device())
        if self.cfg.get("channels_last"):
            model = model.to(memory_format=torch.channels_last)
        if not self.distributed:
            return revert_sync_batchnorm(model)
        if model_wrapper_cfg is not None:
            return super().wrap_model(model_wrapper_cfg, model)
        return wrap_distributed(
            model, self.cfg.get("find_unused_parameters", False), self.cfg.get("sync_bn", False)
        )

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Builds the logger; long dumps go to the file only, and names steer no terminal."""
        return adapt_handlers(super().build_logger(*args, **kwargs))

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Registers the hooks of ``default_hooks``; None in place of any of them leaves it out."""
        given = hooks or {}
        super().register_default_hooks(
            {name: h for name, h in given.items() if h is not None or name in _MMENGINE_HOOKS}
        )

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any],
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Builds a data loader whose samples are seeded; see :mod:`aicore.datasets.seeded`."""
        loader = BaseRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        streams = isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None
        return loader if streams or seed is None else SeededLoader(loader, seed)

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Builds the training loop: ours, where the config names none.

        Raises:
            ConfigError: The config counts iterations.
        """
        if isinstance(loop, dict) and "type" not in loop:
            if not loop.get("by_epoch", True):
                raise ConfigError(
                    f"{self.cfg.filename}: train_cfg.by_epoch = False: training counts epochs. Set "
                    "train_cfg = dict(by_epoch=True, max_epochs=N); for checkpoints within long "
                    "epochs there is default_hooks.checkpoint.interval_iters."
                )
            loop = {key: value for key, value in loop.items() if key != "by_epoch"}
            loop["type"] = "aicore.TrainLoop"
        return super().build_train_loop(loop)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Builds the schedulers that last longer than one step.

        So ``warmup_epochs = 0`` and ``max_epochs = 1`` work. A warm-up of one step would be worse
        than none: MMEngine's leaves the learning rate at its start for good.
        """
        if isinstance(scheduler, list | tuple):
            scheduler = [item for item in scheduler if self._steps(item) > 1]
        return super().build_param_scheduler(scheduler)

    def _steps(self, scheduler: Any) -> float:
        """Returns for how many of its steps (epochs or iterations) a scheduler's config is on."""
        if not isinstance(scheduler, dict):
            return math.inf
        begin, end = scheduler.get("begin", 0), scheduler.get("end", math.inf)
        if scheduler.get("convert_to_iter_based") and end < math.inf:
            length = len(self.train_dataloader)
            return int(end * length) - int(begin * length)
        return end - begin

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Builds the optimiser and its wrapper.

        Raises:
            ConfigError: ``amp`` is on, and the wrapper knows nothing of it.
        """
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if self.cfg.get("amp") and not hasattr(wrapper, "dtype"):
            raise ConfigError(
                f"{self.cfg.filename}: amp = {self.cfg.amp!r} has no effect on optim_wrapper. Set "
                "optim_wrapper.type = 'aicore.OptimWrapper' and optim_wrapper.amp = '${amp}'."
            )
        return wrapper

    def _maybe_compile(self, target: str) -> None:
        """Leaves compiling to the hook: MMEngine would compile data samples and optimiser too."""
        options = self.cfg.get("compile")
        if options:
            self.register_hook(CompileHook(options if isinstance(options, dict) else {}))

    # ---- running ----

    def train(self) -> nn.Module:
        """Trains the model; returns it."""
        self.on_exit.callback(self._close_loaders)
        with frozen_garbage_collection(), explain_exhaustion(), self.on_exit:
            return super().train()

    def test(self) -> dict[str, Any]:
        """Tests the model; returns the metrics."""
        self._strict = True
        self.on_exit.callback(self._close_loaders)
        with frozen_garbage_collection(), explain_exhaustion(), self.on_exit:
            return super().test()

    def _close_loaders(self) -> None:
        for loop in (self._train_loop, self._val_loop, self._test_loop):
            if isinstance(loop, BaseLoop) and isinstance(loop.dataloader, SeededLoader):
                loop.dataloader.close()

    # ---- checkpoints ----

    def load_or_resume(self) -> None:
        """Goes on from a checkpoint, or begins with given weights, as the config says.

        ``resume`` is a checkpoint to go on from, or True for the newest in the work dir, where
        there is one; else training begins, with the weights of ``load_from`` if it is given. All
        processes that torchrun starts again go on from the newest too.
        """
        if self._has_loaded:
            return
        restarted = is_restarted()  # first, since every process has to take part
        newest = self._resume is True or restarted
        if newest and broadcast_object(lambda: bool(checkpoints_in(self.work_dir))):
            self._resume = True
            self.resume()
        elif isinstance(self._resume, str):
            self.resume(self._resume)
        elif self._resume:
            self._resume = False
            self.logger.warning(
                f"--resume: no checkpoint in {self.work_dir}, training starts from the beginning"
            )
        if self._load_from and not self._has_loaded:
            self.load_checkpoint(self._load_from)

    def resume(self, filename: str = "", **kwargs: Any) -> None:
        """Goes on with a training.

        The schedule is the config's; where it is not the one that the checkpoint was trained with
        (longer, say), it goes on from the learning rate reached so far.

        Args:
            filename: A checkpoint that holds the optimiser's state; empty for the newest in the
                work dir. A damaged one is passed over for the one before.
            **kwargs: As :meth:`mmengine.runner.Runner.resume`.

        Raises:
            CheckpointError: There is none that can be read, or it does not fit this training.
        """
        schedulers = self.param_schedulers or []
        settings = [_settings_of(scheduler) for scheduler in schedulers]
        self._strict = True
        super().resume(filename, **{**kwargs, "map_location": "cpu"})
        self._strict = False
        changed = [s for s, own in zip(schedulers, settings, strict=True) if _settings_of(s) != own]
        for scheduler, own in zip(schedulers, settings, strict=True):
            scheduler.__dict__.update(own)
        if changed:
            names = ", ".join(type(scheduler).__name__ for scheduler in changed)
            self.logger.warning(
                f"The schedule of the config is not the checkpoint's ({names}): training goes on "
                "with the config's, from the learning rate reached so far."
            )

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | torch.device | Callable = "cpu",
        strict: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Loads weights, and returns the whole checkpoint.

        The averaged weights, where there are such, for testing and fine-tuning; those that
        training goes on from for a resume.

        Raises:
            CheckpointError: The file cannot be read, or does not fit where it has to.
        """
        # Read once and handed on: the machines of a training need no common disk.
        filename, checkpoint = broadcast_object(
            lambda: self._read(filename, map_location), self._group
        )
        if self._resume:
            prepare_resume(checkpoint, filename)
            if isinstance(self.train_loop, TrainLoop):
                self.train_loop.take_up(checkpoint, filename)
            metainfo = getattr(self.train_dataloader.dataset, "metainfo", None)
            require_same_inputs(checkpoint, filename, self.cfg, metainfo)
            self._go_to_position(checkpoint)
        # MMEngine's resume would run a config text found here as python.
        checkpoint["meta"].pop("config", None)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        weights = checkpoint["state_dict"] if self._resume else inference_weights(checkpoint)
        fit = load_weights(self.model, weights, strict or self._strict, filename)
        self._has_loaded = True
        self.logger.info(f"Loaded checkpoint {filename}")
        if not fit:
            self.logger.warning(
                f"Not all weights of {filename} fit the model; these start from their "
                f"initial values or are left out: {fit}"
            )
        return checkpoint

    def _read(self, filename: str, device: Any) -> tuple[str, dict[str, Any]]:
        trust = self.cfg.get("trust_checkpoint", False)
        if filename:
            return filename, read_checkpoint(filename, device, trust)
        for file in checkpoints_in(self.work_dir):
            try:
                return str(file), read_checkpoint(file, device, trust)
            except BrokenCheckpointError as error:
                self.logger.warning(f"{error} Going on from the one before it.")
        raise CheckpointError(
            f"none of the checkpoints in {self.work_dir} can be read, training cannot be resumed. "
            "Remove them to start again, or use --load-from with the best one."
        )

    def _go_to_position(self, checkpoint: dict[str, Any]) -> None:
        sampler = self.train_dataloader.batch_sampler
        seed = checkpoint["meta"].get("seed", self.seed)
        if seed != self.seed and isinstance(sampler, SeededBatchSampler):
            sampler.set_seed(seed)
        pending = checkpoint["meta"].get("validation_pending", False)
        self.train_loop.validation_pending = pending

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict[str, Any] | None = None,
        by_epoch: bool = True,
        **unused: Any,
    ) -> None:
        """Writes a checkpoint, whole or not at all; every process has to call it.

        Args:
            out_dir: The folder.
            filename: The file's name.
            save_optimizer: Whether the optimiser's state is kept, for a resume.
            save_param_scheduler: Whether the schedulers' states are kept, for a resume.
            meta: Plain values to keep; ``epoch`` and ``iter`` by default as ``by_epoch`` says.
            by_epoch: Whether an epoch, or else an iteration, is being finished.
            **unused: MMEngine's file backends; files are local here.

        Raises:
            CheckpointError: The file cannot be written.
        """
        if isinstance(self.optim_wrapper, OptimWrapper | FitWrapper):
            self.optim_wrapper.synchronise()
        if not is_main_process():
            return
        checkpoint: dict[str, Any] = {
            "meta": {
                "epoch": self.epoch + by_epoch,
                "iter": self.iter + (not by_epoch),
                **(meta or {}),
                "cfg": self.cfg.pretty_text,
                "seed": self.seed,
                "iterations_per_epoch": len(self.train_dataloader),
                "experiment_name": self.experiment_name,
                "time": time.strftime("%Y%m%d_%H%M%S"),
                "aicore_version": __version__,
                "dataset_meta": getattr(self.train_dataloader.dataset, "metainfo", None),
                "model": plain_values(without_pretrained(self.cfg.get("model"))),
                "input_settings": input_settings(self.cfg),
            },
            "state_dict": plain_model(self.model).state_dict(),
            "message_hub": self.message_hub.state_dict(),
        }
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = [s.state_dict() for s in self.param_schedulers]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        write_checkpoint(Path(out_dir, filename), checkpoint)


def _settings_of(scheduler: Any) -> dict[str, Any]:
    """Returns what a scheduler has from the config, not how far it has come."""
    return {k: v for k, v in scheduler.state_dict().items() if k not in _PROGRESS}
