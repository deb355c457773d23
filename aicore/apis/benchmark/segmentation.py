"""Segmentation beside its peers: training against segmentation_models.pytorch, metric, mmseg's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmengine.utils import to_2tuple
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from aicore.apis.benchmark.report import Report, machine_facts
from aicore.apis.benchmark.turns import measure_in_turns
from aicore.apis.setup import open_config
from aicore.config import without_pretrained
from aicore.errors import ConfigError
from aicore.registry import MODELS, explain_build_errors
from aicore.segmentation.metrics import SegmentationMetric

# bfloat16, channels last.
_SWITCHES = {"float32": (False, False), "bfloat16": (True, False), "bf16, NHWC": (True, True)}
_PEERS = {"aicore.UNetHead": "Unet", "aicore.UNetPlusPlusHead": "UnetPlusPlus"}
_METRIC_SIDE = 512  # pixels
_METRIC_IMAGES = 8


def benchmark_segmentation(
    config: str | Path, rounds: int = 10, options: dict[str, Any] | None = None
) -> Report:
    """Measures a config's network and metric beside its peers', in turns.

    - A training step (forward, the config's losses, backward, update) of aicore's network, and of
      segmentation_models.pytorch's of the same architecture in the same loop, on random images of
      the config's ``image_size`` and ``batch_size``.
    - The metric on maps of 512 x 512, eight images at once, beside mmseg's ``IoUMetric``, which
      takes them one by one. aicore's is measured with and without its regions, which mmseg's does
      not have.

    Args:
        config: Config file with a UNet or UNet++.
        rounds: How often each has its turn.
        options: Overrides of the config, with dotted keys.

    Returns:
        A row for each comparison with the columns ``what``, ``aicore_per_second`` and
        ``peer_per_second`` (images), and ``speed_up``, the median of each round's ratio.

    Raises:
        ConfigError: segmentation_models.pytorch is not installed, or has no such network.
    """
    settings = open_config(config, options)
    init_default_scope(settings.default_scope)
    rows = [
        _row(f"training step, {name}", settings.batch_size, *_steps(settings, *switches), rounds)
        for name, switches in _SWITCHES.items()
    ]
    classes = len(settings.classes)
    for name, regions in (("metric", False), ("metric with regions", True)):
        works = _our_metric(classes, regions), _mmseg_metric(classes)
        rows.append(_row(f"{name}, {classes} classes", _METRIC_IMAGES, *works, rounds))
    facts = {
        "peers": "segmentation_models.pytorch's network, mmseg's IoUMetric",
        "images": f"training {settings.batch_size} of {settings.image_size}, metric "
        f"{_METRIC_IMAGES} of {_METRIC_SIDE} x {_METRIC_SIDE} pixels",
        "rounds": f"{rounds} of one step each",
    }
    return Report({**machine_facts(), **facts}, rows)


def _row(
    what: str, images: int, ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> dict[str, str | float | None]:
    own, peers = measure_in_turns([ours, theirs], rounds)
    return {
        "what": what,
        "aicore_per_second": round(images / median(own), 2),
        "peer_per_second": round(images / median(peers), 2),
        "speed_up": round(median(b / a for a, b in zip(own, peers, strict=True)), 3),
    }


# ---- training steps ----


def _steps(
    settings: Config, bfloat16: bool, channels_last: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Returns a training step of aicore's network, and one of smp's."""
    with explain_build_errors(settings):
        model = MODELS.build(without_pretrained(settings.model))
    model = model.to(get_device())
    peer = _smp_network(settings).to(get_device())
    size = (settings.batch_size, settings.in_channels, *to_2tuple(settings.image_size))
    images = torch.randn(size, device=get_device())
    label = torch.randint(0, len(settings.classes), (size[0], *size[2:]), device=get_device())
    samples = [SegDataSample(gt_sem_seg=PixelData(data=item[None])) for item in label]
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
        for network in (model, peer):
            network.to(memory_format=torch.channels_last)
    losses = model.decode_head.loss_decode

    def ours() -> Tensor:
        return sum(model(images, samples, mode="loss").values())

    def theirs() -> Tensor:
        logits = peer(images)
        return sum(loss(logits, label, ignore_index=255) for loss in losses)

    return _step(model, ours, bfloat16), _step(peer, theirs, bfloat16)


def _step(network: nn.Module, loss: Callable[[], Tensor], bfloat16: bool) -> Callable[[], None]:
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)

    def step() -> None:
        with torch.autocast(get_device(), torch.bfloat16, enabled=bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _smp_network(settings: Config) -> nn.Module:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise ConfigError(
            "the benchmark compares with segmentation_models.pytorch: pip install -e '.[tests]'."
        ) from error
    head = settings.model.decode_head
    if head.type not in _PEERS:
        raise ConfigError(
            f"{settings.filename}: model.decode_head.type = {head.type!r} has no counterpart in "
            f"segmentation_models.pytorch here. Take a config with {' or '.join(_PEERS)}."
        )
    return getattr(smp, _PEERS[head.type])(
        f"tu-{settings.model_name}",
        encoder_weights=None,
        in_channels=settings.in_channels,
        classes=len(settings.classes),
        decoder_channels=tuple(head.decoder_channels),
    )


# ---- metrics ----


def _maps(classes: int) -> list[dict[str, Any]]:
    """Returns data samples of random maps in squares of 32 pixels, a tenth of them wrong."""
    generator = torch.Generator().manual_seed(0)
    size = (_METRIC_IMAGES, _METRIC_SIDE // 32, _METRIC_SIDE // 32)
    truth = torch.randint(0, classes, size, generator=generator)
    wrong = torch.rand(size, generator=generator) < 0.1
    prediction = torch.where(wrong, (truth + 1) % classes, truth)
    maps = [item.repeat_interleave(32, 1).repeat_interleave(32, 2) for item in (truth, prediction)]
    return [
        {"gt_sem_seg": {"data": t[None]}, "pred_sem_seg": {"data": p[None]}}
        for t, p in zip(*(m.to(get_device()) for m in maps), strict=True)
    ]


def _our_metric(classes: int, regions: bool) -> Callable[[], object]:
    metric = SegmentationMetric(min_region_area=10 if regions else None)
    metric.dataset_meta = {"classes": [str(index) for index in range(classes)]}
    maps = _maps(classes)
    return lambda: metric.process({}, maps)


def _mmseg_metric(classes: int) -> Callable[[], object]:
    metric = IoUMetric()
    metric.dataset_meta = {"classes": [str(index) for index in range(classes)]}
    maps = _maps(classes)
    return lambda: metric.process({}, maps)
