"""What a network was trained to see: kept in its checkpoint and compared with a config."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from aicore.config import load_config
from aicore.engine.checkpoint.content import checkpoint_classes
from aicore.errors import CheckpointError

# The base configs' settings that a test's pre-processing follows from.
_SETTINGS = (
    *("image_size", "tile_size", "tile_overlap", "in_channels", "white_level"),
    *("pixel_mean", "pixel_std"),
)
_TILES = ("mode", "size", "crop_size", "stride")  # of model.test_cfg; the rest is of the results
# Steps of a pipeline that see labels, not images: OpenMMLab names them all so.
_NOT_OF_IMAGES = re.compile(r"(\w+\.)*(Pack|Load(?!Image))")
_OF_TRAINING = ("batch_augments", "num_classes")  # in a data preprocessor of a host library
_PLACES = ("backend_args", "file_client_args")  # where images come from, perhaps with a password


def input_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what decides what the network sees, as plain values: what a checkpoint keeps.

    Args:
        config: A config, its expressions evaluated.

    Returns:
        ``settings``, those of the base configs, by name; ``pipeline``, the steps of the test that
        change images; ``data_preprocessor`` and ``tiles`` of the model.
    """
    dataset = (config.get("test_dataloader") or config.get("val_dataloader") or {}).get("dataset")
    while isinstance(dataset, Mapping) and "dataset" in dataset:  # wrappers such as RepeatDataset
        dataset = dataset["dataset"]
    model = config.get("model") or {}
    steps = [step for step in (dataset or {}).get("pipeline") or () if isinstance(step, Mapping)]
    return plain_values(
        {
            "settings": {name: config[name] for name in _SETTINGS if name in config},
            "pipeline": [
                {key: value for key, value in step.items() if key not in _PLACES}
                for step in steps
                if not _NOT_OF_IMAGES.match(str(step.get("type")))
            ],
            "data_preprocessor": {
                key: value
                for key, value in (model.get("data_preprocessor") or {}).items()
                if key not in _OF_TRAINING
            },
            "tiles": {k: v for k, v in (model.get("test_cfg") or {}).items() if k in _TILES},
        }
    )


def plain_values(value: Any) -> Any:
    """Returns a config's value of dicts, lists, texts and finite numbers alone, as JSON has them.

    A checkpoint can be read without running code, and compared with one that went through JSON.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def config_for_checkpoint(
    path: str | Path,
    checkpoint: dict[str, Any],
    source: str,
    options: dict[str, Any] | None = None,
) -> Config:
    """Reads a config for the test of a checkpoint: its images have to look as they did in training.

    Classes that the config leaves open, and the settings of the pre-processing, are the
    checkpoint's: where the config file has others, this is told. What ``options`` change holds, and
    is told too.

    Args:
        path: The config file.
        checkpoint: What :func:`aicore.engine.checkpoint.read_checkpoint` returned.
        source: The checkpoint's name, for the message.
        options: Overrides of the config, with dotted keys.

    Raises:
        ConfigError: As :func:`aicore.config.load_config`.
        CheckpointError: The classes are others, or the pre-processing is in what is no setting.
    """
    options, classes = options or {}, checkpoint_classes(checkpoint)
    config = load_config(path, options, classes)
    _require_classes(checkpoint, source, config.get("classes"), str(path))
    kept = checkpoint["meta"].get("input_settings")
    if kept is None:
        _tell_unknown(source)
        return config
    first = input_differences(kept, config)
    if not first:
        return config
    own = {name: value for name, value in kept["settings"].items() if name in config}
    given = {key.split(".")[0] for key in options}
    taken = {name: value for name, value in own.items() if name not in given}
    classes = classes or config.get("classes")  # the data, which options name, need not be asked
    config = load_config(path, {**options, **taken}, classes)
    left = input_differences(kept, config)
    if left and input_differences(kept, load_config(path, own, classes)):  # not by the options
        raise _other_inputs(source, str(path), left)
    replaced = [difference for difference in first if difference not in left]
    for told, differences in (
        ("The pre-processing is that of", replaced),
        ("--cfg-options change the pre-processing of", left),
    ):
        if differences:
            print_log(
                f"{told} checkpoint {source!r}: {_in_words(differences)}.",
                logger="current",
                level=logging.WARNING,
            )
    return config


def require_same_inputs(
    checkpoint: dict[str, Any], source: str, config: Config, metainfo: Mapping[str, Any] | None
) -> None:
    """Raises if a training would go on with other classes or images than a checkpoint's.

    Args:
        checkpoint: What :func:`aicore.engine.checkpoint.read_checkpoint` returned.
        source: Its name, for the message.
        config: The config of the training.
        metainfo: What is known of its data set, perhaps with ``classes``.

    Raises:
        CheckpointError: It would.
    """
    _require_classes(checkpoint, source, (metainfo or {}).get("classes"), str(config.filename))
    kept = checkpoint["meta"].get("input_settings")
    if kept is None:
        _tell_unknown(source)
    elif left := input_differences(kept, config):
        raise _other_inputs(source, str(config.filename), left)


def input_differences(kept: Mapping[str, Any], config: Config) -> list[tuple[str, Any, Any]]:
    """Returns in what a config shows a network other images than a checkpoint's training did.

    Args:
        kept: What :func:`input_settings` returned of the training's config.
        config: The config to compare.

    Returns:
        Name, value in the checkpoint and in the config, of the settings that differ; where those
        do not, of what the pipeline and the model differ in. Empty if there is no difference, also
        where a setting differs that nothing follows from.
    """
    now = input_settings(config)
    details = _differences(
        {key: value for key, value in kept.items() if key != "settings"},
        {key: value for key, value in now.items() if key != "settings"},
    )
    return details and (_differences(kept["settings"], now["settings"]) or details)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    old, new = dict(_leaves(before)), dict(_leaves(now))
    names = [*old, *(name for name in new if name not in old)]
    return [(n, old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)]


def _leaves(value: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what stands in nested dicts and lists of dicts, by dotted keys."""
    for key, item in value.items():
        if isinstance(item, list) and item and all(isinstance(part, dict) for part in item):
            item = {str(index): part for index, part in enumerate(item)}
        if isinstance(item, dict):
            yield from _leaves(item, f"{where}{key}.")
        else:
            yield f"{where}{key}", item


def _in_words(differences: list[tuple[str, Any, Any]]) -> str:
    more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
    parts = (f"{name} = {old!r}, in the config {new!r}" for name, old, new in differences[:4])
    return "; ".join(parts) + more


def _tell_unknown(source: str) -> None:
    print_log(
        f"Checkpoint {source!r} does not say what pre-processing it was trained with: make sure "
        "that image size, white level and normalisation of the config are those.",
        logger="current",
        level=logging.WARNING,
    )


def _other_inputs(
    source: str, config: str, differences: list[tuple[str, Any, Any]]
) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {source!r} was trained with another pre-processing than that of {config}: "
        f"{_in_words(differences)}. Use the config that it was trained with, a copy lies in its "
        "work dir, or set these by --cfg-options as they were then."
    )


def _require_classes(checkpoint: dict[str, Any], source: str, classes: Any, config: str) -> None:
    trained = checkpoint_classes(checkpoint)
    if trained and classes and tuple(classes) != trained:
        raise CheckpointError(
            f"checkpoint {source!r} was trained on the classes {', '.join(trained)}, but "
            f"{config} has {', '.join(classes)}. Names and order have to agree."
        )
