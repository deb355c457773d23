from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from aicore.apis.flops import measure_complexity
from aicore.errors import ConfigError

TOOL = "tools/misc/get_flops.py"
THOUSAND = tuple(f"class {index}" for index in range(1000))


def macs_by_loop(model: nn.Module, image: torch.Tensor) -> int:
    """Counts the multiply-adds of convolutions, linear layers and batch norms (two a value)."""
    total = 0

    def count(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            of_one_value = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        elif isinstance(layer, nn.Linear):
            of_one_value = layer.in_features
        else:
            of_one_value = 2
        total += output.numel() * of_one_value

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(image)
    return total


@pytest.mark.parametrize(
    ("name", "parameters", "giga_macs"),
    [("resnet18", 11_689_512, 1.82), ("efficientnet_b0", 5_288_548, 0.39)],  # as published
)
def test_known_models(leaf_config, name, parameters, giga_macs):
    options = {"model_name": name, "classes": THOUSAND, "pretrained": "/no/such/file.pth"}

    found = measure_complexity(leaf_config, [224], options)

    assert found.parameters == parameters
    assert found.macs / 1e9 == pytest.approx(giga_macs, abs=0.01)
    by_loop = macs_by_loop(timm.create_model(name), torch.zeros(1, 3, 224, 224))
    assert by_loop < found.macs < 1.001 * by_loop  # pooling comes on top


def test_takes_size_and_channels_from_the_config(leaf_config):
    found = measure_complexity(leaf_config, options={"in_channels": 1})

    assert found.shape == (1, 32, 32)
    assert found.modules["model.conv1"] == (64 * 7 * 7, 64 * 7 * 7 * 16 * 16)
    assert found.modules["model.fc"] == (3 * 512 + 3, 3 * 512)


def test_parts_add_up(leaf_config):
    found = measure_complexity(leaf_config, [64, 32])

    assert found.shape == (3, 64, 32)
    parameters, macs = map(sum, zip(*found.modules.values(), strict=True))
    assert (parameters, macs) == (found.parameters, found.macs)
    assert found.macs == 2 * measure_complexity(leaf_config).macs - found.modules["model.fc"][1]


def test_tool_prints_table_and_totals_with_their_meaning(call_tool, leaf_config):
    done = call_tool(TOOL, leaf_config, "--shape", "224", "--cfg-options", "in_channels=3")

    assert done.returncode == 0
    assert "| model.layer4 " in done.stdout
    assert "input:      3 x 224 x 224 (channels x height x width)" in done.stdout
    assert "parameters: 11.18 M (11178051)" in done.stdout
    assert "MACs:       1.82 G" in done.stdout
    assert "FLOPs:      3.64 G, two per multiply-add" in done.stdout
    assert "max_pool2d (1x)" in done.stdout  # what is not counted is said
    assert done.stderr == ""


@pytest.mark.parametrize("shape", [[0], [32, -1], [1, 2, 3]])
def test_shape_that_is_none(leaf_config, shape):
    with pytest.raises(ConfigError, match="not a height and a width"):
        measure_complexity(leaf_config, shape)


def test_shape_that_the_model_refuses(call_tool, leaf_config):
    options = ["--cfg-options", "model_name=vit_tiny_patch16_224"]

    done = call_tool(TOOL, leaf_config, *options)

    assert done.returncode == 1
    assert "does not take an image of 3 x 32 x 32" in done.stderr
    assert "--shape" in done.stderr
    assert measure_complexity(leaf_config, [224], {"model_name": "vit_tiny_patch16_224"}).macs > 1e9


def test_config_without_image_size(tmp_path):
    file = tmp_path / "bare.py"
    file.write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='aicore.TimmClassifier', model_name='resnet18', num_classes=2)\n"
    )

    with pytest.raises(ConfigError, match="no image_size: give --shape"):
        measure_complexity(file)
    assert measure_complexity(file, [32, 32]).shape == (3, 32, 32)
