from __future__ import annotations

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from aicore.losses import SoftmaxFocalLoss
from aicore.registry import MODELS
from aicore.segmentation.models import (
    BoundaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    LovaszLoss,
    TverskyLoss,
)

LOSSES = {
    "cross entropy": dict(type="aicore.CrossEntropyLoss"),
    "focal": dict(type="aicore.SoftmaxFocalLoss"),
    "dice": dict(type="aicore.DiceLoss"),
    "log dice": dict(type="aicore.DiceLoss", log=True),
    "tversky": dict(type="aicore.TverskyLoss"),
    "lovasz": dict(type="aicore.LovaszLoss"),
    "boundary": dict(type="aicore.BoundaryLoss"),
}


@pytest.fixture
def logits():
    return torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def label():
    """Classes 0, 1 and 3; the first row is ignored."""
    label = torch.randint(0, 3, (2, 5, 6), generator=torch.Generator().manual_seed(1))
    label[label == 2] = 3
    label[:, 0] = 255
    return label


def known_pixels(logits, label) -> list[tuple[list[float], int]]:
    """Returns softmax scores and label of every pixel that counts, as plain numbers."""
    pixels = []
    for scores, truth in zip(
        logits.permute(0, 2, 3, 1).reshape(-1, 4).tolist(), label.flatten().tolist(), strict=True
    ):
        if truth != 255:
            exponents = [math.exp(value) for value in scores]
            pixels.append(([e / sum(exponents) for e in exponents], truth))
    return pixels


def dice_by_class(pixels, smooth=0.0) -> dict[int, float]:
    dice = {}
    for index in {truth for _, truth in pixels}:
        both = sum(p[index] for p, truth in pixels if truth == index)
        total = sum(p[index] + (truth == index) for p, truth in pixels)
        dice[index] = (both + smooth) / (total / 2 + smooth)
    return dice


# ---- what all have in common ----


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_do_not_count(name, logits, label):
    loss = MODELS.build(LOSSES[name])
    other = logits.clone()
    other[:, :, 0] = torch.randn(2, 4, 6) * 9
    other.requires_grad_()

    first, second = (loss(x, label, ignore_index=255) for x in (logits, other))

    assert first.item() == pytest.approx(second.item(), rel=1e-5)
    second.backward()
    assert not other.grad[:, :, 0].any()
    assert other.grad[:, :, 1:].any()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_known_costs_nothing(name, logits):
    loss = MODELS.build(LOSSES[name])
    logits.requires_grad_()

    value = loss(logits, torch.full((2, 5, 6), 255), ignore_index=255)
    value.backward()

    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "boundary"])
def test_descent_leads_to_the_labels(name, label):
    logits = torch.zeros(2, 4, 5, 6, requires_grad=True)
    loss = MODELS.build(LOSSES[name])
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, label, ignore_index=255).backward()
        optimizer.step()

    right = (logits.argmax(dim=1) == label)[label != 255]

    assert right.float().mean() > 0.95


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, 1e-4])
def test_extreme_logits_stay_finite(name, label, size):
    logits = (torch.randn(2, 4, 5, 6) * size).requires_grad_()

    value = MODELS.build(LOSSES[name])(logits, label, ignore_index=255)
    value.backward()

    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_gives_a_float32_loss(name, logits, label):
    loss = MODELS.build(LOSSES[name])

    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits.bfloat16(), label, ignore_index=255)

    assert value.dtype == torch.float32
    exact = loss(logits, label, ignore_index=255)
    assert value.item() == pytest.approx(exact.item(), rel=0.05, abs=0.01)


@pytest.mark.parametrize("name", LOSSES)
def test_the_weight_of_a_loss(name, logits, label):
    one, three = (
        MODELS.build({**LOSSES[name], "loss_weight": w})(logits, label, ignore_index=255)
        for w in (1.0, 3.0)
    )

    assert three.item() == pytest.approx(3 * one.item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_each_has_a_name_for_the_log(name):
    assert MODELS.build(LOSSES[name]).loss_name.startswith("loss_")
    if LOSSES[name]["type"].startswith("aicore"):
        assert MODELS.build({**LOSSES[name], "loss_name": "loss_x"}).loss_name == "loss_x"


# ---- Dice ----


@pytest.mark.parametrize("smooth", [0.0, 2.0])
def test_dice_is_its_formula(logits, label, smooth):
    dice = dice_by_class(known_pixels(logits, label), smooth)

    loss = DiceLoss(smooth=smooth)(logits, label)

    assert set(dice) == {0, 1, 3}
    assert loss.item() == pytest.approx(sum(1 - d for d in dice.values()) / 3, rel=1e-5)


def test_log_dice_is_its_formula(logits, label):
    dice = dice_by_class(known_pixels(logits, label))

    loss = DiceLoss(log=True)(logits, label)

    assert loss.item() == pytest.approx(sum(-math.log(d) for d in dice.values()) / 3, rel=1e-5)


def test_dice_with_class_weights(logits, label):
    dice = dice_by_class(known_pixels(logits, label))
    weights = [1.0, 2.0, 50.0, 3.0]

    loss = DiceLoss(class_weight=weights)(logits, label)

    expected = sum(weights[c] * (1 - d) for c, d in dice.items()) / (1 + 2 + 3)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_dice_is_that_of_smp_where_all_classes_are_there(logits):
    label = torch.randint(0, 4, (2, 5, 6), generator=torch.Generator().manual_seed(3))

    for log in (False, True):
        expected = smp.losses.DiceLoss("multiclass", log_loss=log)(logits, label)
        assert DiceLoss(log=log)(logits, label).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_tiny_class_pulls_harder_by_the_logarithm():
    label = torch.zeros(1, 20, 20, dtype=torch.int64)
    label[0, 3, 3] = 1
    pulls = []
    for log in (False, True):
        logits = torch.zeros(1, 2, 20, 20)
        logits[:, 0] = 6  # its score is 0.0025
        logits.requires_grad_()
        DiceLoss(log=log)(logits, label).backward()
        pulls.append(logits.grad[0, 1, 3, 3].abs().item())

    assert pulls[1] > 50 * pulls[0]


# ---- Tversky ----


def test_tversky_is_its_formula(logits, label):
    pixels = known_pixels(logits, label)
    losses = []
    for index in (0, 1, 3):
        both = sum(p[index] for p, truth in pixels if truth == index)
        wrong = sum(p[index] for p, truth in pixels if truth != index)
        missed = sum(1 - p[index] for p, truth in pixels if truth == index)
        losses.append(1 - both / (both + 0.2 * wrong + 0.9 * missed))

    loss = TverskyLoss(alpha=0.2, beta=0.9)(logits, label)

    assert loss.item() == pytest.approx(sum(losses) / 3, rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0, 0.5]])
