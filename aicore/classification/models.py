"""Classifiers and their losses."""

from __future__ import annotations

from typing import Any

import torch
from mmpretrain.models import TimmClassifier as BaseTimmClassifier
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from aicore.backbones import timm_weights
from aicore.errors import ConfigError
from aicore.registry import MODELS


@MODELS.register_module()
class TimmClassifier(BaseTimmClassifier):
    """Any timm model as a classifier; its checkpoints have timm's own key names.

    Args:
        model_name: timm's name, e.g. ``resnet18`` or ``resnet18.a1_in1k``.
        num_classes: Number of classes.
        pretrained: False, True (timm's weights), or a path; see
            :func:`aicore.backbones.timm_weights`.
        in_channels: Channels of the input, 1 or 3.
        loss: Config of the loss; ``class_weight`` holds one weight per class.
        train_cfg: ``dict(augments=[dict(type='Mixup', alpha=0.2), ...])`` for batch augmentation.
        data_preprocessor: Config of mmpretrain's ``ClsDataPreprocessor``.
        **kwargs: Further arguments of :func:`timm.create_model`, e.g. ``drop_rate``.

    Raises:
        ConfigError: ``class_weight`` does not hold one weight per class.
    """

    def __init__(
        self,
        model_name: str,
        num_classes: int,
        pretrained: bool | str = False,
        in_channels: int = 3,
        loss: dict | None = None,
        train_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        **kwargs: Any,
    ) -> None:
        _check_class_weight(loss or {}, num_classes)
        if not (train_cfg or {}).get("augments"):
            train_cfg = None  # mmpretrain draws from the list, which has to hold something
        with timm_weights(model_name, pretrained, num_classes) as weights:
            super().__init__(
                model_name=model_name,
                num_classes=num_classes,
                in_chans=in_channels,
                loss=loss or dict(type="mmpretrain.CrossEntropyLoss"),
                train_cfg=train_cfg,
                data_preprocessor=data_preprocessor,
                **weights,
                **kwargs,
            )

    def init_weights(self) -> None:
        """Keeps the weights: MMEngine would have timm draw new ones over the pretrained."""


def _check_class_weight(loss: dict, num_classes: int) -> None:
    weights = loss.get("class_weight")
    if weights is not None and len(weights) != num_classes:
        raise ConfigError(
            f"model.loss.class_weight has {len(weights)} values for {num_classes} classes: "
            "give one weight per class, in the order of classes."
        )


@MODELS.register_module()
class SoftmaxFocalLoss(nn.Module):
    """Focal loss over softmax scores: easy examples count less.

    ``-w_c * (1 - p_c)^gamma * log p_c`` for the true class c, averaged over the batch; with soft
    targets (mixup) the sum over the classes weighted by the target. Unlike mmpretrain's sigmoid
    ``FocalLoss`` it trains the softmax scores that the classifier predicts with.
    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.

    Args:
        gamma: How strongly easy examples are played down; 0 is cross entropy.
        class_weight: One weight per class, or None.
        loss_weight: Factor on the result.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        class_weight: list[float] | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.loss_weight = loss_weight
        self.class_weight = class_weight

    def forward(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        """Returns the loss, a scalar.

        Args:
            cls_score: Logits, N x C.
            label: Class indices, N, or soft targets, N x C.
            **kwargs: Ignored, as mmpretrain's heads pass ``avg_factor``.
        """
        log_p = F.log_softmax(cls_score, dim=1)
        target = label if label.dim() == 2 else F.one_hot(label, cls_score.size(1))
        loss = -target * (1 - log_p.exp()) ** self.gamma * log_p
        if self.class_weight is not None:
            loss = loss * torch.as_tensor(self.class_weight, device=loss.device, dtype=loss.dtype)
        return self.loss_weight * loss.sum(dim=1).mean()
