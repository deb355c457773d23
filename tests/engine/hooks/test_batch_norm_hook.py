from __future__ import annotations

import copy
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from aicore.apis import train
from aicore.config import load_config, without_pretrained
from aicore.engine.hooks.batch_norm_hook import BatchNormHook
from aicore.registry import MODELS
from tests.conftest import REPOSITORY


def attach(model: nn.Module) -> ExitStack:
    """Attaches the hook, and returns what takes it away again."""
    on_exit = ExitStack()
    BatchNormHook().before_train(SimpleNamespace(model=model, on_exit=on_exit))
    return on_exit


def test_a_single_value_per_channel_is_normalised_by_the_running_statistics():
    norm = nn.BatchNorm2d(3).train()
    norm.running_mean += 1
    norm.running_var *= 4
    values = torch.tensor([3.0, 5.0, 1.0]).view(1, 3, 1, 1)

    with attach(norm):
        assert norm(values).flatten().tolist() == pytest.approx([1, 2, 0], abs=1e-4)
        assert norm.running_mean.tolist() == [1, 1, 1]
        assert norm.training

    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(values)


@pytest.mark.parametrize("training", [True, False])
def test_otherwise_it_is_torchs(training):
    own = nn.BatchNorm2d(3).train(training)
    torchs = copy.deepcopy(own)
    values = torch.randn(2, 3, 4, 4)

    with attach(own):
        assert torch.equal(own(values), torchs(values))
        assert torch.equal(own.running_var, torchs.running_var)
        if not training:
            own(values[:1, :, :1, :1])
        assert own.training == training


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("classification/resnet18.py", {}),
        ("classification/resnet18.py", {"model_name": "mobilenetv4_conv_small"}),
        ("segmentation/unet_resnet18.py", {}),
        ("segmentation/pspnet_resnet50.py", {"model_name": "test_resnet.r160_in1k"}),
        ("segmentation/deeplabv3plus_resnet50.py", {"model_name": "test_resnet.r160_in1k"}),
        ("detection/yolox_nano.py", {}),
        ("anomaly/padim_resnet18.py", {}),
    ],
)
def test_the_models_of_all_tasks_take_one_small_image(config, options):
    classes = ("good", "defective")
    settings = load_config(REPOSITORY / "configs" / config, {"image_size": 32, **options}, classes)
    init_default_scope(settings.default_scope)
    model = MODELS.build(without_pretrained(settings.model)).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.training for norm in norms]

    with attach(model):
        model(torch.rand(1, 3, 32, 32), mode="tensor")

    assert bool(norms) == (not config.startswith("anomaly"))  # PaDiM folds its norms
    assert [norm.training for norm in norms] == before


@pytest.mark.parametrize(
    ("batch_size", "model_name"), [(1, "test_resnet.r160_in1k"), (23, "mobilenetv4_conv_small")]
)
def test_a_training_with_batches_of_one(small_config, tmp_path, capsys, batch_size, model_name):
    config = small_config(batch_size=batch_size, model_name=model_name)  # 24 images

    runner = train(config, work_dir=tmp_path / "run")

    assert runner.iter == 24 // batch_size + (batch_size > 1)
    assert all(weight.isfinite().all() for weight in runner.model.state_dict().values())
    warnings = capsys.readouterr().out.count("uses its running statistics instead")
    assert warnings == 1
    assert not any(module._forward_pre_hooks for module in runner.model.modules())
