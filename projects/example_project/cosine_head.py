"""A classification head that compares directions instead of lengths."""

from __future__ import annotations

import torch
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from aicore.registry import MODELS


@MODELS.register_module()
class CosineHead(ClsHead):
    """Scores each class by the cosine between the feature and the class's own direction.

    Useful where a class has few images: a class cannot win by the length of its weights.
    Source: Gidaris and Komodakis, Dynamic Few-Shot Visual Learning without Forgetting, CVPR 2018.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the feature vector.
        scale: Factor on the cosine; the softmax of values in [-1, 1] alone is too flat.
        **kwargs: Further arguments of mmpretrain's ``ClsHead``, e.g. ``loss``.
    """

    def __init__(
        self, num_classes: int, in_channels: int, scale: float = 16.0, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.directions = nn.Parameter(torch.randn(num_classes, in_channels) * 0.01)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Returns logits, N x C, of the last feature vectors, N x ``in_channels``."""
        features = F.normalize(self.pre_logits(feats))
        return self.scale * features @ F.normalize(self.directions).T
