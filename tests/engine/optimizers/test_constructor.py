"""Which parameter gets which settings, and that the training is what a plain loop does."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from aicore.engine.optimizers import OptimizerConstructor, OptimWrapper
from aicore.errors import ConfigError
from aicore.registry import explain_build_errors

SGD = {"type": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}


class Scale(nn.Module):
    """A layer scale: one-dimensional, but no normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(4))

    def forward(self, inputs):
        return inputs * self.gamma[:, None, None]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), Scale(), nn.ReLU(), nn.Conv2d(4, 4, 3)
        )
        self.backbone2 = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        return self.head(self.backbone2(self.backbone(images)).mean((2, 3)))


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def build(paramwise=None, optimizer=SGD, model=None, **wrapper) -> OptimWrapper:
    config = {"constructor": "aicore.OptimizerConstructor", "optimizer": optimizer, **wrapper}
    if paramwise is not None:
        config["paramwise_cfg"] = paramwise
    return build_optim_wrapper(model or network(), ConfigDict(config))


def names_of(wrapper: OptimWrapper, model: nn.Module) -> dict[str, list[str]]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        group["name"]: [by_id[id(parameter)] for parameter in group["params"]]
        for group in wrapper.optimizer.param_groups
    }


def test_without_settings_there_is_one_group_in_the_models_order():
    model = network()
    wrapper = build(model=model)
    assert isinstance(wrapper, OptimWrapper)
    assert names_of(wrapper, model) == {"all": [name for name, _ in model.named_parameters()]}
    (group,) = wrapper.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["nesterov"]) == (0.1, 0.01, True)


def test_each_kind_gets_its_parameters_and_settings():
    model = network()
    wrapper = build(
        {
            "bias": {"lr_mult": 2, "decay_mult": 0, "warmup_factor": 10},
            "norm": {"decay_mult": 0},
            "weight": {"warmup_factor": 0},
        },
        model=model,
    )
    assert names_of(wrapper, model) == {
        "bias": [name for name, _ in model.named_parameters() if name.endswith("bias")],
        "norm": ["backbone.1.weight"],
        "weight": [
            "backbone.0.weight",
            "backbone.2.gamma",
            "backbone.4.weight",
            "backbone2.weight",
            "head.weight",
        ],
    }
    settings = {
        group["name"]: (group["lr"], group["weight_decay"], group.get("warmup_factor"))
        for group in wrapper.optimizer.param_groups
    }
    assert settings == {
        "bias": (0.2, 0, 10),
        "norm": (0.1, 0, None),
        "weight": (0.1, 0.01, 0),
    }


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(4), nn.InstanceNorm1d(4, affine=True), nn.LayerNorm(4), nn.RMSNorm(4)]
)
def test_normalisation_layers(layer):
    wrapper = build({"norm": {"decay_mult": 0}}, model=nn.Sequential(nn.Linear(4, 4), layer))
    decay = {group["name"]: group["weight_decay"] for group in wrapper.optimizer.param_groups}
    # LayerNorm's and the others' biases are biases.
    assert decay == {"norm": 0, "bias+weight": 0.01}
    bare = nn.Sequential(layer)
    (group,) = build({"norm": {"decay_mult": 0}}, model=bare).optimizer.param_groups[:1]
    assert group["weight_decay"] == 0


def test_kinds_with_equal_settings_share_a_group():
    wrapper = build({"norm": {"decay_mult": 0}, "bias": {"decay_mult": 0}})
    assert [group["name"] for group in wrapper.optimizer.param_groups] == ["weight", "bias+norm"]


def test_attention_biases_are_biases():
    model = nn.MultiheadAttention(4, 2)
    names = names_of(build({"bias": {"decay_mult": 0}}, model=model), model)
    assert names["bias"] == ["in_proj_bias", "out_proj.bias"]


def test_the_longest_prefix_of_whole_words_counts_and_multiplies():
    model = network()
    wrapper = build(
        {
            "bias": {"lr_mult": 2},
            "modules": {
                "backbone": {"lr_mult": 0.1, "decay_mult": 0.5},
                "backbone.4": {"lr_mult": 0.3},
            },
        },
        model=model,
    )
    lrs = {group["name"]: group["lr"] for group in wrapper.optimizer.param_groups}
    assert lrs == pytest.approx(
        {
            "backbone.bias": 0.02,
            "backbone.norm+weight": 0.01,
            "backbone.4.bias": 0.06,
            "backbone.4.weight": 0.03,
            "bias": 0.2,
            "weight": 0.1,
        }
    )
    names = names_of(wrapper, model)
    assert names["backbone.4.bias"] == ["backbone.4.bias"]
    assert names["bias"] == ["backbone2.bias", "head.bias"]  # backbone2 is not below backbone
    decays = {group["name"]: group["weight_decay"] for group in wrapper.optimizer.param_groups}
    assert decays["backbone.bias"] == 0.005
    assert decays["backbone.4.bias"] == decays["bias"] == 0.01


def test_one_module_alone_is_named_for_it():
    wrapper = build({"modules": {"backbone": {"lr_mult": 0.1}}})
    names = [group["name"] for group in wrapper.optimizer.param_groups]
    assert names == ["backbone", "bias+weight"]


def test_a_wrapped_models_names_are_the_models():
    paramwise = {"modules": {"backbone": {"lr_mult": 0.1}}}
    groups = build(paramwise, model=nn.DataParallel(network())).optimizer.param_groups
    assert groups[0]["name"] == "backbone"


