from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from aicore.losses import SoftmaxFocalLoss


@pytest.fixture
def logits():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 3, 1, 1, 2, 0])


def plain_focal_loss(logits, targets, gamma, weights) -> float:
    """The formula of the paper, one number after the other."""
    total = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        exponents = [math.exp(value) for value in row]
        for index, share in enumerate(target):
            p = exponents[index] / sum(exponents)
            total -= share * weights[index] * (1 - p) ** gamma * math.log(p)
    return total / len(targets)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("soft", [False, True])
def test_focal_loss_is_its_formula(logits, gamma, weights, soft):
    targets = F.one_hot(LABELS, 4).float()
    if soft:
        targets = 0.7 * targets + 0.3 * targets.flip(0)

    loss = SoftmaxFocalLoss(gamma, weights, loss_weight=2.0)(logits, targets if soft else LABELS)

    expected = plain_focal_loss(logits, targets, gamma, weights or [1.0] * 4)
    assert float(loss) == pytest.approx(2 * expected, rel=1e-5)


def test_focal_loss_without_gamma_is_cross_entropy(logits):
    logits.requires_grad_()
    focal = SoftmaxFocalLoss(gamma=0)(logits, LABELS)
    cross_entropy = F.cross_entropy(logits, LABELS)

    assert torch.allclose(focal, cross_entropy)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (focal, cross_entropy)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_easy_examples_count_less(logits):
    easy = torch.tensor([[9.0, 0.0, 0.0, 0.0]])
    hard = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    label = torch.tensor([0])

    ratios = [
        float(SoftmaxFocalLoss(gamma=2)(x, label) / F.cross_entropy(x, label)) for x in (easy, hard)
    ]

    assert ratios[0] < 1e-6 < 0.5 < ratios[1] < 1


def test_focal_loss_at_the_ends_of_the_range():
    extreme = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)

    loss = SoftmaxFocalLoss()(extreme, torch.tensor([0, 0]))

    assert loss.item() == pytest.approx(200)
    (gradient,) = torch.autograd.grad(loss, extreme)
    assert gradient.isfinite().all()


def test_arguments_of_mmpretrains_heads_are_ignored(logits):
    loss = SoftmaxFocalLoss()

    assert loss(logits, LABELS, avg_factor=3) == loss(logits, LABELS)


# ---- maps ----


@pytest.fixture
def maps():
    """Logits 2 x 4 x 3 x 5 and labels with some pixels to ignore."""
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(0, 4, (2, 3, 5), generator=generator)
    label[0, 0, :3] = 255
    return torch.randn(2, 4, 3, 5, generator=generator), label


def test_the_focal_loss_of_a_map_is_that_of_its_pixels(maps):
    logits, label = maps
    counted = label != 255

    loss = SoftmaxFocalLoss(2.0, [1.0, 2.0, 0.5, 3.0])(logits, label, ignore_index=255)

    pixels = logits.permute(0, 2, 3, 1)[counted]
    alone = SoftmaxFocalLoss(2.0, [1.0, 2.0, 0.5, 3.0])(pixels, label[counted])
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


def test_a_map_without_any_known_pixel_costs_nothing(maps):
    logits, label = maps
    logits.requires_grad_()

    loss = SoftmaxFocalLoss()(logits, torch.full_like(label, 255), ignore_index=255)
    loss.backward()

    assert loss.item() == 0
    assert not logits.grad.any()


def test_no_class_is_ignored_unless_asked():
    logits = torch.zeros(1, 300)

    loss = SoftmaxFocalLoss(gamma=0)(logits, torch.tensor([255]))

    assert loss.item() == pytest.approx(math.log(300))


def test_a_saturated_score_has_a_finite_gradient_with_a_small_gamma():
    scores = torch.tensor([[30.0, 0.0, 0.0]], requires_grad=True)

    SoftmaxFocalLoss(gamma=0.5)(scores, torch.tensor([0])).backward()

    assert scores.grad.isfinite().all()
