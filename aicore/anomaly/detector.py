"""The anomaly detection model: what MMEngine's loops need around a method."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.logging import print_log
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.structures import PixelData
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from aicore.anomaly.padim import PaDiM
from aicore.anomaly.statistics import GaussianStatistics
from aicore.engine.distributed import broadcast_object
from aicore.engine.fitting import FitWrapper
from aicore.engine.outputs import mark_not_finite
from aicore.engine.preprocessing import SizesApart
from aicore.errors import ConfigError, DataError
from aicore.registry import MODELS
from aicore.runtime.tiling import Window, tile_weight, windows
from aicore.structures import AnomalyDataSample

_IMAGES_AT_ONCE = 8
_TILES_AT_ONCE = 16


@MODELS.register_module()
class AnomalyPreprocessor(SizesApart, ImgDataPreprocessor):
    """MMEngine's, for images of different sizes too, which it leaves apart.

    See :class:`mmengine.model.ImgDataPreprocessor` for the arguments.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """As the base classes; images of one size go to the device and are normalised together."""
        images = data["inputs"]
        if len({image.shape for image in images}) != 1:
            return super().forward(data, training)
        data = self.cast_data({**data, "inputs": torch.stack(list(images))})
        pixels = data["inputs"]
        if self._channel_conversion:
            pixels = pixels[:, [2, 1, 0]]
        return {**data, "inputs": pixels.float().sub_(self.mean).div_(self.std)}