def test_tied_once_and_frozen_kept():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    wrapper = build({"bias": {"decay_mult": 0}}, model=model)
    assert names_of(wrapper, model) == {"weight": ["0.weight"], "bias": ["0.bias", "1.bias"]}


def test_multipliers_apply_to_the_optimisers_own_defaults():
    wrapper = build({"bias": {"lr_mult": 2, "decay_mult": 3}}, optimizer={"type": "AdamW"})
    weight, bias = sorted(wrapper.optimizer.param_groups, key=lambda group: group["lr"])
    assert bias["lr"] == 2 * weight["lr"] == 2e-3
    assert bias["weight_decay"] == 3 * weight["weight_decay"]


def test_one_line_of_log_a_group(monkeypatch):
    lines = []
    monkeypatch.setattr(
        "aicore.engine.optimizers.constructor.print_log", lambda text, **_: lines.append(text)
    )
    build({"norm": {"decay_mult": 0}, "bias": {"lr_mult": 2}})
    assert lines == [
        "Optimiser's group weight: 5 parameters of 280 numbers, lr 0.1, weight decay 0.01",
        "Optimiser's group bias: 5 parameters of 18 numbers, lr 0.2, weight decay 0.01",
        "Optimiser's group norm: 1 parameters of 4 numbers, lr 0.1, weight decay 0",
    ]


@pytest.mark.parametrize("optimizer", [SGD, {"type": "AdamW", "lr": 0.01, "weight_decay": 0.1}])
def test_training_equals_a_plain_loop(optimizer):
    model = network()
    plain = copy.deepcopy(model)
    paramwise = {
        "bias": {"lr_mult": 2, "decay_mult": 0},
        "norm": {"decay_mult": 0},
        "modules": {"backbone": {"lr_mult": 0.5}},
    }
    wrapper = build(paramwise, optimizer, model)
    # One group a parameter, each written out.
    lr, decay = optimizer["lr"], optimizer["weight_decay"]
    groups = [
        {
            "params": [parameter],
            "lr": lr
            * (2 if name.endswith("bias") else 1)
            * (0.5 if name.startswith("backbone.") else 1),
            "weight_decay": 0 if name.endswith("bias") or name == "backbone.1.weight" else decay,
        }
        for name, parameter in plain.named_parameters()
    ]
    arguments = {key: value for key, value in optimizer.items() if key != "type"}
    plain_optimizer = getattr(torch.optim, optimizer["type"])(groups, **arguments)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(4, 3, 8, 8, generator=generator)
        targets = torch.randint(2, (4,), generator=generator)
        wrapper.update_params(nn.functional.cross_entropy(model(images), targets))
        plain_optimizer.zero_grad()
        nn.functional.cross_entropy(plain(images), targets).backward()
        plain_optimizer.step()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("paramwise", "message"),
    [
        ({"biass": {}}, r"paramwise_cfg\.biass is not known\. Did you mean 'bias'"),
        ({"norm_decay_mult": 0}, r"norm_decay_mult is not known.*Known: bias, norm, weight, mod"),
        ({"bias": {"lr_multt": 1}}, r"paramwise_cfg\.bias\.lr_multt .* Did you mean 'lr_mult'"),
        ({"bias": 2}, r"paramwise_cfg\.bias=2, expected a dict with lr_mult"),
        ({"norm": {"lr_mult": "1"}}, r"norm\.lr_mult='1', expected a number of at least 0"),
        ({"norm": {"decay_mult": -1}}, r"norm\.decay_mult=-1, expected a number"),
        ({"modules": {"bakbone": {}}}, r"below 'bakbone'\. Did you mean 'backbone'.*parts: backbo"),
        ({"modules": {"head": {"warmup_factor": 1}}}, r"modules\['head'\]\.warmup_factor is not"),
    ],
)
def test_mistakes_in_paramwise_cfg(paramwise, message):
    with pytest.raises(ConfigError, match=message):
        build(paramwise)


def test_a_multiplier_of_what_the_optimiser_has_not():
    with pytest.raises(ConfigError, match=r"changes weight_decay of group 'bias'.*Rprop has none"):
        build({"bias": {"decay_mult": 0}}, optimizer={"type": "Rprop", "lr": 0.1})


@pytest.mark.parametrize("optimizer", [None, {"lr": 0.1}, "SGD"])
def test_no_optimiser(optimizer):
    with pytest.raises(ConfigError, match="expected a dict with a type"):
        OptimizerConstructor({"optimizer": optimizer})


@pytest.mark.parametrize("constructor", ["aicore.OptimizerConstructor", None])
@pytest.mark.parametrize("scope", ["mmengine", "mmdet"])
@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"type": "SDG", "lr": 1}, "optim_wrapper.optimizer.type = 'SDG' .* mean 'SGD'"),
        ({"type": "SGD", "lrr": 1}, "optim_wrapper.optimizer.lrr: SGD takes .* mean 'lr'"),
        ({"type": "timm.lamp"}, "optimizer.type = 'timm.lamp' .* mean 'timm.lamb'"),
        ({"type": "timm.lamb", "bettas": 1}, "optimizer.bettas: .*'timm.lamb' .* mean 'betas'"),
    ],
)
def test_unknown_names_are_one_sentence(constructor, scope, optimizer, message):
    config = Config({"optim_wrapper": {"optimizer": optimizer}, "default_scope": scope})
    if constructor:
        config.optim_wrapper.constructor = constructor
    with (
        DefaultScope.overwrite_default_scope(scope),
        pytest.raises(ConfigError, match=message),
        explain_build_errors(config),
    ):
        build_optim_wrapper(network(), config.optim_wrapper)