def test_cross_entropy_is_its_formula(logits, label, weights):
    pixels = known_pixels(logits, label)
    factors = weights or [1.0] * 4

    expected = sum(-factors[c] * math.log(scores[c]) for scores, c in pixels)
    expected /= sum(factors[c] for _, c in pixels)

    assert CrossEntropyLoss(class_weight=weights)(logits, label).item() == pytest.approx(expected)


def test_a_larger_beta_punishes_misses_more():
    label = torch.zeros(1, 4, 4, dtype=torch.int64)
    label[0, :2] = 1
    missed, wrong = torch.zeros(2, 1, 2, 4, 4)
    missed[0, 0] = 5
    wrong[0, 1] = 5

    few, many = (TverskyLoss(alpha=1 - beta, beta=beta, class_weight=[0, 1]) for beta in (0.2, 0.8))

    assert many(missed, label) > few(missed, label)
    assert many(wrong, label) < many(missed, label)


# ---- Lovász ----


def test_lovasz_is_its_definition(logits, label):
    """The Lovász extension of the Jaccard loss by its own sum, one pixel after the other."""
    pixels = known_pixels(logits, label)
    losses = []
    for index in {truth for _, truth in pixels}:
        errors = sorted(
            ((abs((truth == index) - p[index]), truth == index) for p, truth in pixels),
            key=lambda item: -item[0],
        )
        count = sum(is_class for _, is_class in errors)
        missed = wrong = 0
        value = before = 0.0
        for error, is_class in errors:
            missed, wrong = missed + is_class, wrong + (not is_class)
            jaccard = 1 - (count - missed) / (count + wrong)
            value += error * (jaccard - before)
            before = jaccard
        losses.append(value)

    loss = LovaszLoss()(logits, label)

    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_lovasz_of_a_single_known_pixel(logits):
    label = torch.full((2, 5, 6), 255)
    label[0, 0, 0] = 1

    assert LovaszLoss()(logits, label).item() == 0


# ---- boundary ----


def test_boundary_is_its_formula(logits, label):
    expected, count = 0.0, 0
    for scores, truth in zip(logits.softmax(dim=1).numpy(), label.numpy(), strict=True):
        for index in range(4):
            inside = np.argwhere(truth == index)
            outside = np.argwhere(truth != index)
            for row, column in np.argwhere(truth != 255):
                distance = 0.0
                if len(inside) and len(outside):
                    others = outside if truth[row, column] == index else inside
                    distance = np.sqrt(((others - [row, column]) ** 2).sum(axis=1)).min()
                    if truth[row, column] == index:
                        distance = 1 - distance
                expected += scores[index, row, column] * distance / 6
                count += 1

    loss = BoundaryLoss()(logits, label)

    assert loss.item() == pytest.approx(expected / count, rel=1e-5)


def test_a_far_mistake_costs_more_than_a_near_one():
    label = torch.zeros(1, 20, 20, dtype=torch.int64)
    label[0, 2:6, 2:6] = 1
    losses = []
    for column in (7, 18):
        logits = torch.zeros(1, 2, 20, 20)
        logits[0, 0] = 10
        logits[0, 1, 4, column] = 20
        losses.append(BoundaryLoss()(logits, label).item())

    assert losses[1] > losses[0]


# ---- focal ----


def test_the_focal_loss_in_a_head(logits, label):
    pixels = known_pixels(logits, label)

    loss = SoftmaxFocalLoss(gamma=2.0)(logits, label, ignore_index=255)

    expected = [-((1 - p[t]) ** 2) * math.log(p[t]) for p, t in pixels]
    assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)
