"""Checkpoints of YOLOX's authors, in aicore's key names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RENAMED = (
    (r"^backbone\.backbone\.stem\.", "backbone.stem."),
    *((rf"^backbone\.backbone\.dark{i}\.", f"backbone.stage{i - 1}.") for i in range(2, 6)),
    (r"^backbone\.lateral_conv0\.", "neck.reduce_layers.0."),
    (r"^backbone\.reduce_conv1\.", "neck.reduce_layers.1."),
    (r"^backbone\.C3_p4\.", "neck.top_down_blocks.0."),
    (r"^backbone\.C3_p3\.", "neck.top_down_blocks.1."),
    (r"^backbone\.bu_conv2\.", "neck.downsamples.0."),
    (r"^backbone\.bu_conv1\.", "neck.downsamples.1."),
    (r"^backbone\.C3_n3\.", "neck.bottom_up_blocks.0."),
    (r"^backbone\.C3_n4\.", "neck.bottom_up_blocks.1."),
    (r"^head\.stems\.", "neck.out_convs."),
    (r"^head\.(cls|reg)_convs\.", r"bbox_head.multi_level_\1_convs."),
    (r"^head\.(cls|reg|obj)_preds\.", r"bbox_head.multi_level_conv_\1."),
    (r"\.dconv\.", ".depthwise_conv."),
    (r"\.pconv\.", ".pointwise_conv."),
)
# Of a block with a shortcut. The bottlenecks in it, and the pooling that ``dark5.1`` is, have
# convolutions of the same names, which mmdet kept.
_BLOCK = re.compile(r"^(backbone\.backbone\.dark(?:[234]\.1|5\.2)|backbone\.C3_\w\d)\.(conv\d|m)\.")
_IN_BLOCK = {"conv1": "main_conv", "conv2": "short_conv", "conv3": "final_conv", "m": "blocks"}


def from_yolox(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of an official YOLOX checkpoint in aicore's and mmdet's key names.

    All sizes are known, nano with its depthwise convolutions included. A prefix ``module.`` of all
    keys is left out. Keys that are none of YOLOX's stay as they are.

    Args:
        weights: By the authors' key names: ``backbone.backbone.stem.conv.conv.weight`` ...
    """
    renamed = {}
    for key, weight in weights.items():
        key = key.removeprefix("module.")
        key = _BLOCK.sub(lambda found: f"{found[1]}.{_IN_BLOCK[found[2]]}.", key)
        for pattern, replacement in _RENAMED:
            key = re.sub(pattern, replacement, key)
        renamed[key] = weight
    return renamed