@MODELS.register_module()
class AnomalyDetector(BaseModel):
    """A PaDiM that is fitted by a :class:`aicore.engine.FitLoop`, and judges by a threshold.

    An image is NG if its distance is at or above the threshold t. Its NG score, d²/(d² + t²), says
    the same between 0 and 1: 0.5 at the threshold, and never at its end, however large d.

    Args:
        backbone: Config of a backbone, such as :class:`aicore.backbones.TimmBackbone`.
        method: Config of :class:`aicore.anomaly.padim.PaDiM`, without the backbone.
        regularisation: Added to the variances, so that covariances of few images can be inverted.
        tile_overlap: None: images come in the method's ``image_size``. A share in [0, 1): images
            come as they are and are fitted and judged by tiles of that size, which share one set of
            statistics and overlap their neighbours by that much.
        data_preprocessor: Config of the preprocessor.

    Raises:
        ConfigError: An argument is outside its values.
    """

    def __init__(
        self,
        backbone: dict,
        method: dict,
        regularisation: float = 0.01,
        tile_overlap: float | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        if not regularisation > 0:
            raise ConfigError(
                f"AnomalyDetector.regularisation = {regularisation!r}: expected a number above 0."
            )
        if tile_overlap is not None and not 0 <= tile_overlap < 1:
            raise ConfigError(
                f"AnomalyDetector.tile_overlap = {tile_overlap!r}: expected a share in [0, 1)."
            )
        self.method: PaDiM = MODELS.build({**method, "backbone": MODELS.build(backbone)})
        self.learner = GaussianStatistics()
        self._pretrained = bool(backbone.get("pretrained"))
        self.regularisation = regularisation
        self.tile_overlap = tile_overlap
        self.register_buffer("threshold", torch.tensor(math.nan))

    def init_weights(self) -> None:
        """Keeps the weights: MMEngine would have timm draw new ones over the pretrained."""

    def set_threshold(self, distance: float) -> None:
        """Sets the distance from which an image is NG; NaN for none."""
        self.threshold.fill_(distance)

    # ---- fitting ----

    @torch.no_grad()
    def train_step(
        self, data: dict[str, Any], optim_wrapper: FitWrapper
    ) -> dict[str, float | Tensor]:
        """Adds a batch of good images to the statistics; those that could not be read are left out.

        Args:
            data: ``inputs``, a list of C x H x W, and ``data_samples``; both may be empty.
            optim_wrapper: Says what precision the features are computed in.

        Returns:
            ``images``, the number that this process has fitted so far.
        """
        readable = [s.get("not_inspected") is None for s in data["data_samples"]]
        data = {
            key: [item for item, good in zip(data[key], readable, strict=True) if good]
            for key in ("inputs", "data_samples")
        }
        if not data["inputs"]:
            positions, size = self.method.mean.shape
            self.learner.update(self.method.mean.new_zeros(0, positions, size))
        else:
            data = self.data_preprocessor(data)
            for images, roi in self._pieces(data["inputs"], data["data_samples"]):
                with optim_wrapper.optim_context(self):
                    embedding = self._embed(images)
                inside = None if roi is None else self.method.positions_inside(roi).flatten(1)
                self.learner.update(embedding, inside)
        return {"images": float(self.learner.images)}

    def finish_fit(self) -> None:
        """Turns the statistics, which the first process holds, into every process's Gaussians.

        Raises:
            DataError: There are none, or they are not finite.
        """
        if not self._pretrained:
            print_log(
                "pretrained = False: unless --load-from gave it weights, the backbone is random "
                "and sees little. Set pretrained to a file of timm's weights, or to True.",
                logger="current",
                level=logging.WARNING,
            )
        broadcast_object(
            lambda: self.method.set_gaussian(
                self.learner.count, self.learner.whitening(self.regularisation)
            )
        )
        for buffer in (
            self.method.count,
            self.method.mean,
            self.method.factor,
            self.method.half_error,
        ):
            broadcast(buffer)
        if self.method.factor.dtype == torch.float16:
            print_log(
                "The factors are kept in float16: distances differ from those in float32 by up to "
                f"{100 * float(self.method.half_error):.2g} %.",
                logger="current",
            )

    # ---- judging ----

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[AnomalyDataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Computes what ``mode`` says.

        Args:
            inputs: N x C x H x W, normalised; or a list of C x H x W of different sizes.
            data_samples: One for each image.
            mode: ``tensor``: scores and maps of the method, what an export computes; ``predict``:
                see :meth:`predict`.
        """
        if mode == "tensor":
            return self.method(inputs)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ConfigError(
            "AnomalyDetector has no loss: it is fitted in one pass. Set train_cfg = "
            "dict(type='aicore.FitLoop') and optim_wrapper = "
            "dict(constructor='aicore.FitConstructor')."
        )

    @torch.no_grad()
    def predict(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list[AnomalyDataSample]
    ) -> list[AnomalyDataSample]:
        """Returns the data samples with ``pred_score``, ``pred_ng_score`` and ``pred_map``.

        Args:
            inputs: N x C x H x W; or a list of C x H x W of different sizes.
            data_samples: One with ``ori_shape`` for each image.

        Raises:
            ConfigError: The model was not fitted.
        """
        if not self.method.is_fitted:
            raise ConfigError("the model was not fitted: train it, or load a checkpoint.")
        if self.tile_overlap is None:
            judged = list(zip(*self._whole(inputs, data_samples), strict=True))
        else:
            judged = [self._by_tiles(i, s) for i, s in zip(inputs, data_samples, strict=True)]
        mark_not_finite(data_samples, [score for score, _ in judged])
        for (score, distances), sample in zip(judged, data_samples, strict=True):
            sample.pred_score = score
            sample.pred_threshold = self.threshold.clone()
            sample.pred_ng_score = score**2 / (score**2 + self.threshold**2)
            sample.pred_map = PixelData(data=_to_original(distances, sample))
        return data_samples

    def _whole(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list[AnomalyDataSample]
    ) -> tuple[Tensor, Tensor]:
        ((images, roi),) = self._pieces(inputs, data_samples)
        return self.method.judge(self._embed(images), roi)

    def _embed(self, images: Tensor) -> Tensor:
        """Returns the embedding; by a few images, as the backbone's first maps are the largest."""
        parts = images.split(_IMAGES_AT_ONCE)
        return torch.cat([self.method.embed(part) for part in parts])

    def _by_tiles(self, image: Tensor, sample: AnomalyDataSample) -> tuple[Tensor, Tensor]:
        height, width = image.shape[1:]
        size, overlap = self.method.image_size, self._overlap()
        weight = torch.from_numpy(tile_weight(size, overlap)).to(image.device)
        total = weight.new_zeros(height, width)
        weights = weight.new_zeros(height, width)
        places = iter(self._windows(image, sample))
        for images, roi in self._pieces([image], [sample]):
            _, maps = self.method.judge(self._embed(images), roi)
            for tile, (top, left, bottom, right) in zip(maps, places):  # noqa: B905
                total[top:bottom, left:right] += tile * weight
                weights[top:bottom, left:right] += weight
        distances = total / weights
        return distances.max(), distances

    def _pieces(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list[AnomalyDataSample]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yields images in the method's size, or the tiles of images, with their ROI.

        Yields:
            N x C x H x W, and N x 1 x H x W float, 0 or 1; None where everything counts.
        """
        rois = [
            _roi_in_size(sample, image.shape[1:], image.device)
            for image, sample in zip(inputs, data_samples, strict=True)
        ]
        if self.tile_overlap is None:
            self._require_size(inputs, data_samples)
            images = inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))
            yield images, _stack_rois(rois, images)
            return
        for image, roi, sample in zip(inputs, rois, data_samples, strict=True):
            places = self._windows(image, sample)
            for first in range(0, len(places), _TILES_AT_ONCE):
                group = places[first : first + _TILES_AT_ONCE]
                tiles = torch.stack([image[:, y:y2, x:x2] for y, x, y2, x2 in group])
                parts = [None if roi is None else roi[:, y:y2, x:x2] for y, x, y2, x2 in group]
                yield tiles, _stack_rois(parts, tiles)

    def _overlap(self) -> tuple[int, int]:
        height, width = self.method.image_size
        return int(height * self.tile_overlap), int(width * self.tile_overlap)

    def _windows(self, image: Tensor, sample: AnomalyDataSample) -> list[Window]:
        height, width = self.method.image_size
        if image.shape[1] < height or image.shape[2] < width:
            raise DataError(
                f"{sample.get('img_path')} is {image.shape[2]} x {image.shape[1]} pixels (width x "
                f"height), smaller than a tile of {width} x {height}: set tile_size to a smaller "
                "one, or to None to judge whole images."
            )
        down, right = self._overlap()
        return windows(*image.shape[1:], (height, width), (height - down, width - right))

    def _require_size(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list[AnomalyDataSample]
    ) -> None:
        for image, sample in zip(inputs, data_samples, strict=True):
            if tuple(image.shape[1:]) != self.method.image_size:
                height, width = self.method.image_size
                raise ConfigError(
                    f"{sample.get('img_path')} comes as {image.shape[2]} x {image.shape[1]} pixels "
                    f"(width x height), the model takes {width} x {height}: the pipeline has to "
                    "resize to image_size."
                )


def _roi_in_size(
    sample: AnomalyDataSample, size: Sequence[int], device: torch.device
) -> Tensor | None:
    """Returns 1 x H x W float, 1 where half of a pixel's area or more counts; None for all."""
    if "roi" not in sample:
        return None
    roi = sample.roi.data.to(device).float()
    if tuple(roi.shape[1:]) != tuple(size):
        roi = F.interpolate(roi[None], size=tuple(size), mode="area")[0]
    return (roi >= 0.5).float()


def _stack_rois(rois: Sequence[Tensor | None], images: Tensor) -> Tensor | None:
    if all(roi is None for roi in rois):
        return None
    everything = images.new_ones(1, *images.shape[2:])
    return torch.stack([everything if roi is None else roi for roi in rois])


def _to_original(distances: Tensor, sample: AnomalyDataSample) -> Tensor:
    """Returns a map, H x W, as 1 x H x W in the size of the original image, 0 outside its ROI."""
    size = tuple(sample.get("ori_shape") or distances.shape)[:2]
    grown = distances[None]
    if tuple(distances.shape) != size:
        grown = F.interpolate(distances[None, None], size=size, mode="bilinear")[0]
    return grown * sample.roi.data.to(grown.device) if "roi" in sample else grown
