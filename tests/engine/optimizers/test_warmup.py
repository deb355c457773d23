"""The warm-up of parameter groups against its formula and against MMEngine's."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR, LinearMomentum
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from aicore.engine.optimizers import GroupWarmupLR, OptimWrapper
from aicore.errors import ConfigError

BASES = {"bias": 0.3, "weight": 0.1, "norm": 0.7}


def wrapper(factors: bool = True) -> OptimWrapper:
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": lr} for lr in BASES.values()]
    if factors:
        groups[0]["warmup_factor"] = 10
        groups[1]["warmup_factor"] = 0
    return OptimWrapper(torch.optim.SGD(groups, lr=0.5, momentum=0.9))


def rates(optimizer: OptimWrapper, schedulers, steps: int) -> list[list[float]]:
    """Returns the groups' rates at ``steps`` steps from the current one on."""
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.optimizer.param_groups])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.parametrize("begin", [0, 3])
@pytest.mark.parametrize("duration", [0, 1, 2, 7])
def test_formula(begin, duration):
    optimizer = wrapper()
    scheduler = GroupWarmupLR(
        optimizer, begin=begin, end=begin + duration, start_factor=0.2, by_epoch=False
    )
    found = rates(optimizer, [scheduler], 15)
    for step, values in enumerate(found):
        for value, base, factor in zip(values, BASES.values(), (10, 0, 0.2), strict=True):
            if begin <= step < begin + duration:
                expected = base * (factor + (1 - factor) * (step - begin) / duration)
                assert value == pytest.approx(expected, rel=1e-12)
            else:
                assert value == base  # to the last bit
    assert optimizer.base_param_settings["lr"] == 0.5


def test_default_start_is_a_hundredth():
    optimizer = wrapper(factors=False)
    GroupWarmupLR(optimizer, end=5)
    assert optimizer.optimizer.param_groups[0]["lr"] == pytest.approx(0.003)


@pytest.mark.parametrize("warmup_first", [True, False])
def test_chains_with_a_cosine_as_mmengines_own_does(warmup_first):
    def chain(warmup_class):
        optimizer = wrapper(factors=False)
        order = [
            lambda: warmup_class(optimizer, start_factor=0.01, begin=0, end=5, by_epoch=False),
            lambda: CosineAnnealingLR(
                optimizer, eta_min_ratio=0.1, begin=5, end=20, by_epoch=False
            ),
        ]
        return rates(optimizer, [make() for make in order[:: 1 if warmup_first else -1]], 25)

    ours, theirs = chain(GroupWarmupLR), chain(LinearLR)
    for step, (left, right) in enumerate(zip(ours, theirs, strict=True)):
        if step in (0, *range(5, 25)):
            assert left == pytest.approx(right, rel=1e-9), step


@pytest.mark.parametrize("stop", range(8))
def test_resumes_to_the_last_bit(stop):
    def make():
        optimizer = wrapper()
        return optimizer, [
            GroupWarmupLR(optimizer, end=4, by_epoch=False),
            CosineAnnealingLR(optimizer, begin=4, end=9, by_epoch=False),
        ]

    optimizer, schedulers = make()
    rates(optimizer, schedulers, stop)
    states = copy.deepcopy([optimizer.state_dict(), *(s.state_dict() for s in schedulers)])
    resumed, resumed_schedulers = make()
    resumed.load_state_dict(states[0])
    for scheduler, state in zip(resumed_schedulers, states[1:], strict=True):
        scheduler.load_state_dict(state)
    assert rates(resumed, resumed_schedulers, 8) == rates(optimizer, schedulers, 8)


def test_scaled_rates_keep_their_ratio():
    optimizer = wrapper()
    for group in optimizer.optimizer.param_groups:  # as MMEngine's auto_scale_lr does
        group["lr"] *= 4
    found = rates(optimizer, [GroupWarmupLR(optimizer, end=2, by_epoch=False)], 4)
    assert found[0] == pytest.approx([12, 0, 0.028])
    assert found[3] == [1.2, 0.4, 2.8]


def test_from_a_config_in_epochs():
    optimizer = wrapper()
    config = {
        "type": "aicore.GroupWarmupLR",
        "begin": 0,
        "end": 1.5,
        "convert_to_iter_based": True,
    }
    arguments = {"optimizer": optimizer, "epoch_length": 4}
    scheduler = PARAM_SCHEDULERS.build(config, default_args=arguments)
    assert not scheduler.by_epoch
    weights = [values[1] for values in rates(optimizer, [scheduler], 8)]
    assert weights == pytest.approx([0.1 * min(step / 6, 1) for step in range(8)])
    by_epoch = PARAM_SCHEDULERS.build(
        {"type": "aicore.GroupWarmupLR", "end": 2},
        default_args={"optimizer": wrapper(), "epoch_length": 4},
    )
    assert by_epoch.by_epoch
    assert by_epoch.duration == 2


def test_momentum_warms_up_beside_it():
    optimizer = wrapper()
    schedulers = [
        GroupWarmupLR(optimizer, end=5, by_epoch=False),
        LinearMomentum(optimizer, start_factor=0.8 / 0.9, end=5, by_epoch=False),
    ]
    found = []
    for _ in range(6):
        found.append([group["momentum"] for group in optimizer.optimizer.param_groups])
        rates(optimizer, schedulers, 1)
    assert found[0] == pytest.approx([0.8] * 3)
    assert found[5] == pytest.approx([0.9] * 3)
    assert all(left < right for left, right in itertools.pairwise(row[0] for row in found[:5]))


@pytest.mark.parametrize("arguments", [{"end": 2, "begin": 3}, {"end": 2, "start_factor": -0.1}])
def test_mistakes(arguments):
    with pytest.raises(ConfigError, match="GroupWarmupLR"):
        GroupWarmupLR(wrapper(), **arguments)
