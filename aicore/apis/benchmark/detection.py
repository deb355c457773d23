"""Detection beside mmdet: a training step of YOLOX, its time and its memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmengine.utils import to_2tuple
from torch import Tensor

from aicore.apis.benchmark.report import Report, machine_facts
from aicore.apis.benchmark.turns import measure_in_turns
from aicore.apis.benchmark.variant import _peak_memory
from aicore.apis.setup import open_config
from aicore.config import without_pretrained
from aicore.errors import ConfigError
from aicore.registry import MODELS, explain_build_errors

_BOXES = 10  # an image
_STEPS = 3  # after which memory has reached its peak


def benchmark_detection(
    config: str | Path, rounds: int = 10, options: dict[str, Any] | None = None
) -> Report:
    """Measures a training step of a config's YOLOX beside mmdet's own of the same size.

    A step is data preprocessor, forward, losses with the assignment, backward and update, in the
    same loop for both, on random images of the config's ``image_size`` and ``batch_size`` with 10
    boxes each; in float32 and with bfloat16 autocast. For the time they take turns in one process;
    for the peak memory each has a process of its own.

    Args:
        config: Config file with a YOLOX of three input channels.
        rounds: How often each has its turn.
        options: Overrides of the config, with dotted keys.

    Returns:
        A row for each precision with the columns ``what``, ``aicore_seconds`` and
        ``mmdet_seconds`` of a step, ``speed_up``, the median of each round's ratio, and
        ``aicore_peak_mb`` and ``mmdet_peak_mb``: see :class:`aicore.apis.benchmark.variant.Round`.

    Raises:
        ConfigError: The config's model has no counterpart in mmdet.
    """
    settings = open_config(config, options)
    _peer(settings)  # tells before anything runs
    cases = {
        name: [(config, options, peer, name == "bfloat16") for peer in (False, True)]
        for name in ("float32", "bfloat16")
    }
    # First, while this process is small: the peak of a new one begins with that of its parent.
    memory = {name: [_memory_alone(*case) for case in pair] for name, pair in cases.items()}
    rows = [_row(name, pair, memory[name], rounds) for name, pair in cases.items()]
    facts = {
        "images": f"{settings.batch_size} of {settings.image_size}, {_BOXES} boxes each, "
        f"{len(settings.classes)} classes",
        "rounds": f"{rounds} of one step each",
    }
    return Report({**machine_facts(), **facts}, rows)


def _row(
    precision: str, cases: list[tuple[Any, ...]], memory: list[float], rounds: int
) -> dict[str, str | float | None]:
    own, peers = measure_in_turns([_step(*case) for case in cases], rounds)
    return {
        "what": f"training step, {precision}",
        "aicore_seconds": round(median(own), 3),
        "mmdet_seconds": round(median(peers), 3),
        "speed_up": round(median(b / a for a, b in zip(own, peers, strict=True)), 3),
        "aicore_peak_mb": round(memory[0]),
        "mmdet_peak_mb": round(memory[1]),
    }


def _memory_alone(*case: Any) -> float:
    """Returns the peak memory in MB of a process that only builds a network and trains it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_memory_of_steps, *case).result()


def _memory_of_steps(
    config: str | Path, options: dict[str, Any] | None, peer: bool, bfloat16: bool
) -> float:
    step = _step(config, options, peer, bfloat16)
    for _ in range(_STEPS):
        step()
    return _peak_memory()


def _step(
    config: str | Path, options: dict[str, Any] | None, peer: bool, bfloat16: bool
) -> Callable[[], None]:
    """Returns a training step of aicore's network, or of its peer."""
    settings = open_config(config, options)
    init_default_scope(settings.default_scope)
    with explain_build_errors(settings):
        model = MODELS.build(_peer(settings) if peer else without_pretrained(settings.model))
    model.to(get_device()).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, nesterov=True)
    batch = _batch(settings)

    def step() -> None:
        data = model.data_preprocessor(batch, True)
        with torch.autocast(get_device(), torch.bfloat16, enabled=bfloat16):
            losses = model(**data, mode="loss")
        _total(losses).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _total(losses: dict[str, Tensor]) -> Tensor:
    return sum(losses.values())


def _batch(settings: Config) -> dict[str, Any]:
    """Returns random images, and data samples with random boxes."""
    generator = torch.Generator().manual_seed(0)
    height, width = to_2tuple(settings.image_size)
    meta = {"img_shape": (height, width), "ori_shape": (height, width), "scale_factor": (1.0, 1.0)}
    samples = []
    for _ in range(settings.batch_size):
        corners = torch.rand(_BOXES, 2, 2, generator=generator).sort(dim=1).values
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=(corners * torch.tensor([width, height])).flatten(1),
            labels=torch.randint(0, len(settings.classes), (_BOXES,), generator=generator),
        )
        samples.append(sample)
    size = (3, height, width)
    images = [torch.randint(0, 256, size, dtype=torch.uint8, generator=generator) for _ in samples]
    return {"inputs": images, "data_samples": samples}


def _peer(settings: Config) -> ConfigDict:
    """Returns the config of mmdet's YOLOX of the same size, as mmdet's own configs write it.

    Raises:
        ConfigError: There is none.
    """
    model = settings.model
    if model.type != "aicore.YOLOX" or model.backbone.get("in_channels", 3) != 3:
        raise ConfigError(
            f"{settings.filename}: mmdet has no counterpart of model.type = {model.type!r} with "
            f"in_channels = {settings.get('in_channels')}. Take a YOLOX config, in_channels = 3."
        )
    parts = {
        name: {key: value for key, value in model[name].items() if key != "act_cfg"}
        for name in ("backbone", "neck", "bbox_head")
    }
    parts["backbone"].pop("in_channels", None)
    parts["backbone"]["type"], parts["bbox_head"]["type"] = "CSPDarknet", "YOLOXHead"
    return ConfigDict(
        type="YOLOX",
        data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
        train_cfg=dict(assigner=dict(type="SimOTAAssigner", center_radius=2.5)),
        test_cfg=dict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.65)),
        **parts,
    )
