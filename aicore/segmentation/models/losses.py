"""Losses of class maps, beside mmseg's own.

Each takes logits N x C x H x W and labels N x H x W, counts no pixel of ``ignore_index``, and is 0
where nothing is left.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from mmseg.models.losses import LovaszLoss as BaseLovaszLoss
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from aicore.registry import MODELS

_TINY = 1e-7  # keeps divisions and logarithms finite


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
    """Cross entropy over the softmax scores, averaged over the pixels by their classes' weights.

    It is torch's. mmseg's divides by all pixels, ignored ones too, or (``avg_non_ignore``) fails
    with class weights.

    Args:
        class_weight: One weight per class, or None.
        loss_weight: Factor on the result.
        loss_name: Its name in the log.
    """

    def __init__(
        self,
        class_weight: list[float] | None = None,
        loss_weight: float = 1.0,
        loss_name: str = "loss_ce",
    ) -> None:
        super().__init__()
        self.class_weight = class_weight
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, logits: Tensor, label: Tensor, ignore_index: int = 255, **kwargs: Any
    ) -> Tensor:
        """Returns the loss, a scalar; see the module for the shapes."""
        logits, weight = logits.float(), None
        total = (label != ignore_index).sum()
        if self.class_weight is not None:
            weight = logits.new_tensor(self.class_weight)
            total = weight[label[label != ignore_index]].sum()
        loss = F.cross_entropy(
            logits, label, weight=weight, ignore_index=ignore_index, reduction="sum"
        )
        return self.loss_weight * loss / total.clamp(min=_TINY)


@MODELS.register_module()
class TverskyLoss(nn.Module):
    """One minus the Tversky index of each class over the batch, averaged over its classes.

    ``(both + s) / (both + alpha * wrong + beta * missed + s)`` with the softmax score p and the
    truth t of a class: ``both = sum(p * t)``, ``wrong = sum(p * (1 - t))``, ``missed =
    sum((1 - p) * t)``. Classes that no label of the batch has do not count, so that a rare class is
    neither lost among the others nor driven to zero where it is absent; mmseg's losses of this
    kind count them, and add up in the precision of mixed precision.
    Source: Salehi et al., Tversky loss function for image segmentation, MLMI 2017.

    With ``log`` it is ``-log`` of the index instead: doubling a small overlap is worth as much as
    doubling a large one. A class of a few pixels, whose score begins near 0, is learnt in a
    fraction of the time.
    Source: Wong et al., 3D Segmentation with Exponential Logarithmic Loss, MICCAI 2018.

    Args:
        alpha: Cost of a pixel that is called the class and is not.
        beta: Cost of a pixel of the class that is not called so.
        log: See above.
        smooth: s above.
        class_weight: One weight per class, or None.
        loss_weight: Factor on the result.
        loss_name: Its name in the log.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        log: bool = False,
        smooth: float = 0.0,
        class_weight: list[float] | None = None,
        loss_weight: float = 1.0,
        loss_name: str = "loss_tversky",
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.log = log
        self.smooth = smooth
        self.class_weight = class_weight
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, logits: Tensor, label: Tensor, ignore_index: int = 255, **kwargs: Any
    ) -> Tensor:
        """Returns the loss, a scalar; see the module for the shapes."""
        counted = (label != ignore_index)[:, None]
        index = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
        truth = (label[:, None] == index) & counted
        score = logits.float().softmax(dim=1) * counted
        axes = (0, 2, 3)
        present, both = truth.sum(axes), (score * truth).sum(axes)
        wrong, missed = score.sum(axes) - both, present - both
        total = both + self.alpha * wrong + self.beta * missed
        overlap = (both + self.smooth) / (total + self.smooth).clamp(min=_TINY)
        loss = -overlap.clamp(min=_TINY).log() if self.log else 1 - overlap
        weight = (present > 0).float()
        if self.class_weight is not None:
            weight = weight * weight.new_tensor(self.class_weight)
        return self.loss_weight * (loss * weight).sum() / weight.sum().clamp(min=_TINY)


