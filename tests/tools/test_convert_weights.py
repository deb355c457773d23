from __future__ import annotations

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from mmengine.registry import DefaultScope

from aicore.config import load_config
from aicore.engine.checkpoint import inference_weights, read_checkpoint
from aicore.registry import MODELS

CONFIG = Path(__file__).parents[2] / "configs/segmentation/unet_resnet18.py"
TOOL = "tools/misc/convert_weights.py"
OPTIONS = {"model_name": "test_resnet.r160_in1k", "classes": ("background", "dent")}


@pytest.fixture
def theirs(tmp_path):
    """smp's UNet and its weights' file."""
    torch.manual_seed(0)
    network = smp.Unet(f"tu-{OPTIONS['model_name']}", encoder_weights=None, classes=2).eval()
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    return network, tmp_path / "theirs.pth"


def convert(call_tool, file: Path, *arguments: str, source: str = "smp"):
    options = [f"{key}={value}" for key, value in OPTIONS.items()]
    return call_tool(TOOL, CONFIG, file, "--from", source, "--cfg-options", *options, *arguments)


def test_the_converted_weights_predict_the_same(call_tool, theirs):
    network, file = theirs

    done = convert(call_tool, file)

    assert done.returncode == 0, done.stderr
    written = file.with_name("theirs_aicore.pth")
    assert done.stdout == f"weights in {written}\n"
    checkpoint = read_checkpoint(written)
    assert checkpoint["meta"]["dataset_meta"]["classes"] == OPTIONS["classes"]
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(load_config(CONFIG, OPTIONS).model).eval()
    model.load_state_dict(inference_weights(checkpoint))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(model(images), network(images), atol=1e-5)


def test_another_library(call_tool, theirs):
    done = convert(call_tool, theirs[1], source="spm")

    assert done.returncode == 1
    assert done.stderr.startswith("error: --from spm: ")
    assert "Did you mean 'smp'?" in done.stderr


def test_another_network(call_tool, theirs):
    done = convert(call_tool, theirs[1], "classes=a,b,c")

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "conv_seg" in done.stderr
    assert not theirs[1].with_name("theirs_aicore.pth").exists()
