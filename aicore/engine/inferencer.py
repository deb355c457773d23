"""Inference on image files and arrays, for every task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from torch import nn

from aicore.config import without_pretrained
from aicore.datasets.transforms import LoadImage
from aicore.engine.checkpoint import (
    checkpoint_classes,
    config_for_checkpoint,
    inference_weights,
    load_weights,
    read_checkpoint,
)
from aicore.engine.resources import exhaustion_sentence
from aicore.errors import ConfigError, DataError, ImageError
from aicore.registry import MODELS, explain_build_errors
from aicore.runtime.images import find_images, read_image, to_eight_bit_scale
from aicore.task import build_task, inspection_record
from aicore.visualization.drawing import to_display

ImageInput = str | Path | np.ndarray

_BLANK = np.zeros((32, 32), np.uint8)  # in place of an image that is not inspected


class Inferencer(BaseInferencer):
    """Runs a trained model on images, with the pipeline of the config's ``test_dataloader``.

    Args:
        model: Config file, or a config that was read for these weights by
            :func:`aicore.engine.checkpoint.config_for_checkpoint`.
        weights: Checkpoint file. The class names come from it where it has them, and so does the
            pre-processing where the config file has another one.
        device: ``cpu``, ``cuda``, ``cuda:1``; None for the best one there is.
        options: Overrides of the config, with dotted keys.
        trust: Whether to read a checkpoint that could run code of its author's.

    Raises:
        ConfigError: There is no such device, or the config has no pipeline to test with.
        CheckpointError: The weights cannot be read or do not fit the model.

    Example:
        >>> inferencer = ClassificationInferencer('config.py', 'best.pth')  # doctest: +SKIP
        >>> inferencer(['part.png'])['predictions'][0]['prediction']  # doctest: +SKIP
        'scratch'
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path,
        device: str | None = None,
        options: dict[str, Any] | None = None,
        trust: bool = False,
    ) -> None:
        _require_device(device)
        checkpoint = read_checkpoint(weights, trust=trust)
        if not isinstance(model, Config):
            model = config_for_checkpoint(model, checkpoint, str(weights), options)
        self.classes: tuple[str, ...] = checkpoint_classes(checkpoint) or tuple(model.classes)
        self.task = build_task(model.task)
        init_default_scope(model.default_scope)
        self._checkpoint, self._source = checkpoint, str(weights)
        super().__init__(model, str(weights), device, model.default_scope, show_progress=False)
        del self._checkpoint

    def __call__(
        self,
        inputs: ImageInput | Sequence[ImageInput],
        return_datasamples: bool = False,
        batch_size: int = 8,
        draw: bool = False,
    ) -> dict[str, list]:
        """Returns what the model says of the images.

        Args:
            inputs: Files, folders, globs, or arrays (HxW or HxWx3 BGR, uint8 or uint16).
            return_datasamples: Whether ``predictions`` holds data samples instead of records.
            batch_size: Images per forward pass.
            draw: Whether to return annotated images too.

        Returns:
            ``predictions``, one record per image in the order of ``inputs``; and
            ``visualization``, HxWx3 BGR images, if ``draw``. An image that cannot be read has
            ``inspected`` False and a ``reason``.
        """
        predictions, pictures = [], []
        for image, sample, record in self.stream(inputs, batch_size):
            predictions.append(sample if return_datasamples else record)
            if draw:
                pictures.append(self.task.draw(image, record))
        return {"predictions": predictions, "visualization": pictures}

    def stream(
        self, inputs: ImageInput | Sequence[ImageInput], batch_size: int = 8
    ) -> Iterator[tuple[np.ndarray, BaseDataElement, dict[str, Any]]]:
        """Yields image (HxWx3 uint8, BGR), data sample and record of one input after the other.

        Only one batch is held in memory, however many images there are. A file that cannot be
        read, that the pipeline refuses or that the memory does not suffice for is not inspected.
        """
        inputs = iter(self._inputs_to_list(inputs))
        while chunk := list(islice(inputs, batch_size)):
            for image, sample in self._predict(chunk):
                yield image, sample, inspection_record(self.task, sample, self.classes)

    def visualize(self, inputs: list, preds: list, draw: bool = True) -> list[np.ndarray]:
        """Returns the inputs with their predictions drawn on them."""
        records = [inspection_record(self.task, sample, self.classes) for sample in preds]
        images = [self._shown(self._read(item)[0]) for item in inputs]
        return [self.task.draw(i, r) for i, r in zip(images, records, strict=True)]

    def postprocess(
        self, preds: list, visualization: list[np.ndarray], return_datasample: bool = False
    ) -> dict[str, list]:
        """Returns predictions and pictures as :meth:`__call__` does."""
        if not return_datasample:
            preds = [inspection_record(self.task, sample, self.classes) for sample in preds]
        return {"predictions": preds, "visualization": visualization}

    def _predict(self, chunk: list[ImageInput]) -> list[tuple[np.ndarray, BaseDataElement]]:
        """Returns what is shown of each input, and its data sample.

        Where an image costs the batch, each is tried alone.
        """
        try:
            images, reasons = zip(*map(self._read, chunk), strict=True)
            samples = self._forward(chunk, images)
            shown = [self._shown(image) for image in images]
        except (DataError, MemoryError, RuntimeError, cv2.error) as error:
            reason = _why_not(error)
            if reason is None or not all(isinstance(item, str | Path) for item in chunk):
                raise
            if len(chunk) > 1:
                return [pair for item in chunk for pair in self._predict([item])]
            shown, reasons = [to_display(_BLANK)], [reason]
            samples = self._forward(chunk, [_BLANK])
        for sample, reason in zip(samples, reasons, strict=True):
            if reason is not None:
                sample.set_metainfo({"not_inspected": reason})
        return list(zip(shown, samples, strict=True))

    def _forward(
        self, chunk: list[ImageInput], images: Sequence[np.ndarray]
    ) -> list[BaseDataElement]:
        batch = [
            self.pipeline({"img_path": self._name(item), "img": image})
            for item, image in zip(chunk, images, strict=True)
        ]
        return self.forward(self.collate_fn(batch))

    def _read(self, item: ImageInput) -> tuple[np.ndarray, str | None]:
        """Returns the image as it is in the file, or a black one and why it cannot be read."""
        if isinstance(item, np.ndarray):
            return item, None
        try:
            return read_image(item, channels=3), None
        except ImageError as error:
            return _BLANK, error.reason

    def _shown(self, image: np.ndarray) -> np.ndarray:
        """Returns an input as HxWx3 uint8 BGR, as bright as the model sees it."""
        steps = (step for step in self.pipeline.transforms if isinstance(step, LoadImage))
        white_level = next((step.white_level for step in steps), 65535)
        return to_display(to_eight_bit_scale(image, white_level))

    @staticmethod
    def _name(item: ImageInput) -> str | None:
        return None if isinstance(item, np.ndarray) else str(item)

    def _inputs_to_list(self, inputs: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
        items = [inputs] if isinstance(inputs, str | Path | np.ndarray) else list(inputs)
        found: list[ImageInput] = []
        for item in items:
            found += [item] if isinstance(item, np.ndarray) else find_images(item).files
        return found

    def _init_model(self, cfg: Config, _: str, device: str = "cpu") -> nn.Module:
        with explain_build_errors(cfg):
            model = MODELS.build(without_pretrained(cfg.model))
        weights = inference_weights(self._checkpoint)
        load_weights(model, weights, strict=True, source=self._source)
        model.cfg = cfg
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Compose:
        try:
            pipeline = cfg.test_dataloader.dataset.pipeline
        except AttributeError as error:
            raise ConfigError(
                f"{cfg.filename}: test_dataloader.dataset.pipeline is not set, inference needs it."
            ) from error
        with explain_build_errors(cfg):
            return Compose(pipeline)

    def _init_collate(self, cfg: Config) -> Callable:
        return pseudo_collate  # images of one batch may differ in size

    def _init_visualizer(self, cfg: Config) -> None:
        return None  # the task draws


def _why_not(error: Exception) -> str | None:
    """Returns why an image is not inspected; None for an error that is none of the image's."""
    if isinstance(error, DataError):
        return str(error).rstrip(".")
    if exhaustion_sentence(error) is not None:
        return "there is not enough memory to inspect it; cut it into smaller images"
    return None


def _require_device(device: str | None) -> None:
    """Raises if there is no such device; torch tells by an error of its own on first use."""
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split(". ")[0]
        raise ConfigError(
            f"device {device!r} cannot be used: {reason}. Give cpu, cuda or cuda:1; by default it "
            "is the best there is."
        ) from error