@MODELS.register_module()
class DiceLoss(TverskyLoss):
    """One minus the Dice coefficient of each class over the batch, averaged over its classes.

    The Tversky index in which both kinds of mistakes cost the same: ``2 * sum(p * t) / (sum(p) +
    sum(t))``. mmseg's ``DiceLoss`` pools all classes of an image, and ignored pixels count in it as
    wrong.
    Source: Milletari et al., V-Net, 3DV 2016, with the first power in the denominator.

    Args:
        loss_name: Its name in the log.
        **kwargs: As :class:`TverskyLoss`, but for ``alpha`` and ``beta``.
    """

    def __init__(self, loss_name: str = "loss_dice", **kwargs: Any) -> None:
        super().__init__(alpha=0.5, beta=0.5, loss_name=loss_name, **kwargs)


@MODELS.register_module()
class LovaszLoss(BaseLovaszLoss):
    """mmseg's Lovász-Softmax loss over the batch, which is 0 where every pixel is ignored.

    It follows the IoU of each class that the labels of the batch have.
    Source: Berman et al., The Lovász-Softmax loss, CVPR 2018.

    Args:
        class_weight: One weight per class, or None.
        loss_weight: Factor on the result.
        loss_name: Its name in the log.
    """

    def __init__(
        self,
        class_weight: list[float] | None = None,
        loss_weight: float = 1.0,
        loss_name: str = "loss_lovasz",
    ) -> None:
        super().__init__(
            reduction="none",
            class_weight=class_weight,
            loss_weight=loss_weight,
            loss_name=loss_name,
        )

    def forward(
        self, logits: Tensor, label: Tensor, ignore_index: int = 255, **kwargs: Any
    ) -> Tensor:
        """Returns the loss, a scalar; see the module for the shapes."""
        counted = label != ignore_index
        # mmseg's loses a dimension with a single pixel.
        if counted.sum() < 2:
            return logits.sum() * 0
        return super().forward(logits.float(), label, ignore_index=ignore_index)


@MODELS.register_module()
class BoundaryLoss(nn.Module):
    """Distance to the true boundary, weighted by the score: a far mistake costs more than a near.

    The mean over pixels and classes of ``p * d``: the softmax score p of a class, and the signed
    distance d to the edge of the class's true area, negative inside, in parts of the image's
    longer side. Classes that an image does not have do not count in it. It tells nothing of
    where a class is missing altogether: use it beside cross entropy or Dice. The distances are
    computed on the CPU. mmseg's ``BoundaryLoss`` is another: PIDNet's, of a head of its own for
    boundaries.
    Source: Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019.

    Args:
        loss_weight: Factor on the result.
        loss_name: Its name in the log.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = "loss_boundary") -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, logits: Tensor, label: Tensor, ignore_index: int = 255, **kwargs: Any
    ) -> Tensor:
        """Returns the loss, a scalar, which may be negative; see the module for the shapes."""
        classes = logits.shape[1]
        distances = np.stack([_distances(item, classes) for item in label.cpu().numpy()])
        distance = torch.from_numpy(distances).to(logits.device)
        counted = (label != ignore_index)[:, None]
        score = F.softmax(logits.float(), dim=1)
        total = (score * distance * counted).sum()
        return self.loss_weight * total / (counted.sum() * classes).clamp(min=1)


def _distances(label: np.ndarray, classes: int) -> np.ndarray:
    """Returns each class's signed distances, C x H x W float32; 0 for classes that are absent.

    As in the paper's code the pixels at the edge have the distance 1 outside and 0 inside.
    """
    distances = np.zeros((classes, *label.shape), np.float32)
    for index in np.unique(label):
        if not 0 <= index < classes:
            continue
        inside = (label == index).astype(np.uint8)
        if inside.all():
            continue  # there is no edge
        distances[index] = _to_zeros(1 - inside) - np.maximum(_to_zeros(inside) - 1, 0)
    return distances / max(label.shape)


def _to_zeros(mask: np.ndarray) -> np.ndarray:
    return cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
