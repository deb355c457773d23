"""The segmentation model: any image size, large images by tiles, one forward for every use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder as BaseEncoderDecoder
from mmseg.models import SegDataPreProcessor
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from aicore.engine.outputs import mark_not_finite
from aicore.engine.preprocessing import SizesApart
from aicore.errors import ConfigError
from aicore.registry import MODELS
from aicore.runtime.tiling import tile_weight, windows

_TILES_AT_ONCE = 8


@MODELS.register_module()
class SegmentationPreprocessor(SizesApart, SegDataPreProcessor):
    """mmseg's, for test images of different sizes too, which it leaves apart.

    See :class:`mmseg.models.SegDataPreProcessor` for the arguments.
    """


@MODELS.register_module()
class EncoderDecoder(BaseEncoderDecoder):
    """mmseg's ``EncoderDecoder`` for images of any size, with one way from image to logits.

    What it adds:

    - Images are padded to the encoder's stride at the bottom and the right, and the logits cut
      back, in training, test and export alike.
    - A prediction depends on its image alone: images of different sizes in a batch are never
      padded to each other's.
    - Large images are judged tile by tile with ``test_cfg = dict(mode='slide', crop_size=(h, w),
      stride=(h, w))``, several tiles at a time, weighted towards each tile's middle.
    - Heads whose config leaves ``in_channels`` out get them from the encoder: all of them for a
      head over all levels, else those of the head's ``in_index``.

    Args:
        backbone: Config of the encoder, with ``out_channels``, a list, and ``stride``, the largest
            stride of its feature maps: :class:`aicore.backbones.TimmBackbone`.
        decode_head: Config of the head.
        auxiliary_head: Config, or list of such, of heads that serve the training only.
        test_cfg: ``dict(mode='whole')`` or as above.
        **kwargs: Further arguments of mmseg's ``EncoderDecoder``.

    Raises:
        ConfigError: ``test_cfg`` is none of these.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        auxiliary_head: dict | list[dict] | None = None,
        test_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        test_cfg = test_cfg or dict(mode="whole")
        _check_test_cfg(test_cfg)
        super().__init__(
            backbone, decode_head, auxiliary_head=auxiliary_head, test_cfg=test_cfg, **kwargs
        )

    def _init_decode_head(self, decode_head: dict) -> None:
        super()._init_decode_head(_with_channels(decode_head, self.backbone.out_channels))

    def _init_auxiliary_head(self, auxiliary_head: dict | list[dict] | None) -> None:
        super()._init_auxiliary_head(_with_channels(auxiliary_head, self.backbone.out_channels))

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Returns the losses by their names.

        Args:
            inputs: N x C x H x W.
            data_samples: One with ``gt_sem_seg`` for each image.
        """
        below, beside = self._padding(*inputs.shape[2:])
        if below or beside:
            data_samples = [
                _pad_label(sample, below, beside, self.decode_head.ignore_index)
                for sample in data_samples
            ]
        return super().loss(self._pad(inputs), data_samples)

    def predict(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Returns the data samples with ``seg_logits`` and ``pred_sem_seg`` in the original size.

        Args:
            inputs: N x C x H x W; or a list of C x H x W of different sizes.
            data_samples: One with ``ori_shape`` for each image; without them the predictions have
                the size of the inputs.
        """
        predicted: list[SegDataSample] = [SegDataSample()] * len(inputs)
        for indices in _of_one_size(inputs):
            group = data_samples and [data_samples[index] for index in indices]
            logits = self._forward(torch.stack([inputs[index] for index in indices]))
            samples = self.postprocess_result(logits, group)
            mark_not_finite(samples, logits)
            for index, sample in zip(indices, samples, strict=True):
                predicted[index] = sample
        return predicted

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        """Returns logits, N x K x H x W, of images N x C x H x W: what an export computes too."""
        if self.test_cfg["mode"] == "whole":
            return self._whole(inputs)
        return self._by_tiles(inputs, self.test_cfg["crop_size"], self.test_cfg["stride"])

    def _whole(self, inputs: Tensor) -> Tensor:
        height, width = inputs.shape[2:]
        padded = self._pad(inputs)
        logits = self.decode_head(self.extract_feat(padded))
        if logits.shape[2:] != padded.shape[2:]:
            logits = resize(
                logits, padded.shape[2:], mode="bilinear", align_corners=self.align_corners
            )
        return logits[:, :, :height, :width]

    def _by_tiles(self, inputs: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        height, width = inputs.shape[2:]
        places = windows(height, width, size, stride)
        high, wide = places[0].bottom - places[0].top, places[0].right - places[0].left
        overlap = max(0, size[0] - stride[0]), max(0, size[1] - stride[1])
        weight = torch.from_numpy(tile_weight((high, wide), overlap)).to(inputs.device)
        total = inputs.new_zeros(len(inputs), self.out_channels, height, width)
        weights = inputs.new_zeros(height, width)
        at_once = max(1, _TILES_AT_ONCE // len(inputs))
        for first in range(0, len(places), at_once):
            group = places[first : first + at_once]
            tiles = torch.cat([inputs[:, :, y:y2, x:x2] for y, x, y2, x2 in group])
            for logits, (y, x, y2, x2) in zip(
                self._whole(tiles).split(len(inputs)), group, strict=True
            ):
                total[:, :, y:y2, x:x2] += logits * weight
                weights[y:y2, x:x2] += weight
        return total / weights

    def _padding(self, height: int, width: int) -> tuple[int, int]:
        stride = self.backbone.stride
        return -height % stride, -width % stride

    def _pad(self, inputs: Tensor) -> Tensor:
        below, beside = self._padding(*inputs.shape[2:])
        return F.pad(inputs, (0, beside, 0, below))


def _check_test_cfg(test_cfg: dict) -> None:
    mode = test_cfg.get("mode")
    if mode == "whole":
        return
    sides = [*(test_cfg.get("crop_size") or ()), *(test_cfg.get("stride") or ())]
    if mode != "slide" or len(sides) != 4 or not all(type(s) is int and s > 0 for s in sides):
        raise ConfigError(
            f"model.test_cfg = {dict(test_cfg)!r}: expected dict(mode='whole') or dict(mode="
            "'slide', crop_size=(height, width), stride=(height, width)) in whole pixels."
        )
    if sides[2] > sides[0] or sides[3] > sides[1]:
        raise ConfigError(
            f"model.test_cfg.stride = {tuple(sides[2:])} is larger than crop_size = "
            f"{tuple(sides[:2])}: parts of the image would not be looked at."
        )


def _with_channels(head: Any, channels: list[int]) -> Any:
    """Returns a head's config, or a list of them, with the ``in_channels`` that it lacks."""
    if isinstance(head, list | tuple):
        return [_with_channels(item, channels) for item in head]
    if head is None or "in_channels" in head:
        return head
    index = head.get("in_index", -1)  # mmseg's default: the last level
    if getattr(MODELS.get(head["type"]), "takes_all_levels", False):
        chosen: Any = list(channels)
    else:
        chosen = channels[index] if isinstance(index, int) else [channels[i] for i in index]
    return {**head, "in_channels": chosen}


def _of_one_size(inputs: Tensor | Sequence[Tensor]) -> Iterator[list[int]]:
    """Yields the indices of the images of each size."""
    groups: dict[Any, list[int]] = {}
    for index, image in enumerate(inputs):
        groups.setdefault(image.shape, []).append(index)
    yield from groups.values()


def _pad_label(sample: SegDataSample, below: int, beside: int, ignore_index: int) -> SegDataSample:
    label = F.pad(sample.gt_sem_seg.data, (0, beside, 0, below), value=ignore_index)
    return SegDataSample(metainfo=sample.metainfo, gt_sem_seg=PixelData(data=label))
