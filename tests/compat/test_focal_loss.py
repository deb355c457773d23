from __future__ import annotations

import pytest
import torch
from mmcv.ops import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss
from torch.autograd import gradcheck

TARGET = torch.tensor([0, 3, 1, 4, 2, 4])  # 4 is the background of four classes
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)


def random_logits(scale=2.0):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64) * scale
    return logits.requires_grad_()


def plain_sigmoid_focal_loss(logits, target, gamma, alpha, weight=None):
    p = 1 / (1 + (-logits).exp())
    is_class = target[:, None] == torch.arange(logits.shape[1])
    positive = -alpha * (1 - p) ** gamma * p.log()
    negative = -(1 - alpha) * p**gamma * (1 - p).log()
    loss = torch.where(is_class, positive, negative)
    if weight is None:
        return loss
    return loss * torch.cat([weight, weight.new_ones(1)])[target][:, None]


def plain_softmax_focal_loss(logits, target, gamma, alpha, weight):
    e = logits.exp()
    p = (e / e.sum(1, keepdim=True))[torch.arange(len(target)), target]
    return -alpha * (1 - p) ** gamma * p.log() * weight[target]


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sigmoid_focal_loss_equals_formula_with_gradient(gamma, weight):
    logits = random_logits()
    found = sigmoid_focal_loss(logits, TARGET, gamma, 0.25, weight, "none")
    expected = plain_sigmoid_focal_loss(logits, TARGET, gamma, 0.25, weight)
    torch.testing.assert_close(found, expected)
    # mmcv's backward multiplies by the gradient from above where nothing is reduced.
    above = torch.rand(found.shape, dtype=torch.float64)
    (found_gradient,) = torch.autograd.grad(found, logits, above)
    (expected_gradient,) = torch.autograd.grad(expected, logits, above)
    torch.testing.assert_close(found_gradient, expected_gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sigmoid_focal_loss_reduced(reduction):
    logits = random_logits()
    loss = SigmoidFocalLoss(2.0, 0.25, reduction=reduction)
    divisor = len(TARGET) if reduction == "mean" else 1
    expected = plain_sigmoid_focal_loss(logits, TARGET, 2.0, 0.25).sum() / divisor
    torch.testing.assert_close(loss(logits, TARGET), expected)
    assert gradcheck(lambda x: loss(x, TARGET), logits)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_sigmoid_focal_loss_of_saturated_logits_is_finite_and_right(gamma):
    logits = torch.tensor([[40.0, -40.0], [200.0, -200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1, 1]), gamma, 0.25, None, "none")
    # Wrong by x: the loss is alpha x for the class, (1 - alpha) x elsewhere, its slope likewise.
    torch.testing.assert_close(loss, torch.tensor([[30.0, 10.0], [150.0, 50.0]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75, -0.25], [0.75, -0.25]]))
    right = sigmoid_focal_loss(logits, torch.tensor([0, 0]), gamma, 0.25, None, "none")
    assert right.abs().max() < 1e-6
    (gradient,) = torch.autograd.grad(right.sum(), logits)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_softmax_focal_loss_equals_formula_with_gradient(gamma):
    logits = random_logits()
    target = TARGET.clamp(max=3)
    found = softmax_focal_loss(logits, target, gamma, 0.25, WEIGHT, "sum")
    expected = plain_softmax_focal_loss(logits, target, gamma, 0.25, WEIGHT).sum()
    torch.testing.assert_close(found, expected)
    (found_gradient,) = torch.autograd.grad(found, logits)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(found_gradient, expected_gradient)


def test_softmax_focal_loss_of_background_is_zero():
    logits = random_logits()
    loss = SoftmaxFocalLoss(2.0, 0.25)(logits, TARGET)
    known = TARGET < 4
    expected = plain_softmax_focal_loss(
        logits[known], TARGET[known], 2.0, 0.25, torch.ones(4, dtype=torch.float64)
    )
    torch.testing.assert_close(loss, expected.sum() / len(TARGET))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[~known] == 0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_loss_of_saturated_logits_is_finite(gamma):
    logits = torch.tensor([[300.0, 0.0], [300.0, 0.0]], requires_grad=True)
    loss = softmax_focal_loss(logits, torch.tensor([0, 1]), gamma, 0.25, None, "sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()
