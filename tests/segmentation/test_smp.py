from __future__ import annotations

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from aicore.apis import convert_weights
from aicore.engine.checkpoint import read_checkpoint
from aicore.errors import CheckpointError, ConfigError
from aicore.segmentation import SegmentationInferencer
from aicore.segmentation.smp import from_smp

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = CONFIGS / "segmentation/unet_resnet18.py"
OPTIONS = {"classes": ("background", "scratch"), "image_size": 64}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return smp.Unet("resnet18", encoder_weights=None, classes=2).eval()


@pytest.mark.parametrize("kind", ["weights", "lightning", "safetensors"])
def test_a_checkpoint_of_smp_gives_the_same_logits(network, tmp_path, kind):
    weights = network.state_dict()
    file = tmp_path / f"theirs.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        save_file(weights, file)
    elif kind == "lightning":
        torch.save({"state_dict": {f"model.{key}": w for key, w in weights.items()}}, file)
    else:
        torch.save(weights, file)

    out = convert_weights(CONFIG, file, "smp", options=OPTIONS)

    assert out == tmp_path / "theirs_aicore.pth"
    assert read_checkpoint(out)["meta"]["dataset_meta"]["classes"] == ("background", "scratch")
    model = SegmentationInferencer(CONFIG, out, "cpu", OPTIONS).model
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(images, mode="tensor"), network(images), atol=1e-5)


def test_what_is_not_the_network_is_left_out():
    network = smp.Unet("resnet18", encoder_weights=None, classes=2, aux_params={"classes": 3})

    weights = {f"model.{key}": weight for key, weight in network.state_dict().items()}
    weights["mean"] = torch.zeros(3)  # as smp's example with Lightning has it

    assert {key.split(".")[0] for key in from_smp(weights)} == {"backbone", "decode_head"}


def test_another_network_is_refused(tmp_path):
    network = smp.Unet("efficientnet-b0", encoder_weights=None, classes=2)
    torch.save(network.state_dict(), tmp_path / "theirs.pth")

    with pytest.raises(CheckpointError, match=r"theirs\.pth"):
        convert_weights(CONFIG, tmp_path / "theirs.pth", "smp", options=OPTIONS)
    assert not (tmp_path / "theirs_aicore.pth").exists()


def test_an_unknown_library(tmp_path):
    with pytest.raises(ConfigError, match=r"--from sm: .* Did you mean 'smp'\? It takes those of"):
        convert_weights(CONFIG, tmp_path / "theirs.pth", "sm", options=OPTIONS)


def test_a_task_without_such_libraries(tmp_path):
    config = CONFIGS / "classification/resnet18.py"

    with pytest.raises(ConfigError, match="It takes those of: none"):
        convert_weights(config, "a.pth", "smp", options={"classes": ("a", "b")})
