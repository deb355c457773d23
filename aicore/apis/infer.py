"""Inference on image files and videos, with annotated pictures and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from aicore.apis.setup import default_work_dir
from aicore.config import load_config
from aicore.engine.checkpoint import checkpoint_classes, read_checkpoint
from aicore.engine.inferencer import Inferencer
from aicore.errors import ConfigError
from aicore.runtime.images import find_images, write_image
from aicore.runtime.videos import VIDEO_SUFFIXES, Video, VideoWriter
from aicore.task import Task, build_task, write_records

_FRAMES_AT_ONCE = 8  # that are held in memory


def infer(
    config: str | Path,
    checkpoint: str | Path,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    cam: bool = False,
    device: str | None = None,
    options: dict[str, Any] | None = None,
    trust: bool = False,
) -> list[dict[str, Any]]:
    """Runs a model on images and videos; writes annotated ones, and ``predictions.json``.

    Where the task says something of each pixel, that is written too: ``masks/<image>.png``, and
    ``masks/<video>_<frame>.png``.

    Args:
        config: Config file.
        checkpoint: The model's weights.
        inputs: Image files, video files, folders of images, globs of images; one or several.
        out: Where results go; by default ``work_dirs/<config's name>/demo``. An image becomes
            ``<image>.png``, a video ``<video>.mp4``.
        cam: Whether to write a class-activation map of each image too.
        device: ``cpu``, ``cuda``, ``cuda:1``; None for the best one there is.
        options: Overrides of the config, with dotted keys.
        trust: Whether to read a checkpoint that could run code of its author's.

    Returns:
        One record per image, then one per frame of each video, as in ``predictions.json``. An
        image that cannot be read has ``inspected`` False and a ``reason``; a frame has its number
        as ``frame``, from 0.

    Raises:
        DataError: An input does not exist, or a video cannot be read.
        ConfigError: An option does not fit the task or the inputs.
    """
    inputs = [inputs] if isinstance(inputs, str | Path) else inputs
    videos = [Video(item) for item in inputs if _is_video(item)]
    images = [item for item in inputs if not _is_video(item)]
    files = find_images(images).files if images else []
    classes = checkpoint_classes(read_checkpoint(checkpoint, trust=trust))
    settings = load_config(config, options, classes)
    inferencer = build_task(settings.task).inferencer(settings, checkpoint, device, trust=trust)
    if cam and not hasattr(inferencer, "activation_map"):
        raise ConfigError(f"{config}: --cam: the task has no class-activation maps.")
    if cam and videos:
        raise ConfigError(f"--cam: maps are drawn of images, not of videos ({videos[0].path}).")
    folder = Path(out or default_work_dir(config, "demo"))
    paths = [*files, *(video.path for video in videos)]
    if any(path.resolve().parent == folder.resolve() for path in paths):
        raise ConfigError(
            f"--out {str(folder)!r} holds inputs, which the annotated ones would overwrite: give "
            "another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = _unique_names(paths)
    records = _infer_images(inferencer, files, names[: len(files)], folder, cam) if files else []
    for video, name in zip(videos, names[len(files) :], strict=True):
        records += _infer_video(inferencer, video, name, folder)
    write_records(folder / "predictions.json", records)
    return records


def _is_video(item: str | Path) -> bool:
    return Path(item).suffix.lower() in VIDEO_SUFFIXES


def _infer_images(
    inferencer: Inferencer, files: list[Path], names: list[str], folder: Path, cam: bool
) -> list[dict[str, Any]]:
    """Writes an annotated picture of each image; returns the records."""
    records = []
    stream = inferencer.stream(files)
    for file, name, (image, _, record) in tqdm(
        zip(files, names, stream, strict=True), total=len(files), desc="images", disable=None
    ):
        records.append(record)
        if not record["inspected"]:
            continue
        write_image(folder / f"{name}.png", inferencer.task.draw(image, record))
        _write_maps(inferencer.task, record, folder, name)
        if cam:
            write_image(folder / f"{name}_cam.png", inferencer.activation_map(file))
    return records


def _infer_video(
    inferencer: Inferencer, video: Video, name: str, folder: Path
) -> list[dict[str, Any]]:
    """Writes an annotated video; returns the records of its frames."""
    records = []
    frames = tqdm(video, video.path.name, total=video.length, unit="frame", disable=None)
    with VideoWriter(folder / f"{name}.mp4", video.rate) as writer:
        for chunk in _chunks(frames, _FRAMES_AT_ONCE):
            for image, _, record in inferencer.stream(chunk):
                number = len(records)
                records.append({**record, "image": str(video.path), "frame": number})
                writer.write(inferencer.task.draw(image, record))
                _write_maps(inferencer.task, record, folder, f"{name}_{number:06d}")
    return records


def _chunks(frames: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    frames = iter(frames)
    while chunk := list(islice(frames, size)):
        yield chunk


def _write_maps(task: Task, record: dict[str, Any], folder: Path, name: str) -> None:
    for kind, pixels in task.maps(record).items():
        (folder / kind).mkdir(exist_ok=True)
        write_image(folder / kind / f"{name}.png", pixels)


def _unique_names(files: Sequence[Path]) -> list[str]:
    """Returns each file's stem, with its folder's name before it where stems repeat."""
    stems = Counter(file.stem for file in files)
    names = [f.stem if stems[f.stem] == 1 else f"{f.parent.name}_{f.stem}" for f in files]
    count = Counter(names)
    return [n if count[n] == 1 else f"{n}_{index}" for index, n in enumerate(names)]
