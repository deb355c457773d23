"""Classifiers."""

from __future__ import annotations

from typing import Any

from mmpretrain.models import TimmClassifier as BaseTimmClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from aicore.backbones import pretrained_of, timm_weights
from aicore.engine.outputs import mark_not_finite
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
        init_cfg: ``dict(type='Pretrained', checkpoint=path)``, which is ``pretrained=path``.
        **kwargs: Further arguments of :func:`timm.create_model`, e.g. ``drop_rate``.

    Raises:
        ConfigError: ``class_weight`` does not hold one weight per class, or ``init_cfg`` is
            something else.
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
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        _check_class_weight(loss or {}, num_classes)
        if not (train_cfg or {}).get("augments"):
            train_cfg = None  # mmpretrain draws from the list, which has to hold something
        pretrained = pretrained_of(init_cfg, pretrained)
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

    def predict(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Returns the data samples with ``pred_score`` and ``pred_label``.

        Args:
            inputs: N x C x H x W.
            data_samples: One for each image.
        """
        logits = self(inputs)
        predicted = self._get_predictions(logits, data_samples)
        mark_not_finite(predicted, logits)
        return predicted

    def init_weights(self) -> None:
        """Keeps the weights: MMEngine would have timm draw new ones over the pretrained."""


def _check_class_weight(loss: dict, num_classes: int) -> None:
    weights = loss.get("class_weight")
    if weights is not None and len(weights) != num_classes:
        raise ConfigError(
            f"model.loss.class_weight has {len(weights)} values for {num_classes} classes: "
            "give one weight per class, in the order of classes."
        )
