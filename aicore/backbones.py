"""timm's models, for every task: weights from a file, from timm by name, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from mmengine.model import BaseModule
from torch import Tensor

from aicore.engine.checkpoint import inference_weights, read_checkpoint, require_finite
from aicore.errors import CheckpointError, ConfigError, did_you_mean
from aicore.registry import MODELS

# Before timm's own names, in a checkpoint of aicore's.
_BACKBONE, _MODEL = "backbone.", "model."


@contextmanager
def timm_weights(
    model_name: str, pretrained: bool | str = False, num_classes: int = 1000
) -> Iterator[dict[str, Any]]:
    """Yields the arguments of :func:`timm.create_model` that load the wanted weights.

    What timm raises inside the ``with`` block is turned into a sentence.

    Args:
        model_name: timm's name, with or without a tag: ``resnet18``, ``resnet18.a1_in1k``.
        pretrained: False for random weights; True for timm's own by name (from its cache, else
            fetched from its hub); a path for a checkpoint with timm's or torchvision's key names,
            or for one that aicore trained, a classifier of the same parts say.
            A head of another number of classes is left out, and the weights of three input
            channels are summed for one.
        num_classes: Classes of the model's head.

    Raises:
        ConfigError: timm has no such model.
        CheckpointError: The weights cannot be had or do not fit.
    """
    names = timm.list_models() + timm.list_pretrained()
    if model_name not in names:
        raise ConfigError(
            f"model_name={model_name!r} is not a model of timm {timm.__version__}."
            f"{did_you_mean(model_name, names)}"
        )
    if isinstance(pretrained, str):
        overlay = _overlay_from_file(model_name, pretrained, num_classes)
        arguments = {"pretrained": True, "pretrained_cfg_overlay": overlay}
    else:
        arguments = {"pretrained": pretrained}
    try:
        yield arguments
    except RuntimeError as error:
        if not pretrained:
            raise
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"pretrained={pretrained!r} does not fit {model_name!r}: {reason}"
        ) from error
    except OSError as error:  # what the hub raises for "not in the cache and not reachable"
        if pretrained is not True:
            raise
        raise CheckpointError(
            f"timm's weights {timm.get_pretrained_cfg(model_name).hf_hub_id!r} are not in the "
            "local cache and cannot be fetched from its hub. Copy the file model.safetensors "
            "from a machine with network and set pretrained = 'path/to/the/file', or "
            "pretrained = False for random weights."
        ) from error


def pretrained_of(init_cfg: dict | None, pretrained: bool | str = False) -> bool | str:
    """Returns what ``pretrained`` says in MMEngine's way of saying it.

    Args:
        init_cfg: ``dict(type='Pretrained', checkpoint=path)``, or None.
        pretrained: What holds without it.

    Raises:
        ConfigError: It is something else, or both are given.
    """
    if init_cfg is None:
        return pretrained
    is_file = set(init_cfg) == {"type", "checkpoint"} and init_cfg["type"] == "Pretrained"
    if not is_file or pretrained:
        raise ConfigError(
            f"init_cfg={dict(init_cfg)!r} cannot be followed: a network of timm begins with its "
            "own random weights or with a file's. Set pretrained = 'path/to/the/file' in its place."
        )
    return str(init_cfg["checkpoint"])


def _overlay_from_file(model_name: str, path: str, num_classes: int) -> dict[str, Any]:
    weights = {
        key.removeprefix(_BACKBONE).removeprefix(_MODEL): weight.float()
        for key, weight in inference_weights(read_checkpoint(path)).items()
    }
    require_finite(weights, path)
    with torch.device("meta"):
        own = timm.create_model(model_name, num_classes=num_classes).state_dict()
    head = _head_names(model_name)
    # timm loads what fits and says nothing of the rest; another network must not pass for this one.
    missing = [
        key
        for key in own
        if key not in weights
        and not key.startswith(head)
        and not key.endswith("num_batches_tracked")
    ]
    if missing:
        raise CheckpointError(
            f"pretrained={path!r} does not fit {model_name!r}: {len(missing)} of its {len(own)} "
            f"weights are not in the file, e.g. {', '.join(missing[:3])}."
        )
    head_fits = all(
        key in weights and weights[key].shape == own[key].shape
        for key in own
        if key.startswith(head)
    )
    # timm leaves the head out where the number of classes differs.
    return {"state_dict": weights, "num_classes": num_classes if head_fits else -1}


def _head_names(model_name: str) -> tuple[str, ...]:
    """Returns the prefixes of the classifier's keys, e.g. ``('fc.',)``."""
    config = timm.get_pretrained_cfg(model_name)
    classifier = (config.classifier if config else None) or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    return tuple(f"{name}." for name in names)


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A timm model as backbone: its feature maps, for a neck and a head.

    Args:
        model_name: timm's name.
        pretrained: See :func:`timm_weights`.
        in_channels: Channels of the input, 1 or 3.
        out_indices: Which of timm's feature levels to return, lowest stride first; None for all.
        init_cfg: ``dict(type='Pretrained', checkpoint=path)``, which is ``pretrained=path``.
        **kwargs: Further arguments of :func:`timm.create_model`.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool | str = False,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = (4,),
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if out_indices is not None:
            kwargs["out_indices"] = tuple(out_indices)
        with timm_weights(model_name, pretrained_of(init_cfg, pretrained)) as weights:
            self.model = timm.create_model(
                model_name, in_chans=in_channels, features_only=True, **weights, **kwargs
            )
        self.out_channels: list[int] = self.model.feature_info.channels()
        """Channels of each returned feature map."""
        self.stride: int = max(self.model.feature_info.reduction())
        """Stride of the last of them: what height and width of an image have to be multiples of."""
        self._channels_come_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"

    def init_weights(self) -> None:
        """Keeps the weights: MMEngine would have timm draw new ones over the pretrained."""

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns one feature map per ``out_indices``, each N x C x H/stride x W/stride."""
        features = self.model(inputs)
        if self._channels_come_last:  # transformers such as Swin
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return tuple(features)
