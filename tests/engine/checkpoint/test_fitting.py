from __future__ import annotations

import math

import pytest
import torch
from mmengine.model import BaseTTAModel, MMDistributedDataParallel
from torch import nn

from aicore.engine.checkpoint import Fit, load_weights, require_finite
from aicore.errors import CheckpointError


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_everything_fits(model):
    given = {key: torch.ones_like(weight) for key, weight in model.state_dict().items()}

    fit = load_weights(model, given, strict=True, source="a.pth")

    assert fit
    assert str(fit) == ""
    assert equal(model.state_dict(), given)


def test_what_does_not_fit_is_listed_and_the_rest_loaded(model):
    before = model[0].weight.clone()
    given = {
        "0.weight": torch.ones(4, 3),
        "0.bias": torch.ones(2),
        "1.weight": torch.ones(2),
        "1.running_mean": torch.ones(2),
        "head.weight": torch.ones(1),
        "1.bias": torch.tensor(1.0),
    }

    fit = load_weights(model, given, strict=False, source="a.pth")

    assert not fit
    assert fit.mismatched == ["0.weight 4x3 for 2x3", "1.bias scalar for 2"]
    assert fit.missing == ["1.running_var"]
    assert fit.unexpected == ["head.weight"]
    assert torch.equal(model[0].weight, before)
    assert torch.equal(model[0].bias, torch.ones(2))
    assert torch.equal(model[1].running_mean, torch.ones(2))
    assert str(fit) == (
        "2 mismatched: 0.weight 4x3 for 2x3, 1.bias scalar for 2; 1 missing: 1.running_var; "
        "1 unexpected: head.weight"
    )


def test_strict_refuses_what_does_not_fit_and_leaves_the_model(model):
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    given = {**before, "0.weight": torch.ones(4, 3), "0.bias": torch.ones(2)}

    with pytest.raises(CheckpointError, match=r"'a\.pth' does not fit .*1 mismatched: 0\.weight"):
        load_weights(model, given, strict=True, source="a.pth")

    assert equal(model.state_dict(), before)


@pytest.mark.parametrize("given", [{}, {"other": torch.ones(1)}, {"0.weight": torch.ones(1)}])
def test_nothing_fits(model, given):
    with pytest.raises(CheckpointError, match=r"'a\.pth' has nothing in common with the model"):
        load_weights(model, given, strict=False, source="a.pth")


def test_something_else_in_a_tensors_place(model):
    given = {"0.weight": 3, "0.bias": torch.ones(2)}

    fit = load_weights(model, given, strict=False, source="a.pth")

    assert fit.mismatched == ["0.weight int for 2x3"]


def test_the_count_of_batches_may_be_missing(model):
    given = model.state_dict()
    del given["1.num_batches_tracked"]

    assert load_weights(model, given, strict=True, source="a.pth")


def test_keys_of_a_parallel_training(model):
    given = {f"module.{key}": torch.ones_like(w) for key, w in model.state_dict().items()}
    given["module.0.weight"] = torch.ones(4, 3)

    fit = load_weights(model, given, strict=False, source="a.pth")

    assert str(fit) == "1 mismatched: 0.weight 4x3 for 2x3"
    assert torch.equal(model[0].bias, torch.ones(2))


class Average(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


class Stepping(nn.Sequential):
    def test_step(self, data):
        return data


def test_wrappers_are_looked_through(model):
    model = Stepping(*model)
    given = {key: torch.ones_like(weight) for key, weight in model.state_dict().items()}
    parallel = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(parallel)  # without the process group that it would ask for
    parallel.module = Average(module=model)

    load_weights(parallel, given, strict=True, source="a.pth")

    assert equal(model.state_dict(), given)


def test_long_lists_are_cut():
    fit = Fit(missing=[f"layer{index}" for index in range(10)])

    assert str(fit) == (
        "10 missing: layer0, layer1, layer2, layer3, layer4, layer5, layer6, layer7 and 2 more"
    )


# ---- weights that are no numbers ----


class WithBuffers(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)
        self.register_buffer("threshold", torch.tensor(math.nan))  # none yet
        self.register_buffer("mask", torch.full((2,), -math.inf))
        self.register_buffer("mean", torch.zeros(2))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["weight", "bias", "mean"])
@pytest.mark.parametrize("strict", [True, False])
def test_weights_that_are_not_finite_are_refused(key, value, strict):
    model = WithBuffers()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    given = {name: weight.clone() for name, weight in before.items()}
    given[key].view(-1)[-1] = value

    with pytest.raises(CheckpointError, match=rf"'a\.pth' holds NaN or infinity in '{key}'"):
        load_weights(model, given, strict=strict, source="a.pth")

    assert torch.equal(model.weight, before["weight"])


def test_a_buffer_may_hold_what_the_model_begins_with():
    model = WithBuffers()

    assert load_weights(model, WithBuffers().state_dict(), strict=True, source="a.pth")


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.bfloat16, torch.complex64])
def test_every_type_of_number_is_looked_at(kind):
    weights = {"a": torch.ones(2, dtype=torch.int8), "b": torch.ones(2).to(kind)}
    require_finite(weights, "a.pth")
    weights["b"] = torch.tensor([1.0, math.nan]).to(kind)

    with pytest.raises(CheckpointError, match=r"in 'b'"):
        require_finite(weights, "a.pth")
