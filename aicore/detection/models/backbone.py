"""CSPDarknet for grey and for colour images."""

from __future__ import annotations

from typing import Any

from mmdet.models import CSPDarknet as BaseCSPDarknet
from mmdet.models.backbones.csp_darknet import Focus
from torch import Tensor

from aicore.registry import MODELS

_PATCHES = 4  # neighbouring pixels that the stem stacks


class Stem(Focus):
    """mmdet's stem, which takes the weights of a stem of more colours.

    See :class:`mmdet.models.backbones.csp_darknet.Focus` for the arguments.
    """

    def adapt_weights(self, weights: dict[str, Tensor], prefix: str) -> None:
        """Sums a checkpoint's weights over the colours where this stem has a single one.

        A grey image then gives the features that it gave as a colour image of three equal
        channels.

        Args:
            weights: A checkpoint's, by key; changed in place.
            prefix: Of this stem's keys.
        """
        key = f"{prefix}conv.conv.weight"
        inputs = self.conv.in_channels
        weight = weights.get(key)
        if not isinstance(weight, Tensor) or weight.ndim != 4:
            return
        if inputs == _PATCHES and weight.shape[1] == 3 * _PATCHES:
            weights[key] = weight.unflatten(1, (_PATCHES, 3)).sum(2)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        self.adapt_weights(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module()
class CSPDarknet(BaseCSPDarknet):
    """mmdet's ``CSPDarknet`` for images of one or three channels.

    The weights of three channels fit a network of one, however they are loaded: those of the stem
    are summed over the colours.

    Args:
        in_channels: Channels of the images, 1 or 3.
        **kwargs: Further arguments of mmdet's ``CSPDarknet``.
    """

    def __init__(self, in_channels: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        conv = self.stem.conv
        self.stem = Stem(
            in_channels,
            conv.out_channels,
            kernel_size=conv.kernel_size[0],
            conv_cfg=conv.conv_cfg,
            norm_cfg=conv.norm_cfg,
            act_cfg=conv.act_cfg,
        )

    def train(self, mode: bool = True) -> CSPDarknet:
        """Sets the mode and returns the network, as every module does but mmdet's."""
        super().train(mode)
        return self
