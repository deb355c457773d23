"""Decode heads over all feature levels of an encoder: UNet, UNet++; and DeepLabV3+'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import DepthwiseSeparableASPPHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from aicore.errors import ConfigError
from aicore.registry import MODELS

# mmseg begins with weights of 0.01, and the first hundreds of steps are spent on their growth.
_CLASSIFIER_INIT = dict(type="Xavier", distribution="uniform", override=dict(name="conv_seg"))


class DecoderBlock(nn.Module):
    """Doubles the size of a feature map, joins it with skip features, and convolves twice.

    Args:
        in_channels: Channels of the feature map.
        skip_channels: Channels of the skip features in all; 0 where there are none.
        out_channels: Channels of the result.
        norm_cfg: Normalisation of both convolutions.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(
            in_channels + skip_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg
        )
        self.conv2 = ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg)

    def forward(self, features: Tensor, *skips: Tensor) -> Tensor:
        """Returns N x ``out_channels`` x 2h x 2w, or the size of the skip features.

        Args:
            features: N x ``in_channels`` x h x w.
            *skips: Each N x C x 2h x 2w, one pixel less where the encoder rounded up.
        """
        size = skips[0].shape[2:] if skips else [2 * side for side in features.shape[2:]]
        features = F.interpolate(features, size=size, mode="nearest")
        if skips:
            features = torch.cat([features, *skips], dim=1)
        return self.conv2(self.conv1(features))


class SkipDecodeHead(BaseDecodeHead):
    """What UNet and UNet++ share: inputs, classifier, deep supervision, losses.

    It works in mmseg's ``EncoderDecoder`` and in :class:`aicore.segmentation.EncoderDecoder`,
    which tells it the encoder's channels.

    Args:
        in_channels: Channels of all feature maps, that of the lowest stride first; each stride is
            twice the one before.
        num_classes: Number of classes.
        decoder_channels: Channels after each doubling, deepest first. Those beyond the number of
            skip levels double without a skip; with the default five an encoder of stride 32 ends
            at the size of the image.
        deep_supervision: Weight of the losses of the auxiliary outputs, one for each intermediate
            resolution (UNet) or depth (UNet++); 0 for none. They serve the training only.
        norm_cfg: Normalisation of the convolutions.
        dropout_ratio: Share of the channels dropped before the classifier in training.
        **kwargs: Further arguments of mmseg's ``BaseDecodeHead``, e.g. ``loss_decode``.

    Raises:
        ConfigError: There are fewer ``decoder_channels`` than skip levels.
    """

    takes_all_levels = True
    """Whether ``in_channels`` are those of all feature maps."""

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        deep_supervision: float = 0.0,
        norm_cfg: dict | None = None,
        dropout_ratio: float = 0.0,
        **kwargs: Any,
    ) -> None:
        in_channels, decoder_channels = list(in_channels), list(decoder_channels)
        if len(decoder_channels) < len(in_channels) - 1:
            raise ConfigError(
                f"{type(self).__name__}.decoder_channels has {len(decoder_channels)} values for "
                f"{len(in_channels)} feature levels: give at least {len(in_channels) - 1}."
            )
        super().__init__(
            in_channels,
            decoder_channels[-1],
            num_classes=num_classes,
            out_channels=num_classes,
            in_index=list(range(len(in_channels))),
            input_transform="multiple_select",
            norm_cfg=norm_cfg or dict(type="BN"),
            dropout_ratio=dropout_ratio,
            **{"init_cfg": _CLASSIFIER_INIT, **kwargs},
        )
        self.deep_supervision = deep_supervision
        self.conv_seg = nn.Conv2d(self.channels, num_classes, 3, padding=1)
        auxiliary_channels = self._build_blocks(in_channels[::-1], decoder_channels)
        self.auxiliary = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 1)
            for channels in (auxiliary_channels if deep_supervision else ())
        )

    def _build_blocks(self, encoder_channels: list[int], decoder_channels: list[int]) -> list[int]:
        """Builds the decoder; returns the channels of the maps for auxiliary outputs."""
        raise NotImplementedError

    def decode(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Returns the map that is classified, and those for auxiliary outputs.

        Args:
            features: The encoder's maps, deepest first.
        """
        raise NotImplementedError

    def forward(
        self, inputs: Sequence[Tensor], auxiliary: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Returns logits, N x ``num_classes`` x H x W, H and W being twice the first map's.

        Args:
            inputs: Feature maps, lowest stride first.
            auxiliary: Whether to return the auxiliary outputs' logits too, in their own sizes.
        """
        decoded, others = self.decode(self._transform_inputs(inputs)[::-1])
        logits = self.cls_seg(decoded)
        if not auxiliary:
            return logits
        return logits, [conv(x) for conv, x in zip(self.auxiliary, others, strict=False)]

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: list[SegDataSample], train_cfg: Any
    ) -> dict[str, Tensor]:
        """Returns the losses by their names; those of auxiliary outputs with ``_aux`` at the end.

        Args:
            inputs: Feature maps, lowest stride first.
            batch_data_samples: One with ``gt_sem_seg`` for each image.
            train_cfg: Not used.
        """
        # Not self.forward: the call is what torch.compile has compiled.
        logits, auxiliary = self(inputs, auxiliary=True)
        losses = self.loss_by_feat(logits, batch_data_samples)
        for output in auxiliary:
            for name, value in self.loss_by_feat(output, batch_data_samples).items():
                share = value * self.deep_supervision / len(auxiliary)
                losses[f"{name}_aux"] = losses.get(f"{name}_aux", 0) + share
        return losses

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """Returns the losses by their names; equal names are added up.

        mmseg's also ranks all classes at each pixel for an accuracy in the log, which takes longer
        than the losses do.

        Args:
            seg_logits: N x ``num_classes`` x h x w.
            batch_data_samples: One with ``gt_sem_seg`` for each image.
        """
        label = self._stack_batch_gt(batch_data_samples).squeeze(1)
        if seg_logits.shape[2:] != label.shape[1:]:
            seg_logits = resize(
                seg_logits, label.shape[1:], mode="bilinear", align_corners=self.align_corners
            )
        is_list = isinstance(self.loss_decode, nn.ModuleList)
        losses: dict[str, Tensor] = {}
        for loss in self.loss_decode if is_list else [self.loss_decode]:
            value = loss(seg_logits, label, ignore_index=self.ignore_index)
            losses[loss.loss_name] = losses.get(loss.loss_name, 0) + value
        return losses


