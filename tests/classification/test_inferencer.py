from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
import torch

from aicore.classification import ClassificationInferencer
from aicore.errors import AicoreError, ImageError
from aicore.runtime.images import read_image


@pytest.fixture(scope="module")
def inferencer(trained):
    return ClassificationInferencer(trained.config, trained.checkpoint, device="cpu")


@pytest.fixture(scope="module")
def image(trained):
    return trained.data_root / "val" / "striped" / "striped_0.png"


def test_a_map_of_a_file_and_of_its_array(inferencer, image):
    from_file = inferencer.activation_map(image)
    from_array = inferencer.activation_map(read_image(image))

    assert from_file.shape == (32, 32, 3)
    assert from_file.dtype == np.uint8
    assert np.array_equal(from_file, from_array)
    assert not np.array_equal(from_file, read_image(image))


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_the_map_has_the_size_of_the_image(inferencer, depth):
    picture = np.random.default_rng(0).integers(0, np.iinfo(depth).max, (45, 70), depth)

    assert inferencer.activation_map(picture).shape == (45, 70, 3)


def test_a_map_changes_no_prediction(inferencer, image):
    before = inferencer(image)["predictions"]

    inferencer.activation_map(image)

    assert inferencer(image)["predictions"] == before
    assert not inferencer.model.training


def test_the_map_is_of_the_deepest_layer_with_height_and_width(inferencer):
    layer = inferencer._last_feature_layer(torch.zeros(1, 3, 32, 32))

    outputs = []
    handle = layer.register_forward_hook(lambda *parts: outputs.append(parts[2]))
    inferencer.model(torch.zeros(1, 3, 32, 32))
    handle.remove()
    assert outputs[0].shape == (1, 256, 2, 2)  # resnet18's next maps are 1 x 1


def test_a_broken_file(inferencer, tmp_path):
    (tmp_path / "b.png").write_bytes(b"")

    with pytest.raises(ImageError, match=r"b\.png: the file is empty"):
        inferencer.activation_map(tmp_path / "b.png")


def test_without_the_library(inferencer, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)

    with pytest.raises(AicoreError, match=r"need the package grad-cam: pip install"):
        inferencer.activation_map(image)


def test_a_model_without_feature_maps(inferencer, image, monkeypatch):
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3))
    flat.data_preprocessor = lambda batch: {"inputs": torch.zeros(1, 3, 32, 32)}
    monkeypatch.setattr(inferencer, "model", flat)

    with pytest.raises(AicoreError, match=r"need a model with feature maps"):
        inferencer.activation_map(image)


def test_pictures_can_be_written(inferencer, image, tmp_path):
    cv2.imwrite(str(tmp_path / "cam.png"), inferencer.activation_map(image))

    assert cv2.imread(str(tmp_path / "cam.png")).shape == (32, 32, 3)
