"""mmcv's focal losses (Lin et al. 2017, https://arxiv.org/abs/1708.02002).

``target`` (N,) holds class indices; one outside of ``[0, C)`` is the background. ``weight`` (C,)
is one factor per class, or empty; the background's is 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def _classes(target: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Returns whether each sample has a class, and the class, or 0."""
    has_class = (target >= 0) & (target < num_classes)
    return has_class, target.where(has_class, 0)


def _sample_weight(target: Tensor, weight: Tensor, num_classes: int) -> Tensor:
    if not weight.numel():
        return weight.new_ones(len(target))
    has_class, label = _classes(target, num_classes)
    return torch.where(has_class, weight[label], 1.0)


def _term_weights(
    logits: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    """Returns the factors (N, C) of the loss's positive and negative term."""
    num_classes = logits.shape[1]
    positive = target[:, None] == torch.arange(num_classes, device=target.device)
    sample_weight = _sample_weight(target, weight, num_classes)[:, None]
    return positive * alpha * sample_weight, ~positive * (1 - alpha) * sample_weight


def sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fills ``output`` (N, C) with the loss of each of the ``logits`` (N, C).

    It is ``-alpha (1-p)^gamma log p`` for the sample's class and ``-(1-alpha) p^gamma log(1-p)``
    for the others, with ``p`` the logit's sigmoid.
    """
    positive, negative = _term_weights(logits, target, weight, alpha)
    p, q = logits.sigmoid(), (-logits).sigmoid()
    log_p, log_q = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    output.copy_(-positive * q**gamma * log_p - negative * p**gamma * log_q)


def sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fills ``grad_input`` (N, C) with the derivative of each loss by its logit.

    Written out, for autograd gives NaN where a logit is saturated and ``gamma`` below 1.
    """
    positive, negative = _term_weights(logits, target, weight, alpha)
    p, q = logits.sigmoid(), (-logits).sigmoid()
    log_p, log_q = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    by_positive = positive * q**gamma * (gamma * p * log_p - q)
    by_negative = negative * p**gamma * (gamma * q * log_q - p)
    grad_input.copy_(by_positive - by_negative)


def _class_probability(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each sample's ``p`` and ``1 - p`` of its class, kept above 0."""
    tiny = torch.finfo(probabilities.dtype).tiny
    _, label = _classes(target, probabilities.shape[1])
    p = probabilities.gather(1, label[:, None])[:, 0]
    return p.clamp(min=tiny), (1 - p).clamp(min=tiny)


def softmax_focal_loss_forward(
    probabilities: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fills ``output`` (N,) with ``-alpha (1-p)^gamma log p`` of softmax results (N, C).

    The background's loss is 0.
    """
    num_classes = probabilities.shape[1]
    has_class, _ = _classes(target, num_classes)
    p, q = _class_probability(probabilities, target)
    scale = alpha * has_class * _sample_weight(target, weight, num_classes)
    output.copy_(-scale * q**gamma * p.log())


def softmax_focal_loss_backward(
    probabilities: Tensor,
    target: Tensor,
    weight: Tensor,
    buffer: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fills ``grad_input`` (N, C), the derivative by the logits; ``buffer`` (N,) is scratch."""
    num_classes = probabilities.shape[1]
    has_class, label = _classes(target, num_classes)
    p, q = _class_probability(probabilities, target)
    scale = alpha * has_class * _sample_weight(target, weight, num_classes)
    by_log_p = scale * (gamma * q ** (gamma - 1) * p * p.log() - q**gamma)
    one_hot = functional.one_hot(label, num_classes)
    grad_input.copy_(by_log_p[:, None] * (one_hot - probabilities))
