"""Anomaly detection beside anomalib: the fit, its memory, and the test."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from aicore.apis.benchmark.report import Report, machine_facts
from aicore.apis.benchmark.variant import _peak_memory
from aicore.apis.setup import build_runner, open_config
from aicore.errors import ConfigError
from aicore.registry import DATASETS, MODELS, explain_build_errors

_SCALE = 100.0  # of distances: torchmetrics takes what is above 1 for logits


def benchmark_anomaly(
    config: str | Path,
    rounds: int = 1,
    peer: bool = True,
    options: dict[str, Any] | None = None,
) -> Report:
    """Measures the fit and the test of a config's PaDiM beside anomalib's.

    Both have the same images, backbone, weights, choice of channels, batch size and number of data
    workers. The fit is timed from the first image read to the Gaussians; aicore's is the whole of
    ``tools/train.py``'s loop, with its log and its checkpoint, but without a validation. The test
    is timed from the first image to the figures: AUROC, AP and F1 of images and pixels, and AUPRO;
    aicore computes them in the images' own size, anomalib in the model's. Each run has a process of
    its own, and they take turns.

    Args:
        config: Config file with a PaDiM on whole images in three channels.
        rounds: How often each has its turn; the medians are shown.
        peer: Whether anomalib has its turn, too.
        options: Overrides of the config, with dotted keys.

    Returns:
        A row for each library with the columns ``what``, ``fit_seconds``, ``fit_peak_mb``,
        ``test_images_per_second``, ``image_AUROC``, ``pixel_AUROC`` and ``AUPRO`` in percent.

    Raises:
        ConfigError: anomalib is not installed, or the config has no counterpart in it.
    """
    settings = open_config(config, options)
    sides = {"aicore": _own, **({"anomalib": _peers} if peer else {})}
    if peer:
        _require_counterpart(settings)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            # Memory is the peak of a process: each run needs a new one.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                found[name].append(pool.submit(side, config, options).result())
    rows = [{"what": name, **_medians(runs)} for name, runs in found.items()]
    facts = {
        "images": f"{len(_records(settings, 'train'))} to fit, "
        f"{len(_records(settings, 'test'))} to test, batches of {settings.batch_size}",
        "rounds": str(rounds),
    }
    return Report({**machine_facts(), **facts}, rows)


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(float(torch.tensor([run[name] for run in runs]).median()), 2)
        for name in runs[0]
    }


def _require_counterpart(settings: Config) -> None:
    if find_spec("anomalib") is None:
        raise ConfigError("anomalib is not installed: pip install anomalib, or give --no-peer.")
    method = settings.model.get("method") or {}
    if (
        method.get("type") != "aicore.PaDiM"
        or method.get("reduction") != "random"
        or settings.in_channels != 3
        or settings.get("tile_size")
    ):
        raise ConfigError(
            f"{settings.filename}: anomalib has no counterpart of it. Take a PaDiM config with "
            "reduction = 'random', in_channels = 3 and tile_size = None."
        )


def _records(settings: Config, split: str) -> list[dict[str, Any]]:
    with explain_build_errors(settings):
        dataset = DATASETS.build(settings[f"{split}_dataloader"].dataset)
    return [dataset.get_data_info(index) for index in range(len(dataset))]


# ---- aicore ----


def _own(config: str | Path, options: dict[str, Any] | None) -> dict[str, float]:
    settings = open_config(config, options)
    with tempfile.TemporaryDirectory() as folder:
        settings.work_dir = folder
        settings.val_dataloader = settings.val_cfg = settings.val_evaluator = None
        settings.custom_hooks = []
        settings.default_hooks.dataset_check = None  # reads headers; the peer does not
        settings.default_hooks.report = None
        runner = build_runner(settings)
        began = time.perf_counter()
        runner.train()
        fit_seconds = time.perf_counter() - began
        peak = _peak_memory()
        settings.load_from = str(Path(folder, "epoch_1.pth"))
        runner = build_runner(settings)
        runner.load_or_resume()
        began = time.perf_counter()
        figures = runner.test()
        seconds = time.perf_counter() - began
    return {
        "fit_seconds": fit_seconds,
        "fit_peak_mb": peak,
        "test_images_per_second": len(runner.test_dataloader.dataset) / seconds,
        **{name: figures[name] for name in ("image_AUROC", "pixel_AUROC", "AUPRO")},
    }


# ---- anomalib ----


class _PeerImages(Dataset):
    """Images and masks, read and resized as anomalib does."""

    def __init__(self, records: list[dict[str, Any]], settings: Config) -> None:
        from torchvision.transforms import v2

        size = list(settings.model.method.image_size)
        self.records, self.size = records, size
        mean = [value / 255 for value in settings.model.data_preprocessor.mean]
        std = [value / 255 for value in settings.model.data_preprocessor.std]
        self.transform = v2.Compose([v2.Resize(size, antialias=True), v2.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        from anomalib.data.utils import read_image, read_mask
        from torchvision.transforms.v2.functional import InterpolationMode, resize

        record = self.records[index]
        mask = torch.zeros(self.size, dtype=torch.bool)
        if record["mask_path"] and record["gt_label"]:
            grey = read_mask(record["mask_path"], as_tensor=True)
            mask = resize(grey[None].float(), self.size, InterpolationMode.NEAREST)[0] > 0
        image = self.transform(read_image(record["img_path"], as_tensor=True))
        return image, torch.tensor(record["gt_label"]), mask


def _peer_batches(settings: Config, split: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    images = _PeerImages(_records(settings, split), settings)
    yield from DataLoader(images, settings.batch_size, num_workers=settings.num_workers)


def _peers(config: str | Path, options: dict[str, Any] | None) -> dict[str, float]:
    settings = open_config(config, options)
    init_default_scope(settings.default_scope)
    model = _peer_model(settings)
    began = time.perf_counter()
    model.train()
    model.feature_extractor.eval()
    for images, _, _ in _peer_batches(settings, "train"):
        model(images)
    model.fit()
    fit_seconds = time.perf_counter() - began
    peak = _peak_memory()
    model.eval()
    began, count = time.perf_counter(), 0
    figures = _peer_figures()
    for images, labels, masks in _peer_batches(settings, "test"):
        count += len(images)
        found = model(images)
        for name, metric in figures.items():
            by_pixel = name.startswith(("pixel", "AUPRO"))
            scores = (found.anomaly_map.squeeze(1) if by_pixel else found.pred_score) / _SCALE
            truth = masks if by_pixel else labels
            metric.update(scores.clamp(0, 1).reshape(truth.shape), truth.int())
    values = {name: 100 * float(metric.compute()) for name, metric in figures.items()}
    return {
        "fit_seconds": fit_seconds,
        "fit_peak_mb": peak,
        "test_images_per_second": count / (time.perf_counter() - began),
        **{name: values[name] for name in ("image_AUROC", "pixel_AUROC", "AUPRO")},
    }


def _peer_figures() -> dict[str, Any]:
    from anomalib.metrics.aupr import _AUPR
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.auroc import _AUROC
    from anomalib.metrics.f1_score import _F1Max

    kinds = {"AUROC": _AUROC, "AP": _AUPR, "F1": _F1Max}
    figures = {f"{part}_{n}": kind() for part in ("image", "pixel") for n, kind in kinds.items()}
    return {**figures, "AUPRO": _AUPRO()}


def _peer_model(settings: Config) -> nn.Module:
    """Returns anomalib's model with the backbone's weights and the channels of the config's."""
    from anomalib.models.image.padim.torch_model import PadimModel

    with explain_build_errors(settings):
        chosen = MODELS.build(settings.model).method.chosen
        backbone = MODELS.build(settings.model.backbone).model
    peer = PadimModel(settings.model.backbone.model_name, pre_trained=False, n_features=len(chosen))
    peer.feature_extractor.feature_extractor.load_state_dict(backbone.state_dict())
    peer.idx.copy_(chosen)
    return peer
