"""Inference on image files, with annotated pictures and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aicore.apis.setup import default_work_dir
from aicore.config import load_config
from aicore.engine.checkpoint import checkpoint_classes, read_checkpoint
from aicore.errors import ConfigError
from aicore.runtime.images import find_images, write_image
from aicore.task import build_task, write_records


def infer(
    config: str | Path,
    checkpoint: str | Path,
    images: Sequence[str | Path],
    out: str | Path | None = None,
    cam: bool = False,
    device: str | None = None,
    options: dict[str, Any] | None = None,
    trust: bool = False,
) -> list[dict[str, Any]]:
    """Runs a model on images; writes an annotated picture of each and ``predictions.json``.

    Where the task says something of each pixel, that is written too: ``masks/<image>.png``.

    Args:
        config: Config file.
        checkpoint: The model's weights.
        images: Files, folders, globs.
        out: Where results go; by default ``work_dirs/<config's name>/demo``.
        cam: Whether to write a class-activation map of each image too.
        device: ``cpu``, ``cuda``, ``cuda:1``; None for the best one there is.
        options: Overrides of the config, with dotted keys.
        trust: Whether to read a checkpoint that could run code of its author's.

    Returns:
        One record per image, as in ``predictions.json``. An image that cannot be read has
        ``inspected`` False and a ``reason``.
    """
    files = find_images(images)
    classes = checkpoint_classes(read_checkpoint(checkpoint, trust=trust))
    settings = load_config(config, options, classes)
    inferencer = build_task(settings.task).inferencer(settings, checkpoint, device, trust=trust)
    if cam and not hasattr(inferencer, "activation_map"):
        raise ConfigError(f"{config}: --cam: the task has no class-activation maps.")
    folder = Path(out or default_work_dir(config, "demo"))
    if any(file.resolve().parent == folder.resolve() for file in files):
        raise ConfigError(
            f"--out {str(folder)!r} holds images to inspect, which the annotated pictures would "
            "overwrite: give another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = _unique_names(files)
    records = []
    stream = inferencer.stream(files)
    for file, name, (image, _, record) in tqdm(
        zip(files, names, stream, strict=True), total=len(files), desc="images", disable=None
    ):
        records.append(record)
        if not record["inspected"]:
            continue
        write_image(folder / f"{name}.png", inferencer.task.draw(image, record))
        for kind, pixels in inferencer.task.maps(record).items():
            (folder / kind).mkdir(exist_ok=True)
            write_image(folder / kind / f"{name}.png", pixels)
        if cam:
            write_image(folder / f"{name}_cam.png", inferencer.activation_map(file))
    write_records(folder / "predictions.json", records)
    return records


def _unique_names(files: Sequence[Path]) -> list[str]:
    """Returns each file's stem, with its folder's name before it where stems repeat."""
    stems = Counter(file.stem for file in files)
    names = [f.stem if stems[f.stem] == 1 else f"{f.parent.name}_{f.stem}" for f in files]
    count = Counter(names)
    return [n if count[n] == 1 else f"{n}_{index}" for index, n in enumerate(names)]
