"""A loss that is nan or infinite: written down with its images, and the end of the training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from aicore.engine.distributed import plain_model
from aicore.errors import ConfigError, DataError
from aicore.registry import HOOKS


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stops a training whose loss is nan or infinite for the ``max_times``-th time.

    Looked at are the model's outputs with ``loss`` in their names, numbers, tensors or lists of
    them. Each iteration with an invalid one is logged and gets a line in
    ``work_dir/invalid_losses.jsonl``: epoch and iteration (counted from 1 as in the log, the
    iteration from the beginning of the training), rank, the losses as text, and the paths of the
    batch's images as far as its data samples tell them. The batch leaves no trace in the model:
    ``aicore.OptimWrapper`` skips its update, and the running statistics are put back. A resumed
    training goes on counting, with the count of the first process; of several processes each
    counts its own, and the one that stops ends the training.

    Example:
        >>> custom_hooks = [dict(type="aicore.InvalidLossHook", max_times=3)]

    Args:
        max_times: In how many iterations the loss has to be invalid to stop the training, at
            least 1.

    Raises:
        ConfigError: ``max_times`` is out of its range.
    """

    priority = "ABOVE_NORMAL"  # before the weights are averaged or saved

    def __init__(self, max_times: int = 3) -> None:
        if not isinstance(max_times, int) or max_times < 1:
            raise ConfigError(
                f"InvalidLossHook.max_times = {max_times!r}: expected a whole number of at least 1."
            )
        self.max_times = max_times
        self._iterations: list[int] = []  # those with an invalid loss, counted from 1
        self._buffers: list[torch.Tensor] = []
        self._kept: list[torch.Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Makes room for a copy of the running statistics."""
        buffers = plain_model(runner.model).buffers()
        self._buffers = [buffer for buffer in buffers if buffer.is_floating_point()]
        self._kept = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keeps the running statistics, which a nan would spoil for good."""
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Looks at the losses; after an invalid one the running statistics are as before it.

        Raises:
            DataError: They are invalid, and have been too often.
        """
        losses = _losses(outputs or {})
        if all(math.isfinite(value) for values in losses.values() for value in values):
            return
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._buffers, self._kept)
        self._iterations.append(runner.iter + 1)
        line = json.dumps(
            {
                "epoch": runner.epoch + 1,
                "iteration": runner.iter + 1,
                "rank": get_rank(),
                "losses": {
                    name: ", ".join(f"{value:.6g}" for value in values)
                    for name, values in losses.items()
                },
                "images": _image_paths(data_batch),
            },
            ensure_ascii=False,
        )
        file = Path(runner.work_dir) / "invalid_losses.jsonl"
        # Unbuffered, so that the line is one write and those of several processes do not mix.
        with file.open("ab", buffering=0) as stream:
            stream.write(f"{line}\n".encode())
        runner.logger.warning(f"The loss is nan or infinite: {line}")
        if len(self._iterations) >= self.max_times:
            raise DataError(self._message(runner, file))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the iterations counted so far."""
        checkpoint["invalid_loss_iterations"] = list(self._iterations)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes the iterations counted by a training that is resumed."""
        if runner._resume:
            self._iterations = list(checkpoint.get("invalid_loss_iterations", []))

    def _message(self, runner: Runner, file: Path) -> str:
        first, last, count = self._iterations[0], self._iterations[-1], len(self._iterations)
        iterations = "iteration" if count == 1 else "iterations"
        return (
            f"The loss was nan or infinite in {count} {iterations}, last in epoch "
            f"{runner.epoch + 1}, iteration {last}; losses and images are listed in {file}. It "
            "usually helps to lower the learning rate, to warm it up, to clip gradients, or to "
            "mend labels that tools/data/check_dataset.py finds faulty. Checkpoints from before "
            f"iteration {first} are not affected."
        )


def _losses(outputs: dict[str, Any]) -> dict[str, list[float]]:
    """Returns the values of each loss; waits for the device once, however many there are."""
    names: list[str] = []
    parts: list[torch.Tensor] = []
    for name, value in outputs.items():
        if "loss" not in name:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            parts.append(torch.as_tensor(item).detach().flatten().float())
            names += [name] * parts[-1].numel()
    losses: dict[str, list[float]] = {name: [] for name in names}
    if not parts:
        return losses
    device = max((part.device for part in parts), key=lambda device: device.type != "cpu")
    values = torch.cat([part.to(device, non_blocking=True) for part in parts]).tolist()
    for name, value in zip(names, values, strict=True):
        losses[name].append(value)
    return losses


def _image_paths(data_batch: Any) -> list[str]:
    samples = data_batch.get("data_samples") if isinstance(data_batch, dict) else None
    return [
        str(sample.img_path)
        for sample in samples or []
        if isinstance(sample, BaseDataElement) and "img_path" in sample.metainfo_keys()
    ]
