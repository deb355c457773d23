"""Every model of the configs through the same tests, on small encoders."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from aicore.config import load_config
from aicore.engine.hooks.batch_norm_hook import BatchNormHook
from aicore.registry import MODELS
from tests.segmentation.models.conftest import SMALL, unlike_new, with_labels

CONFIGS = Path(__file__).parents[3] / "configs/segmentation"
NAMES = ("unet", "unetplusplus", "pspnet", "deeplabv3", "deeplabv3plus")
CLASSES = ("background", "scratch", "spot", "dent")


def build(name: str, in_channels: int = 3, **options) -> nn.Module:
    """Builds the model of a leaf config on a small encoder."""
    leaf = next(CONFIGS.glob(f"{name}_resnet50.py"))
    settings = {"model_name": SMALL, "in_channels": in_channels, "image_size": 64}
    if name.startswith(("pspnet", "deeplab")):
        settings["model.decode_head.channels"] = 16
        settings["model.auxiliary_head.channels"] = 8
    config = load_config(leaf, {**settings, **options}, CLASSES)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    unlike_new(model)
    return model.eval()


class Network(nn.Module):
    """What is exported: from normalised images to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images, mode="tensor")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize(("count", "size"), [(2, (64, 64)), (1, (65, 50)), (1, (64, 64))])
def test_loss_backward_and_prediction(name, in_channels, count, size):
    model = build(name, in_channels).train()
    # As in every training; whole images are pooled to a single value per channel.
    BatchNormHook().before_train(SimpleNamespace(model=model, on_exit=ExitStack()))
    images, samples = torch.randn(count, in_channels, *size), with_labels(count, size)

    losses = model(images, samples, mode="loss")
    total = sum(value for key, value in losses.items() if "loss" in key)
    total.backward()

    assert total.isfinite()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    predicted = model.eval()(images, samples, mode="predict")
    assert [sample.pred_sem_seg.shape for sample in predicted] == [size] * count
    assert torch.allclose(predicted[0].seg_logits.data, model(images)[0], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_lowers_the_loss(name):
    model = build(name).train()
    images, samples = torch.randn(2, 3, 64, 64), with_labels(2, (64, 64))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    history = []
    for _ in range(6):
        losses = model(images, samples, mode="loss")
        total = sum(value for key, value in losses.items() if "loss" in key)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())

    assert history[-1] < history[0]


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("unet", {}, (65, 50)),
        *(pytest.param(name, {}, (65, 50), marks=pytest.mark.slow) for name in NAMES[1:]),
        pytest.param("unet", {"tile_size": 64}, (64, 100), marks=pytest.mark.slow),
    ],
    ids=[*NAMES, "tiles"],
)
def test_the_exported_model_computes_the_same(name, options, size, tmp_path):
    model = build(name, **options)
    images = torch.randn(1, 3, *size)
    file = tmp_path / "model.onnx"

    program = torch.onnx.export(Network(model).eval(), (images,), dynamo=True, verbose=False)
    program.save(str(file))

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        expected = model(images).numpy()
    assert found.shape == (1, 4, *size)
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_one_exported_file_takes_images_of_any_size(tmp_path):
    model = build("unetplusplus")
    file = tmp_path / "model.onnx"
    free = {
        axis: torch.export.Dim(text) for axis, text in ((0, "count"), (2, "height"), (3, "width"))
    }

    program = torch.onnx.export(
        Network(model).eval(),
        (torch.randn(2, 3, 80, 96),),
        dynamo=True,
        dynamic_shapes=(free,),
        verbose=False,
    )
    program.save(str(file))

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 64), (3, 3, 65, 50), (2, 3, 33, 130)):
        images = torch.randn(*shape)
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        with torch.no_grad():
            assert np.allclose(found, model(images).numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_model_computes_the_same(name):
    model = build(name)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        for part in model.children():  # as aicore.CompileHook does
            if next(part.parameters(), None) is not None:
                part.compile(backend="aot_eager")
        found = model(images)

    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "unetplusplus"])
def test_the_compiled_model_trains_the_same(name):
    plain, compiled = build(name).train(), build(name).train()
    for part in (compiled.backbone, compiled.decode_head):
        part.compile(backend="aot_eager")
    images, samples = torch.randn(2, 3, 64, 64), with_labels(2, (64, 64))
    for model in (plain, compiled):
        sum(model(images, samples, mode="loss").values()).backward()

    for (key, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-5), key