@MODELS.register_module()
class UNetHead(SkipDecodeHead):
    """UNet's decoder: from the deepest features upwards, joined with the encoder's at each level.

    It computes what the UNet of segmentation_models.pytorch does, whose checkpoints
    ``tools/misc/convert_weights.py`` reads.
    Source: Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation,
    MICCAI 2015.

    See :class:`SkipDecodeHead` for the arguments.
    """

    def _build_blocks(self, encoder_channels: list[int], decoder_channels: list[int]) -> list[int]:
        deepest, *skips = encoder_channels
        skips += [0] * (len(decoder_channels) - len(skips))
        inputs = [deepest, *decoder_channels[:-1]]
        self.blocks = nn.ModuleList(
            DecoderBlock(*channels, norm_cfg=self.norm_cfg)
            for channels in zip(inputs, skips, decoder_channels, strict=True)
        )
        return decoder_channels[:-1]

    def decode(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See :meth:`SkipDecodeHead.decode`; the auxiliary maps are those before the last."""
        x, *skips = features
        decoded = []
        for level, block in enumerate(self.blocks):
            x = block(x, *skips[level : level + 1])
            decoded.append(x)
        return x, decoded[:-1]


@MODELS.register_module()
class UNetPlusPlusHead(SkipDecodeHead):
    """UNet++'s decoder: UNets of every depth, nested, each joined with all shallower ones.

    Block ``x_d_k`` starts from the d-th feature map (0: the deepest) and lies at the resolution of
    the (k+1)-th. With deep supervision every depth is classified in training; the prediction is
    that of the deepest.

    It computes what the UNet++ of segmentation_models.pytorch does, whose checkpoints
    ``tools/misc/convert_weights.py`` reads.
    Source: Zhou et al., UNet++: A Nested U-Net Architecture for Medical Image Segmentation,
    DLMIA 2018.

    See :class:`SkipDecodeHead` for the arguments.
    """

    def _build_blocks(self, encoder_channels: list[int], decoder_channels: list[int]) -> list[int]:
        deepest, *skips = encoder_channels
        self.levels, self.doublings = len(skips), len(decoder_channels)
        inputs = [deepest, *decoder_channels[:-1]]
        self.blocks = nn.ModuleDict()
        for level, skip in enumerate(skips):
            # The main branch has the decoder's channels, the others those of their level.
            self.blocks[f"x_0_{level}"] = DecoderBlock(
                inputs[level], skip * (level + 1), decoder_channels[level], self.norm_cfg
            )
            for depth in range(1, level + 1):
                self.blocks[f"x_{depth}_{level}"] = DecoderBlock(
                    skips[level - 1], skip * (level + 1 - depth), skip, self.norm_cfg
                )
        for level in range(self.levels, self.doublings):
            self.blocks[f"x_0_{level}"] = DecoderBlock(
                inputs[level], 0, decoder_channels[level], self.norm_cfg
            )
        return [skips[-1]] * (len(skips) - 1)

    def decode(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See :meth:`SkipDecodeHead.decode`; the auxiliary maps are those of smaller depths."""
        branches = features[: self.levels]  # each at the resolution that it has reached
        for level in range(self.levels):
            # From the shallowest branch on: a deeper one takes in all shallower ones.
            shallower = [features[level + 1]]
            for depth in range(level, -1, -1):
                branches[depth] = self.blocks[f"x_{depth}_{level}"](branches[depth], *shallower)
                shallower.insert(0, branches[depth])
        x = branches[0]
        for level in range(self.levels, self.doublings):
            x = self.blocks[f"x_0_{level}"](x)
        return x, branches[1:]


@MODELS.register_module()
class DeepLabV3PlusHead(DepthwiseSeparableASPPHead):
    """mmseg's head of DeepLabV3+, which takes its channels from the encoder's list.

    Args:
        in_channels: Channels of all feature maps, that of the lowest stride first.
        low_level: Index of the feature map that sharpens the result; its stride is 4.
        **kwargs: Further arguments of mmseg's ``DepthwiseSeparableASPPHead``.
    """

    takes_all_levels = True

    def __init__(self, in_channels: Sequence[int], low_level: int = 1, **kwargs: Any) -> None:
        super().__init__(
            in_channels=in_channels[-1], c1_in_channels=in_channels[low_level], **kwargs
        )
        self.low_level = low_level

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns logits, N x ``num_classes`` x H/4 x W/4, of the encoder's feature maps."""
        return super().forward([inputs[self.low_level], inputs[-1]])
