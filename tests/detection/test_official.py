from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope

from aicore.detection.official import from_yolox
from aicore.engine.checkpoint import inference_weights, load_weights, read_checkpoint
from aicore.errors import CheckpointError
from aicore.registry import MODELS
from tests.detection.models.conftest import model_config

DATA = Path(os.environ.get("AICORE_REAL_DATA", "does-not-exist"))
WEIGHTS = DATA.parent / "weights"
COCO = [str(index) for index in range(80)]
PERSON, BICYCLE, CAR = 0, 1, 2
SIDE = 416

with_real_data = pytest.mark.skipif(not DATA.is_dir(), reason="AICORE_REAL_DATA is not set")


@pytest.fixture(autouse=True)
def in_mmdet():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def build(folder: Path, **options):
    return MODELS.build(model_config(folder, **options).model).eval()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.backbone.stem.conv.conv.weight", "backbone.stem.conv.conv.weight"),
        ("backbone.backbone.dark2.0.conv.weight", "backbone.stage1.0.conv.weight"),
        (
            "backbone.backbone.dark2.0.dconv.bn.bias",
            "backbone.stage1.0.depthwise_conv.bn.bias",
        ),
        ("backbone.backbone.dark3.1.conv2.bn.bias", "backbone.stage2.1.short_conv.bn.bias"),
        (
            "backbone.backbone.dark4.1.m.2.conv1.conv.weight",
            "backbone.stage3.1.blocks.2.conv1.conv.weight",
        ),
        ("backbone.backbone.dark5.1.conv2.conv.weight", "backbone.stage4.1.conv2.conv.weight"),
        ("backbone.backbone.dark5.2.conv1.conv.weight", "backbone.stage4.2.main_conv.conv.weight"),
        (
            "backbone.backbone.dark5.2.m.0.conv2.pconv.bn.weight",
            "backbone.stage4.2.blocks.0.conv2.pointwise_conv.bn.weight",
        ),
        ("backbone.C3_n4.conv3.bn.bias", "neck.bottom_up_blocks.1.final_conv.bn.bias"),
        ("module.head.stems.0.conv.weight", "neck.out_convs.0.conv.weight"),
        ("head.obj_preds.2.bias", "bbox_head.multi_level_conv_obj.2.bias"),
        (
            "head.cls_convs.0.1.conv.weight",
            "bbox_head.multi_level_cls_convs.0.1.conv.weight",
        ),
        ("something.else", "something.else"),
    ],
)
def test_names(theirs, ours):
    assert list(from_yolox({theirs: torch.zeros(1)})) == [ours]


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, torch.Tensor]:
    return inference_weights(read_checkpoint(WEIGHTS / "yolox_nano_coco_416.pth"))


def street() -> tuple[torch.Tensor, DetDataSample]:
    """The street at 416 x 416, shrunk and padded as the authors do it, and what it was."""
    image = cv2.imread(str(DATA / "street.jpg"))
    scale = min(SIDE / side for side in image.shape[:2])
    size = tuple(int(side * scale) for side in image.shape[1::-1])
    padded = np.full((SIDE, SIDE, 3), 114, np.uint8)
    padded[: size[1], : size[0]] = cv2.resize(image, size)
    meta = {"ori_shape": image.shape[:2], "scale_factor": (scale, scale)}
    return torch.from_numpy(padded).permute(2, 0, 1).float(), DetDataSample(metainfo=meta)


@with_real_data
def test_the_raw_output_is_that_of_the_authors_export(checkpoint, tmp_path):
    model = build(tmp_path, classes=COCO)
    load_weights(model, from_yolox(checkpoint), strict=True, source="theirs")
    session = onnxruntime.InferenceSession(str(WEIGHTS / "yolox_nano_coco_416.onnx"))
    noise = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 255

    for image in (noise, street()[0]):
        (expected,) = session.run(None, {"images": image[None].numpy()})
        with torch.no_grad():
            classes, boxes, objects = model.bbox_head(model.extract_feat(image[None]))
            decoded = model(image[None])
        parts = [boxes, [o.sigmoid() for o in objects], [c.sigmoid() for c in classes]]
        found = torch.cat(
            [torch.cat([part.flatten(2) for part in level], 2) for level in parts], 1
        ).transpose(1, 2)

        assert found.shape == (1, 3549, 85)
        assert np.abs(found.numpy() - expected).max() <= 1e-4
        scores = torch.from_numpy(expected[..., 4:5] * expected[..., 5:])
        assert torch.allclose(decoded[..., 4:], scores, atol=1e-4)


@with_real_data
def test_persons_cars_and_the_bicycle_are_found(checkpoint, tmp_path):
    model = build(tmp_path, classes=COCO, score_threshold=0.5)
    load_weights(model, from_yolox(checkpoint), strict=True, source="theirs")
    image, sample = street()

    with torch.no_grad():
        (sample,) = model.predict(image[None], [sample])

    found = sample.pred_instances
    labels = found.labels.tolist()
    assert labels.count(PERSON) >= 4
    assert labels.count(CAR) >= 2
    assert labels.count(BICYCLE) == 1
    assert set(labels) == {PERSON, CAR, BICYCLE}
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    bicycle = found.bboxes[found.labels == BICYCLE][0]
    assert torch.allclose(bicycle, torch.tensor([779.0, 723.0, 1265.0, 1030.0]), atol=15)


@with_real_data
def test_the_street_by_tiles(checkpoint, tmp_path):
    """Tiles of the shrunk image find what the whole does, the large bicycle too."""
    model = build(tmp_path, classes=COCO, score_threshold=0.5, tile_size=320)
    load_weights(model, from_yolox(checkpoint), strict=True, source="theirs")
    image, _ = street()

    with torch.no_grad():
        (sample,) = model.predict(image[None])

    labels = sample.pred_instances.labels.tolist()
    assert labels.count(PERSON) >= 4
    assert labels.count(BICYCLE) == 1


@with_real_data
def test_a_grey_street_in_one_channel(checkpoint, tmp_path):
    colour, grey = build(tmp_path, classes=COCO), build(tmp_path, in_channels=1, classes=COCO)
    weights = from_yolox(checkpoint)
    for model in (colour, grey):
        load_weights(model, weights, strict=True, source="theirs")
    image = street()[0].mean(dim=0)

    with torch.no_grad():
        expected = colour(image.expand(1, 3, SIDE, SIDE))
        found = grey(image[None, None])

    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-2)


@with_real_data
def test_other_classes_keep_all_weights_but_theirs(checkpoint, tmp_path):
    model = build(tmp_path)

    fit = load_weights(model, from_yolox(checkpoint), strict=False, source="theirs")

    assert not fit.missing
    assert not fit.unexpected
    assert len(fit.mismatched) == 6
    assert all(key.startswith("bbox_head.multi_level_conv_cls.") for key in fit.mismatched)


@with_real_data
def test_another_size_is_refused(checkpoint, tmp_path):
    model = build(tmp_path, classes=COCO, model_size="tiny")

    with pytest.raises(CheckpointError, match=r"theirs\.pth.* does not fit the model"):
        load_weights(model, from_yolox(checkpoint), strict=True, source="theirs.pth")
