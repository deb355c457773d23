"""The detector: images of any size, large ones by tiles, one forward for every use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmdet.models import YOLOX as BaseYOLOX  # noqa: N811
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from aicore.detection.models.boxes import best_classes, join_tiles, suppress, to_original
from aicore.engine.outputs import mark_not_finite
from aicore.engine.preprocessing import SizesApart
from aicore.errors import ConfigError
from aicore.registry import MODELS
from aicore.runtime.tiling import windows

# Pixels. A network that has hardly been trained may give a size whose exponential is infinite: a
# box like any other, which ends at the image's edges. What is NaN stays NaN.
_FAR = 1e6
_TILES_AT_ONCE = 8
_GREY = 114  # what YOLOX pads images with
_TEST_CFG = dict(mode="whole", score_threshold=0.01, iou_threshold=0.65, max_per_img=300)


@MODELS.register_module()
class DetectionPreprocessor(SizesApart, DetDataPreprocessor):
    """mmdet's, which leaves test images of different sizes apart.

    See :class:`mmdet.models.DetDataPreprocessor` for the arguments.
    """


@MODELS.register_module()
class YOLOX(BaseYOLOX):
    """YOLOX for images of any size, with one way from image to boxes and scores.

    What it adds to mmdet's:

    - Images are padded to the largest stride at the bottom and the right, in training, test and
      export alike.
    - ``forward(images)`` returns decoded boxes and scores; a prediction takes just those, and so
      does what is exported.
    - Large images are judged tile by tile with ``test_cfg = dict(mode='tiles', size=(h, w),
      stride=(h, w))``, several tiles at a time; see :func:`~.boxes.join_tiles`. The overlap,
      ``size - stride``, has to be as large as the largest object.

    Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021.

    Args:
        backbone: Config of the backbone.
        neck: Config of the neck.
        bbox_head: Config of the head, an :class:`aicore.YOLOXHead`.
        train_cfg: ``dict(assigner=...)``; by default :class:`aicore.SimOTAAssigner`.
        test_cfg: ``mode='whole'`` or as above; ``score_threshold``, the least score of an object;
            ``iou_threshold``, the overlap from which of two boxes of one class the better one
            alone is kept; ``max_per_img``, the most objects in an image. What is left out is
            0.01, 0.65 and 300.
        **kwargs: Further arguments of mmdet's ``YOLOX``.

    Raises:
        ConfigError: ``test_cfg`` is none of these.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        bbox_head: dict,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        test_cfg = ConfigDict({**_TEST_CFG, **(test_cfg or {})})
        _check_test_cfg(test_cfg)
        super().__init__(
            backbone,
            neck,
            ConfigDict(bbox_head),  # a copy, for mmdet adds to it
            train_cfg=ConfigDict(train_cfg or {"assigner": {"type": "aicore.SimOTAAssigner"}}),
            test_cfg=test_cfg,
            **kwargs,
        )

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the neck's feature maps, N x C x h x w each, of images N x C x H x W."""
        stride = max(self.bbox_head.strides)
        below, beside = (-side % stride for side in batch_inputs.shape[2:])
        return super().extract_feat(F.pad(batch_inputs, (0, beside, 0, below), value=_GREY))

    def predict(
        self, batch_inputs: Tensor | Sequence[Tensor], batch_data_samples: Any = None
    ) -> list[DetDataSample]:
        """Returns the data samples with ``pred_instances`` in the original images' pixels.

        As in the authors' code a box has one class, that of its best score. ``bboxes`` (n, 4),
        x1 y1 x2 y2, ``scores`` and ``labels`` are sorted by score; boxes end at the image's edges.

        Args:
            batch_inputs: N x C x H x W; or a list of C x H x W of different sizes.
            batch_data_samples: One with ``ori_shape`` and ``scale_factor`` for each image; without
                these the predictions are in pixels of the inputs.
        """
        samples = batch_data_samples or [DetDataSample() for _ in batch_inputs]
        for indices in _of_one_size(batch_inputs):
            images = torch.stack([batch_inputs[index] for index in indices])
            objects, raw = self._find(images)
            mark_not_finite([samples[index] for index in indices], raw)
            for index, found in zip(indices, objects, strict=True):
                sample = samples[index]
                sample.pred_instances = to_original(
                    found,
                    sample.get("scale_factor", (1.0, 1.0)),
                    tuple(sample.get("ori_shape", images.shape[2:])[:2]),
                )
        return samples

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Any = None) -> Tensor:
        """Returns N x P x (4 + C) of images N x C x H x W: what an export computes too.

        Boxes x1, y1, x2, y2 in pixels of the input, then a score in [0, 1] for each class. With
        ``mode='tiles'`` it is what is computed of each tile.
        """
        return self.bbox_head.decode(*self.bbox_head(self.extract_feat(batch_inputs)))

    def _find(self, images: Tensor) -> tuple[list[InstanceData], Tensor]:
        """Returns the objects of each of N x C x H x W, in pixels of the input.

        Returns:
            The objects, and N x ... of which an image's is finite where its raw output is.
        """
        threshold, most = self.test_cfg.iou_threshold, self.test_cfg.max_per_img
        if self.test_cfg.mode == "tiles":
            found, raw = self._find_by_tiles(images)
        else:
            outputs = self._forward(images)
            found = [self._best_classes(output) for output in outputs]
            raw = outputs.clamp(-_FAR, _FAR)
        return [suppress(objects, threshold, most) for objects in found], raw

    def _find_by_tiles(self, images: Tensor) -> tuple[list[InstanceData], Tensor]:
        height, width = images.shape[2:]
        tiles = windows(height, width, self.test_cfg.size, self.test_cfg.stride)
        found: list[list[InstanceData]] = [[] for _ in images]
        at_once = max(1, _TILES_AT_ONCE // len(images))
        total = images.new_zeros(len(images))  # of all tiles: NaN stays what it is
        for first in range(0, len(tiles), at_once):
            group = tiles[first : first + at_once]
            outputs = self._forward(torch.cat([images[:, :, y:y2, x:x2] for y, x, y2, x2 in group]))
            for tile, output in zip(group, outputs.split(len(images)), strict=True):
                total += output.clamp(-_FAR, _FAR).flatten(1).abs().amax(dim=1)
                corner = output.new_tensor([tile.left, tile.top, tile.left, tile.top])
                for objects, one in zip(found, output, strict=True):
                    new = suppress(
                        self._best_classes(one),
                        self.test_cfg.iou_threshold,
                        self.test_cfg.max_per_img,
                    )
                    new.bboxes = new.bboxes + corner
                    objects.append(new)
        return [join_tiles(objects, tiles, (height, width)) for objects in found], total

    def _best_classes(self, output: Tensor) -> InstanceData:
        return best_classes(output, self.test_cfg.score_threshold)


def _check_test_cfg(test_cfg: dict) -> None:
    for name in ("score_threshold", "iou_threshold"):
        value = test_cfg[name]
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ConfigError(f"model.test_cfg.{name} = {value!r}: expected a number from 0 to 1.")
    most = test_cfg["max_per_img"]
    if type(most) is not int or most < 1:
        raise ConfigError(
            f"model.test_cfg.max_per_img = {most!r}: expected a whole number from 1 on."
        )
    mode = test_cfg["mode"]
    if mode == "whole":
        return
    sides = [*(test_cfg.get("size") or ()), *(test_cfg.get("stride") or ())]
    if mode != "tiles" or len(sides) != 4 or not all(type(s) is int and s > 0 for s in sides):
        raise ConfigError(
            f"model.test_cfg = {dict(test_cfg)!r}: expected dict(mode='whole') or dict(mode="
            "'tiles', size=(height, width), stride=(height, width)) in whole pixels."
        )
    if sides[2] > sides[0] or sides[3] > sides[1]:
        raise ConfigError(
            f"model.test_cfg.stride = {tuple(sides[2:])} is larger than size = "
            f"{tuple(sides[:2])}: parts of the image would not be looked at."
        )


def _of_one_size(inputs: Tensor | Sequence[Tensor]) -> Iterator[list[int]]:
    """Yields the indices of the images of each size."""
    groups: dict[Any, list[int]] = {}
    for index, image in enumerate(inputs):
        groups.setdefault(image.shape, []).append(index)
    yield from groups.values()
