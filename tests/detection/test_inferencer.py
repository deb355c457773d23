from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from aicore.config import load_config
from aicore.detection.inferencer import DetectionInferencer
from aicore.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs" / "_base_"
CLASSES = ("scratch", "spot", "dent")
LEAF = f"""
_base_ = {[(CONFIGS / part).as_posix() for part in ("models/yolox.py", "datasets/detection.py")]}
classes = {CLASSES}
image_size = 64
score_threshold = 0.0
max_per_img = 20
tile_size = None
tile_overlap = 0.25
test_pipeline = [
    "${{load_image}}",
    dict(type="aicore.Letterbox", size=(64, 64)),
    "${{load_boxes}}",
    "${{pack}}",
]
"""


@pytest.fixture(scope="module")
def inferencer(tmp_path_factory):
    """One of a network with random weights, whose scores are high."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "leaf.py").write_text(LEAF, encoding="utf-8")
    config = load_config(folder / "leaf.py")
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    for layer in (*model.bbox_head.multi_level_conv_cls, *model.bbox_head.multi_level_conv_obj):
        torch.nn.init.normal_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    content = {"state_dict": model.state_dict(), "meta": {"dataset_meta": {"classes": CLASSES}}}
    torch.save(content, folder / "best.pth")
    return DetectionInferencer(folder / "leaf.py", folder / "best.pth", device="cpu")


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def test_boxes_of_an_image(inferencer, image):
    (record,) = inferencer(image)["predictions"]

    assert set(record) == {"image", "inspected", "pred_boxes"}
    boxes = record["pred_boxes"]
    assert 0 < len(boxes) <= 20
    scores = [entry["score"] for entry in boxes]
    assert scores == sorted(scores, reverse=True)
    for entry in boxes:
        assert entry["class"] == CLASSES[entry["index"]]
        x, y, width, height = entry["box"]
        assert 0 <= x <= x + width <= 120.001
        assert 0 <= y <= y + height <= 90.001


def test_files_arrays_and_batches_say_the_same(inferencer, image, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), image)
    small = np.ascontiguousarray(image[:40, :40])

    first, _, second = inferencer([tmp_path / "a.png", small, image], batch_size=2)["predictions"]

    assert first["image"] == str(tmp_path / "a.png")
    for one, other in zip(first["pred_boxes"], second["pred_boxes"], strict=True):
        assert one["class"] == other["class"]
        assert one["box"] == pytest.approx(other["box"], abs=0.01)
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_pictures(inferencer, image):
    (picture,) = inferencer(image, draw=True)["visualization"]

    assert picture.shape[1] == 480
    assert picture.dtype == np.uint8


def test_an_image_that_cannot_be_read(inferencer, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")

    (record,) = inferencer(tmp_path / "broken.png")["predictions"]

    assert record["inspected"] is False
    assert "pred_boxes" not in record
