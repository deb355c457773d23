"""Every optimiser that timm names builds, trains and can be resumed."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import timm.optim
import torch
from mmengine.registry import OPTIMIZERS
from torch import nn

from aicore.engine.optimizers import OptimizerConstructor, OptimWrapper
from aicore.errors import ConfigError
from aicore.registry import TIMM_OPTIMIZERS

NAMES = timm.optim.list_optimizers()
SPECIAL = [
    name
    for name in NAMES
    if isinstance(timm.optim.get_optimizer_info(name).opt_class, str) or name == "adahessian"
]


def train(name: str, state=None, steps: int = 2) -> tuple[nn.Module, OptimWrapper]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    optimizer = {"type": f"timm.{name}", "lr": 0.01, "weight_decay": 0.01}
    paramwise = {"bias": {"lr_mult": 2, "decay_mult": 0}, "norm": {"decay_mult": 0}}
    wrapper = OptimizerConstructor({"optimizer": optimizer}, paramwise)(model)
    if state is not None:
        wrapper.load_state_dict(state)
    for _ in range(steps):
        inputs = torch.ones(2, 3, 8, 8) * torch.rand(2, 1, 1, 1)
        wrapper.update_params(model(inputs).square().sum())
    return model, wrapper


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SPECIAL])
def test_every_name_trains_and_saves_plain_values(name):
    with torch.compiler.set_stance("force_eager"):  # kron compiles its update for half a minute
        _check_training(name)


def _check_training(name):
    model, wrapper = train(name)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert not torch.equal(model[0].weight, train(name, steps=0)[0][0].weight)
    file = io.BytesIO()
    torch.save(wrapper.state_dict(), file)
    file.seek(0)
    train(name, torch.load(file, weights_only=True))


@pytest.mark.parametrize("name", ["nlarc", "sgd", "muon", "lambcw", "crmsproptf"])
def test_defaults_are_those_of_timms_factory(name):
    parameter = nn.Parameter(torch.ones(3, 3))
    ours = OPTIMIZERS.build(
        {"type": f"timm.{name}", "params": [parameter], "lr": 0.1, "weight_decay": 0.1}
    )
    theirs = timm.optim.create_optimizer_v2([parameter], name, lr=0.1, weight_decay=0.1)
    assert type(ours) is type(theirs)
    assert ours.defaults == theirs.defaults


def test_a_users_argument_wins_over_timms_default():
    optimizer = OPTIMIZERS.build(
        {"type": "timm.lambc", "params": [nn.Parameter(torch.ones(2))], "trust_clip": False}
    )
    assert optimizer.defaults["trust_clip"] is False


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adahessian", "'timm.adahessian' needs second derivatives"),
        pytest.param(
            "fusedlamb",
            "'timm.fusedlamb' needs a CUDA device and the package 'apex'",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="apex may be there"),
        ),
    ],
)
def test_what_cannot_be_had_is_a_sentence(name, message):
    with pytest.raises(ConfigError, match=message):
        train(name)


def test_all_names_are_known():
    assert TIMM_OPTIMIZERS.get("lamb")
    assert set(TIMM_OPTIMIZERS.module_dict) == set(NAMES)


def test_timm_is_imported_no_sooner_than_asked_for():
    code = (
        "import sys, aicore.registry, mmengine.optim\n"
        "assert mmengine.registry.OPTIMIZERS.get('SGD')\n"
        "assert 'timm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
