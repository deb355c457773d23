"""Inference on image files and videos, with annotated pictures and JSON."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from aicore.apis.setup import default_work_dir
from aicore.engine.checkpoint import config_for_checkpoint, read_checkpoint
from aicore.engine.inferencer import Inferencer
from aicore.engine.resources import exhaustion_sentence
from aicore.errors import ConfigError, shown
from aicore.runtime.images import describe_left_out, find_images, write_image
from aicore.runtime.locks import lock_folder
from aicore.runtime.videos import VIDEO_SUFFIXES, Video, VideoWriter
from aicore.task import RecordWriter, Task, build_task

_FRAMES_AT_ONCE = 8  # that are held in memory
_LONGEST_NAME = 230  # bytes; file systems take 255, with number, "_cam" and suffix


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
    files, left_out = find_images(images) if images else ([], [])
    if left_out:
        print(f"warning: {shown(describe_left_out(left_out))}", file=sys.stderr)
    content = read_checkpoint(checkpoint, trust=trust)
    settings = config_for_checkpoint(config, content, str(checkpoint), options)
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
    names = _unique_names(paths, cam)
    records = []
    with lock_folder(folder), RecordWriter(folder / "predictions.json") as writer:
        for record in chain(
            _infer_images(inferencer, files, names[: len(files)], folder, cam),
            *map(partial(_infer_video, inferencer, folder), videos, names[len(files) :]),
        ):
            writer.write(record)
            records.append(record)
    return records


def _is_video(item: str | Path) -> bool:
    return Path(item).suffix.lower() in VIDEO_SUFFIXES


def _infer_images(
    inferencer: Inferencer, files: list[Path], names: list[str], folder: Path, cam: bool
) -> Iterator[dict[str, Any]]:
    """Writes an annotated picture of each image; yields the records."""
    stream = inferencer.stream(files) if files else ()
    for file, name, (image, _, record) in tqdm(
        zip(files, names, stream, strict=True), total=len(files), desc="images", disable=None
    ):
        if record["inspected"]:
            try:
                write_image(folder / f"{name}.png", inferencer.task.draw(image, record))
                _write_maps(inferencer.task, record, folder, name)
                if cam:
                    write_image(folder / f"{name}_cam.png", inferencer.activation_map(file))
            except (MemoryError, RuntimeError, cv2.error) as error:
                if exhaustion_sentence(error) is None:
                    raise
                tqdm.write(
                    f"warning: there is not enough memory to draw {shown(file)}", file=sys.stderr
                )
        yield record


def _infer_video(
    inferencer: Inferencer, folder: Path, video: Video, name: str
) -> Iterator[dict[str, Any]]:
    """Writes an annotated video; yields the records of its frames."""
    number = 0
    title = shown(video.path.name)
    frames = tqdm(video, title, total=video.length, unit="frame", disable=None)
    with VideoWriter(folder / f"{name}.mp4", video.rate) as writer:
        for chunk in _chunks(frames, _FRAMES_AT_ONCE):
            for image, _, record in inferencer.stream(chunk):
                record = {**record, "image": str(video.path), "frame": number}
                writer.write(inferencer.task.draw(image, record))
                _write_maps(inferencer.task, record, folder, f"{name}_{number:06d}")
                yield record
                number += 1


def _chunks(frames: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    frames = iter(frames)
    while chunk := list(islice(frames, size)):
        yield chunk


def _write_maps(task: Task, record: dict[str, Any], folder: Path, name: str) -> None:
    for kind, pixels in task.maps(record).items():
        (folder / kind).mkdir(exist_ok=True)
        write_image(folder / kind / f"{name}.png", pixels)


def _unique_names(files: Sequence[Path], cam: bool = False) -> list[str]:
    """Returns a name for what is written of each file: its stem, where that is unique.

    Where stems repeat, the folder's name stands before it; where that does not tell them apart
    either, a number behind it, in the order of the files. Names that differ in case alone are one
    to many file systems, and no name is that of another's map, ``<name>_cam``, or frame,
    ``<video>_000001``. A long name is cut.

    Args:
        files: Images, then videos.
        cam: Whether maps are written.
    """
    stems = Counter(file.stem.casefold() for file in files)
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        is_only = stems[file.stem.casefold()] == 1
        stem = _cut(file.stem if is_only else f"{file.parent.name}_{file.stem}")
        candidates = chain([stem], (f"{stem}_{number}" for number in count(1)))
        name = next(n for n in candidates if _is_free(n, taken, cam, _is_video(file)))
        taken.update({name.casefold(), f"{name}_cam".casefold()} if cam else {name.casefold()})
        names.append(name)
    return names


def _is_free(name: str, taken: set[str], cam: bool, is_video: bool) -> bool:
    name = name.casefold()
    if name in taken or (cam and f"{name}_cam" in taken):
        return False
    return not is_video or not any(
        other.startswith(f"{name}_") and other[len(name) + 1 :].isdecimal() for other in taken
    )


def _cut(name: str) -> str:
    """Returns a name that leaves room for what is put behind it; a cut one ends in its hash."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    whole = encoded[: _LONGEST_NAME - 9].decode("utf-8", "ignore")  # no half of a character
    return f"{os.fsdecode(whole.encode())}_{digest}"
