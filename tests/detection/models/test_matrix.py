"""Every size of YOLOX through the same tests."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from mmdet.structures import DetDataSample
from torch import nn

from tests.detection.models.conftest import build, with_boxes

# Millions of parameters for 80 classes, as the authors give them.
PARAMETERS = {"nano": 0.91, "tiny": 5.06, "s": 9.0, "m": 25.3, "l": 54.2, "x": 99.1}


class Network(nn.Module):
    """What is exported: from images to boxes and scores."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images, mode="tensor")


def loss_of(model, images, samples) -> torch.Tensor:
    return sum(model(images, samples, mode="loss").values())


def check_gradients(model, images, samples) -> None:
    total = loss_of(model, images, samples)
    total.backward()
    assert total.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def close(found, expected) -> bool:
    """Whether outputs agree, boxes to a hundredth of a pixel and scores to 1e-4."""
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    return torch.allclose(found[..., :4], expected[..., :4], rtol=1e-4, atol=1e-2) and (
        torch.allclose(found[..., 4:], expected[..., 4:], atol=1e-4)
    )


@pytest.mark.parametrize(
    "size", ["nano", "tiny", "s", *(pytest.param(s, marks=pytest.mark.slow) for s in "mlx")]
)
def test_loss_backward_and_prediction_of_every_size(size, tmp_path):
    model = build(tmp_path, model_size=size).train()
    images, samples = torch.rand(1, 3, 64, 64) * 255, with_boxes(1, (64, 64))
    classes = sum(head.weight[:1].numel() + 1 for head in model.bbox_head.multi_level_conv_cls)

    check_gradients(model, images, samples)

    with torch.no_grad():
        (sample,) = model.eval()(images, samples, mode="predict")
        assert model(images).shape == (1, 84, 8)
    assert set(sample.pred_instances.keys()) == {"bboxes", "scores", "labels"}
    count = sum(parameter.numel() for parameter in model.parameters()) + 76 * classes
    assert count / 1e6 == pytest.approx(PARAMETERS[size], rel=0.01)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("boxes", [3, 0])
@pytest.mark.parametrize(("count", "side"), [(2, (64, 96)), (1, (64, 64)), (1, (65, 90))])
@pytest.mark.parametrize("use_l1", [False, True])
def test_loss_and_backward(in_channels, boxes, count, side, use_l1, tmp_path):
    model = build(tmp_path, in_channels).train()
    model.bbox_head.use_l1 = use_l1

    check_gradients(
        model, torch.rand(count, in_channels, *side) * 255, with_boxes(count, side, boxes)
    )


def test_images_with_and_without_boxes_in_a_batch(tmp_path):
    samples = with_boxes(1, (64, 64)) + with_boxes(1, (64, 64), 0)

    check_gradients(build(tmp_path).train(), torch.rand(2, 3, 64, 64) * 255, samples)


def test_boxes_that_no_prior_is_near(tmp_path):
    samples = with_boxes(1, (64, 64))
    samples[0].gt_instances.bboxes += 1000

    check_gradients(build(tmp_path).train(), torch.rand(1, 3, 64, 64) * 255, samples)


def test_a_training_step_lowers_the_loss(tmp_path):
    model = build(tmp_path).train()
    images, samples = torch.rand(2, 3, 64, 64) * 255, with_boxes(2, (64, 64))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    history = []
    for _ in range(8):
        total = loss_of(model, images, samples)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())

    assert history[-1] < history[0]


def test_the_network_of_tiles_is_that_of_whole_images(tmp_path):
    """What is exported of a model that tests by tiles."""
    images = torch.rand(1, 3, 64, 160) * 255

    with torch.no_grad():
        assert close(build(tmp_path, tile_size=64)(images), build(tmp_path)(images))


def test_the_exported_model_computes_the_same_for_any_number_of_images(tmp_path):
    model = build(tmp_path, in_channels=1)
    file = tmp_path / "model.onnx"

    program = torch.onnx.export(
        Network(model).eval(),
        (torch.rand(2, 1, 65, 90) * 255,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("count")},),
        verbose=False,
    )
    program.save(str(file))

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = torch.rand(count, 1, 65, 90) * 255
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        assert found.dtype == np.float32
        with torch.no_grad():
            assert close(found, model(images))


@pytest.mark.slow
def test_the_compiled_model_trains_the_same(tmp_path):
    plain, compiled = build(tmp_path).train(), build(tmp_path).train()
    for part in (compiled.backbone, compiled.neck, compiled.bbox_head):  # as aicore.CompileHook
        part.compile(backend="aot_eager")
    images, samples = torch.rand(2, 3, 64, 64) * 255, with_boxes(2, (64, 64))
    for model in (plain, compiled):
        loss_of(model, images, samples).backward()

    for (name, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-3), name


def test_a_prediction_without_data_samples(tmp_path):
    with torch.no_grad():
        (found,) = build(tmp_path)(torch.rand(1, 3, 64, 64) * 255, mode="predict")

    assert isinstance(found, DetDataSample)
    assert (found.pred_instances.bboxes <= 64).all()
