"""Checkpoints of segmentation_models.pytorch, in aicore's key names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RENAMED = (
    (r"^encoder\.(model\.)?", "backbone.model."),
    (r"^decoder\.", "decode_head."),
    (r"^segmentation_head\.0\.", "decode_head.conv_seg."),
    (r"(\.conv[12])\.0\.", r"\1.conv."),
    (r"(\.conv[12])\.1\.", r"\1.bn."),
)
_OWN = re.compile(r"^(.*?)(?=(?:encoder|decoder|segmentation_head)\.)")


def from_smp(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of an ``Unet`` or ``UnetPlusPlus`` of smp in aicore's key names.

    Its encoders of torchvision's layout (``resnet18`` ...) and of timm's (``tu-...``) are those of
    :class:`aicore.backbones.TimmBackbone`. Its own EfficientNets (``efficientnet-b0``,
    ``timm-efficientnet-b0``) hand on other features, so their weights do not fit. A prefix of all
    keys (``model.`` of Lightning) is left out, and so is all that is neither encoder, nor decoder,
    nor segmentation head.

    Args:
        weights: By smp's key names.
    """
    renamed = {}
    for key, weight in weights.items():
        found = _OWN.match(key)
        if not found:
            continue
        key = key[found.end() :]
        is_decoder = key.startswith("decoder.")
        for pattern, replacement in _RENAMED if is_decoder else _RENAMED[:3]:
            key = re.sub(pattern, replacement, key)
        renamed[key] = weight
    return renamed
