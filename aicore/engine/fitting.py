"""Methods that learn in one pass over the data, without gradients.

To the Runner, its hooks and its checkpoints the pass is an epoch like any other: it logs, shows
progress, validates, saves, stops when asked to and is resumed at any iteration.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils.data import DataLoader

from aicore.engine.distributed import plain_model
from aicore.engine.loops import TrainLoop
from aicore.engine.optimizers.wrapper import autocast_dtype
from aicore.errors import CheckpointError
from aicore.registry import LOOPS, OPTIM_WRAPPER_CONSTRUCTORS

_EXAMPLES = 3  # images named in a message


class Learner(Protocol):
    """What a one-pass method gathers; a model holds it as ``learner``.

    The model also has ``train_step``, which adds a batch (it may be empty) to the learner, and
    ``finish_fit()``, which makes of it what the model predicts with.
    """

    def state_dict(self) -> dict[str, Any]:
        """Returns all that was gathered, as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` returned."""

    def synchronise(self) -> None:
        """Moves what all processes gathered to the first one; every process calls it."""


class FitWrapper(OptimWrapper):
    """Stands where an optimiser's wrapper stands, for a model that has a :class:`Learner`.

    Its state is the learner's, and which images are in it.

    Args:
        model: The model.
        amp: As for :class:`aicore.engine.OptimWrapper`.

    Raises:
        ConfigError: ``amp`` has another value.
    """

    def __init__(self, model: nn.Module, amp: bool | str = False) -> None:
        # Nothing of the parent's: there is no optimiser. MMEngine asks for the type.
        self.learner: Learner = model.learner
        self.device_type = next(model.parameters()).device.type
        self.dtype = autocast_dtype(amp, self.device_type)
        """Type that autocast computes in; None without autocast."""
        self.fitted: list[str] = []
        """Keys of the images of finished passes."""
        self.current: list[str] = []
        """Keys of the images of the pass that is going on."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Runs a forward pass with autocast, where it is on."""
        with torch.autocast(self.device_type, self.dtype or torch.bfloat16, self.dtype is not None):
            yield

    def get_lr(self) -> dict[str, list[float]]:
        """Returns no learning rate at all."""
        return {}

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Counts nothing: there is nothing to accumulate."""

    def synchronise(self) -> None:
        """Brings what all processes learnt to the first one; every process has to call it."""
        self.learner.synchronise()

    def state_dict(self) -> dict[str, Any]:
        """Returns what was learnt, and of which images."""
        return {
            "learner": self.learner.state_dict(),
            "fitted": self.fitted,
            "current": self.current,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        self.learner.load_state_dict(state_dict["learner"])
        self.fitted = list(state_dict["fitted"])


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FitConstructor:
    """Builds the :class:`FitWrapper`, as ``optim_wrapper.constructor``.

    Args:
        optim_wrapper_cfg: ``dict(amp=...)``.
        paramwise_cfg: Not used: there are no parameters to optimise.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.settings = {k: v for k, v in optim_wrapper_cfg.items() if k != "type"}

    def __call__(self, model: nn.Module) -> FitWrapper:
        """Builds the wrapper of a model."""
        return FitWrapper(plain_model(model), **self.settings)


@LOOPS.register_module()
class FitLoop(TrainLoop):
    """One pass over the data, each image once, for a model with a :class:`Learner`.

    - Several processes share the images; what a sampler repeats, so that all of them have as many
      batches, is left out.
    - An interrupted pass is resumed at the next batch.
    - Resumed with other images, a finished fit takes them in addition: the result is that of one
      fit on all of them. An image that is in the model already, by path and size, is refused.

    Args:
        runner: The runner.
        dataloader: Config of the data loader, or itself.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict) -> None:
        super().__init__(runner, dataloader, max_epochs=1)

    def run(self) -> BaseModel:
        """Fits and validates; returns the model."""
        self.runner.optim_wrapper.current = self._keys()
        return super().run()

    def run_iter(self, idx: int, data_batch: dict[str, Any]) -> None:
        """Adds one batch."""
        super().run_iter(idx, self._without_repeated(idx, data_batch))

    def conclude_epoch(self) -> None:
        """Makes of what was gathered what the model predicts with."""
        wrapper = self.runner.optim_wrapper
        wrapper.synchronise()
        plain_model(self.runner.model).finish_fit()
        wrapper.fitted, wrapper.current = wrapper.fitted + wrapper.current, []

    def take_up(self, checkpoint: dict[str, Any], source: str) -> None:
        """Goes on with an interrupted pass, or begins one over more images.

        Args:
            checkpoint: What :func:`aicore.engine.checkpoint.read_checkpoint` returned; for more
                images its position is put back to the beginning.
            source: The file's name, for the message.

        Raises:
            CheckpointError: The images do not fit it.
        """
        meta, state = checkpoint["meta"], checkpoint.get("optimizer", {})
        if state and not {"learner", "fitted", "current"} <= state.keys():
            raise CheckpointError(
                f"checkpoint {source!r} is of a training by gradients, not of a fit in one pass: "
                "nothing can be added to it."
            )
        if not state or meta.get("epoch", 0) == 0:
            super().take_up(checkpoint, source)
        keys, fitted = set(self._keys()), set(state["fitted"])
        if meta["epoch"] == 0:
            if keys != set(state["current"]):
                raise CheckpointError(
                    f"checkpoint {source!r} is of a fit that was interrupted, on other images than "
                    "the config's. Finish it with its own images; others are added afterwards."
                )
            return
        if keys <= fitted:
            self.runner.logger.info(
                f"All {len(keys)} images are in the model of {source} already: nothing to fit."
            )
            return
        again = sorted(keys & fitted)
        if again:
            names = ", ".join(key.rpartition(":")[0] for key in again[:_EXAMPLES])
            raise CheckpointError(
                f"{len(again)} of the {len(keys)} images are in the model of {source!r} already "
                f"(same path and size), e.g. {names}: counted twice they would weigh double. Set "
                "train to the new images alone."
            )
        self.runner.logger.info(
            f"{len(keys)} images are added to a model fitted on {len(fitted)} others."
        )
        meta.update(epoch=0, iter=0)

    def _keys(self) -> list[str]:
        """Returns what tells the images of the data set apart: path below its root, and size."""
        dataset = self.dataloader.dataset
        root = Path(getattr(dataset, "data_root", None) or "").resolve()
        keys = []
        for index in range(len(dataset)):
            path = Path(dataset.get_data_info(index)["img_path"])
            full = path.resolve()
            name = full.relative_to(root) if full.is_relative_to(root) else full
            size = path.stat().st_size if path.is_file() else 0
            keys.append(f"{name.as_posix()}:{size}")
        return keys

    def _without_repeated(self, idx: int, data_batch: dict[str, Any]) -> dict[str, Any]:
        """Leaves out the images that the sampler appended for an equal share of all processes."""
        batch_size = self.dataloader.batch_sampler.batch_size
        first = idx * batch_size
        count = len(data_batch["inputs"])
        places = ((first + i) * get_world_size() + get_rank() for i in range(count))
        kept = sum(place < len(self.dataloader.dataset) for place in places)
        return {key: value[:kept] for key, value in data_batch.items()}
