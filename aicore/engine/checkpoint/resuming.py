"""What a checkpoint has to hold for a training to go on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aicore.engine.checkpoint.content import check_training_state, wrong_entry
from aicore.errors import CheckpointError


def prepare_resume(checkpoint: dict[str, Any], source: str) -> None:
    """Makes sure that a checkpoint's entries for a resume are what they should be.

    The best weights so far, which it names, are looked for beside it, wherever it lies by now.

    Args:
        checkpoint: What :func:`aicore.engine.checkpoint.read_checkpoint` returned.
        source: The file's name.

    Raises:
        CheckpointError: An entry has another type or value than it should.
    """
    check_training_state(checkpoint, source)
    info = checkpoint.get("message_hub", {}).get("runtime_info", {})
    if "best_ckpt" in info:
        info["best_ckpt"] = str(Path(source).with_name(Path(info["best_ckpt"]).name))


def require_resumable(
    checkpoint: dict[str, Any], source: str, length: int, schedulers: int
) -> None:
    """Raises if a training cannot go on from a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` returned.
        source: The file's name, for the message.
        length: Iterations an epoch of the training.
        schedulers: Number of its param_schedulers.

    Raises:
        CheckpointError: It holds weights only, is of another program or of a training with other
            numbers, or an entry has another type or value than it should.
    """
    meta = checkpoint["meta"]
    if "optimizer" not in checkpoint:
        raise CheckpointError(
            f"checkpoint {source!r} holds weights only, training cannot be resumed from it. Use "
            "--load-from to start from these weights."
        )
    if not {"epoch", "iter"} <= meta.keys() or "message_hub" not in checkpoint:
        raise CheckpointError(
            f"checkpoint {source!r} is of another program and lacks what a training is resumed "
            "from. Use --load-from to start from its weights."
        )
    for what, before, now in (
        ("iterations an epoch", meta.get("iterations_per_epoch", length), length),
        ("param_schedulers", len(checkpoint.get("param_schedulers", ())), schedulers),
    ):
        if before != now:
            raise CheckpointError(
                f"checkpoint {source!r} is of a training with {before} {what}, this one has {now}, "
                "so that its schedule would not fit. Resume with the same data, schedule and "
                "product of processes and batch_size, or use --load-from."
            )
    first = meta["epoch"] * length
    if not first <= meta["iter"] <= first + length:
        expected = f"{first} to {first + length} after {meta['epoch']} epochs of {length}"
        raise wrong_entry(source, "meta.iter", meta["iter"], expected)
