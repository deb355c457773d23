"""Losses that several tasks share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from aicore.registry import MODELS

_TINY = 1e-7


@MODELS.register_module()
class SoftmaxFocalLoss(nn.Module):
    """Focal loss over softmax scores: easy examples count less.

    ``-w_c * (1 - p_c)^gamma * log p_c`` for the true class c, averaged over all examples (images,
    or pixels that are not ignored); with soft targets (mixup) the sum over the classes weighted by
    the target. Unlike the sigmoid ``FocalLoss`` of mmpretrain and mmseg it trains the softmax
    scores that the models predict with.
    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.

    Args:
        gamma: How strongly easy examples are played down; 0 is cross entropy.
        class_weight: One weight per class, or None.
        loss_weight: Factor on the result.
        loss_name: Under which name mmseg's heads log it.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        class_weight: list[float] | None = None,
        loss_weight: float = 1.0,
        loss_name: str = "loss_focal",
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.loss_weight = loss_weight
        self.class_weight = class_weight
        self.loss_name = loss_name

    def forward(
        self, cls_score: Tensor, label: Tensor, ignore_index: int = -100, **kwargs: Any
    ) -> Tensor:
        """Returns the loss, a scalar; 0 where every label is ignored.

        Args:
            cls_score: Logits, N x C x ....
            label: Class indices, N x ..., or soft targets in the shape of the logits.
            ignore_index: The index that does not count.
            **kwargs: Ignored, as heads of the host libraries pass ``avg_factor`` and ``weight``.
        """
        log_p = F.log_softmax(cls_score.float(), dim=1)
        if label.shape == cls_score.shape:
            weighted = label * self._modulated(log_p)
            return self.loss_weight * weighted.sum(dim=1).mean()
        counted = label != ignore_index
        index = label.where(counted, 0)[:, None]
        loss = self._modulated(log_p).gather(1, index)[:, 0] * counted
        return self.loss_weight * loss.sum() / counted.sum().clamp(min=1)

    def _modulated(self, log_p: Tensor) -> Tensor:
        """Returns the loss of each class if it were the true one, in the shape of ``log_p``."""
        # At 0 the power has no finite gradient where gamma is below 1.
        loss = -((1 - log_p.exp()).clamp(min=_TINY) ** self.gamma) * log_p
        if self.class_weight is None:
            return loss
        weight = torch.as_tensor(self.class_weight, device=loss.device, dtype=loss.dtype)
        return loss * weight.view(-1, *[1] * (loss.ndim - 2))
