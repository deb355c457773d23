from __future__ import annotations

import pytest
import torch
from mmdet.models.task_modules import MlvlPointGenerator
from mmdet.structures import DetDataSample
from torch import nn

from aicore.detection.models import DetectionPreprocessor
from aicore.errors import ConfigError
from aicore.registry import MODELS
from tests.detection.models.conftest import build, model_config, with_boxes


class Bright:
    """Stands in for a network: finds each filled rectangle, brighter than 150, of an image.

    Its class is the tens of its brightness above 150, its score 0.9. What a tile cuts off it does
    not see.
    """

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        output = torch.zeros(len(images), 6, 4 + 3)
        for image, found in zip(images, output, strict=True):
            levels = [level for level in image.unique().tolist() if level > 150]
            for row, level in zip(found, levels, strict=False):
                y, x = (image[0] == level).nonzero().T
                row[:4] = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
                row[4 + int(level - 150) // 10] = 0.9
        return output


@pytest.fixture
def stub(tmp_path):
    """A function that builds a model with :class:`Bright` for its network."""

    def make(**options):
        model = build(tmp_path, in_channels=1, classes=("a", "b", "c"), **options)
        model._forward = Bright()
        return model

    return make


def picture(height: int, width: int, *rectangles) -> torch.Tensor:
    """A grey image, 1 x height x width, with rectangles (x1, y1, x2, y2, class)."""
    image = torch.full((1, height, width), 60.0)
    for index, (x1, y1, x2, y2, label) in enumerate(rectangles):
        image[:, y1:y2, x1:x2] = 151 + 10 * label + index
    return image


def boxes(model, image) -> set[tuple[float, ...]]:
    (sample,) = model.predict(image[None])
    found = sample.pred_instances
    return {
        (*box, int(label)) for box, label in zip(found.bboxes.tolist(), found.labels, strict=True)
    }


# ---- tiles ----


def test_tiles_find_what_the_whole_image_shows(stub):
    rectangles = [(10, 10, 30, 25, 0), (140, 20, 160, 60, 1), (100, 100, 120, 118, 2)]
    image = picture(128, 192, *rectangles)

    assert boxes(stub(), image) == boxes(stub(tile_size=96), image) == set(rectangles)


@pytest.mark.parametrize(
    "rectangle",
    [
        (80, 10, 100, 40, 0),  # at the border of the first tile
        (66, 10, 90, 40, 0),  # at the left border of the second one, which begins at 72
        (10, 62, 40, 84, 1),  # between rows
        (70, 70, 90, 90, 2),  # in the corner of four tiles
        (74, 10, 94, 40, 0),  # within the overlap
        (60, 70, 80, 90, 1),
    ],
)
def test_an_object_that_crosses_a_border_is_found_once(stub, rectangle):
    image = picture(160, 160, rectangle)

    assert boxes(stub(tile_size=96), image) == {rectangle}


def test_tiles_of_several_images_at_once(stub):
    first, second = (10, 10, 30, 25, 0), (80, 10, 100, 40, 1)
    images = torch.stack([picture(64, 400, first), picture(64, 400, second)])
    model = stub(tile_size=96)
    sizes = []
    network = model._forward
    model._forward = lambda tiles: (sizes.append(tiles.shape), network(tiles))[1]

    found = model.predict(images)

    for sample, rectangle in zip(found, (first, second), strict=True):
        assert sample.pred_instances.bboxes.tolist() == [list(map(float, rectangle[:4]))]
    assert all(shape[1:] == (1, 64, 96) and shape[0] <= 8 for shape in sizes)
    assert sum(shape[0] for shape in sizes) == 2 * 6


def test_an_image_smaller_than_a_tile(stub):
    rectangle = (10, 10, 30, 25, 0)

    assert boxes(stub(tile_size=(96, 128)), picture(50, 60, rectangle)) == {rectangle}


# ---- predictions ----


def test_boxes_are_in_the_original_image(stub):
    meta = {"ori_shape": (50, 130), "scale_factor": (0.5, 0.4)}
    sample = DetDataSample(metainfo=meta)
    image = picture(64, 64, (10, 8, 60, 12, 1), (0, 10, 8, 40, 0), (2, 50, 9, 60, 2))

    (found,) = stub().predict(image[None], [sample])

    assert found is sample
    assert sorted(found.pred_instances.bboxes.tolist()) == [[0, 25, 16, 50], [20, 20, 120, 30]]


def test_images_of_different_sizes_do_not_change_each_other(tmp_path):
    model = build(tmp_path, score_threshold=0.0)
    images = [
        torch.randint(0, 255, (3, *size), dtype=torch.uint8)
        for size in ((64, 64), (96, 70), (64, 64))
    ]
    meta = {"scale_factor": (1.0, 1.0)}

    def test(indices):
        samples = [DetDataSample(metainfo={**meta, "ori_shape": (96, 96)}) for _ in indices]
        with torch.no_grad():
            return model.test_step(
                {"inputs": [images[index] for index in indices], "data_samples": samples}
            )

    together, alone = test([0, 1, 2]), [test([index])[0] for index in range(3)]
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a.pred_instances.bboxes, b.pred_instances.bboxes, atol=1e-3)
        assert torch.allclose(a.pred_instances.scores, b.pred_instances.scores, atol=1e-5)


def test_the_output_is_boxes_and_scores(tmp_path):
    model = build(tmp_path)

    with torch.no_grad():
        output = model(torch.rand(2, 3, 64, 96) * 255)

    assert output.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 4 + 4)
    assert (output[..., 2:4] > output[..., :2]).all()
    assert ((output[..., 4:] >= 0) & (output[..., 4:] <= 1)).all()


def test_the_output_is_what_mmdets_head_finds(tmp_path):
    """Its own prediction, with non-maximum suppression left out."""
    model = build(tmp_path)
    images = torch.rand(1, 3, 64, 64) * 255
    metas = [{"scale_factor": (1.0, 1.0)}]

    with torch.no_grad():
        outputs = model.bbox_head(model.extract_feat(images))
        (expected,) = model.bbox_head.predict_by_feat(
            *outputs, metas, cfg=model.test_cfg | {"score_thr": 0.0}, with_nms=False
        )
        found = model(images)[0]

    assert torch.allclose(found[:, :4], expected.bboxes, atol=1e-4)
    assert torch.allclose(found[:, 4:].max(dim=1).values, expected.scores, atol=1e-6)


# ---- preprocessor ----


def test_training_images_are_padded_to_one_size():
    images = [torch.ones(1, *size, dtype=torch.uint8) for size in ((4, 6), (5, 3))]

    batch = DetectionPreprocessor(pad_value=114)({"inputs": images, "data_samples": None}, True)

    assert batch["inputs"].shape == (2, 1, 5, 6)
    assert batch["inputs"][0, 0, 4].tolist() == [114] * 6
    assert batch["inputs"][1, 0, :, :3].eq(1).all()


def test_test_images_stay_apart():
    images = [torch.ones(3, *size, dtype=torch.uint8) for size in ((4, 6), (5, 3))]
    samples = [DetDataSample(metainfo={"img_id": index}) for index in range(2)]

    batch = DetectionPreprocessor()({"inputs": images, "data_samples": samples})

    assert [image.shape for image in batch["inputs"]] == [(3, 4, 6), (3, 5, 3)]
    assert [sample.img_id for sample in batch["data_samples"]] == [0, 1]
    assert batch["inputs"][0].dtype == torch.float32


# ---- losses ----


def test_losses_in_bfloat16_are_those_in_float32(tmp_path):
    model = build(tmp_path).train()
    images, samples = torch.rand(2, 3, 64, 64) * 255, with_boxes(2, (64, 64))
    exact = model.loss(images, samples)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(images, samples)
    sum(losses.values()).backward()

    assert all(value.dtype == torch.float32 for value in losses.values())
    assert all(value.isfinite() for value in losses.values())
    assert losses["loss_obj"].item() == pytest.approx(exact["loss_obj"].item(), rel=0.3)


def test_the_losses_are_mmdets(tmp_path):
    config = model_config(tmp_path).model
    torch.manual_seed(0)
    model = MODELS.build(config).train()
    plain = {key: value for key, value in config.backbone.items() if key != "in_channels"}
    peer = MODELS.build(
        dict(
            type="mmdet.YOLOX",
            data_preprocessor=dict(type="DetDataPreprocessor"),
            backbone={**plain, "type": "CSPDarknet"},
            neck=dict(config.neck),
            bbox_head={**config.bbox_head, "type": "YOLOXHead"},
            train_cfg=dict(assigner=dict(type="SimOTAAssigner")),
            test_cfg=dict(score_thr=0.01),
        )
    ).train()
    peer.load_state_dict(model.state_dict())
    images, samples = torch.rand(2, 3, 64, 64) * 255, with_boxes(2, (64, 64))

    for use_l1 in (False, True):
        model.bbox_head.use_l1 = peer.bbox_head.use_l1 = use_l1
        found, expected = model.loss(images, samples), peer.loss(images, samples)
        assert ("loss_l1" in found) == use_l1
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert value.item() == pytest.approx(expected[name].item(), rel=1e-4), name


@pytest.mark.parametrize("row_major", [True, False])
def test_points_are_mmdets_without_a_warning(tmp_path, recwarn, row_major):
    points = build(tmp_path).bbox_head.prior_generator
    theirs = MlvlPointGenerator([8, 16, 32], offset=0)

    ours = points.grid_priors([(2, 3), (1, 2), (1, 1)], device="cpu", with_stride=True)
    grid = points._meshgrid(torch.arange(3), torch.arange(2), row_major)

    assert not recwarn.list
    expected = theirs.grid_priors([(2, 3), (1, 2), (1, 1)], device="cpu", with_stride=True)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
    expected = theirs._meshgrid(torch.arange(3), torch.arange(2), row_major)
    assert all(torch.equal(a, b) for a, b in zip(grid, expected, strict=True))


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"score_threshold": 2}, r"model\.test_cfg\.score_threshold = 2: expected a number from 0"),
        ({"iou_threshold": "x"}, r"model\.test_cfg\.iou_threshold = 'x': expected a number"),
        ({"max_per_img": 0}, r"model\.test_cfg\.max_per_img = 0: expected a whole number"),
        ({"model.test_cfg.mode": "slide"}, r"expected dict\(mode='whole'\) or dict\(mode='tiles'"),
        ({"tile_size": (0, 64)}, r"expected dict\(mode='whole'\) or dict\(mode='tiles'"),
        ({"tile_size": 64, "tile_overlap": -0.5}, r"stride = \(96, 96\) is larger than size"),
    ],
)
def test_a_bad_test_cfg(tmp_path, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(tmp_path, **options)


def test_an_unknown_size(tmp_path):
    with pytest.raises(ConfigError, match=r"factors\[model_size\].* cannot be worked out: .*huge"):
        model_config(tmp_path, model_size="huge")


@pytest.mark.parametrize("tile_size", [None, 64])
def test_sizes_without_bounds_are_boxes_and_nan_is_none(tmp_path, tile_size):
    """As of a network after its first iterations: the exponential of a size is infinite."""
    test_cfg = {"score_threshold": 0.0}
    if tile_size:
        test_cfg |= {"mode": "tiles", "size": (tile_size, tile_size), "stride": (48, 48)}
    model = build(tmp_path, **{f"model.test_cfg.{key}": value for key, value in test_cfg.items()})
    for layer in model.bbox_head.multi_level_conv_reg:
        nn.init.constant_(layer.bias, 200.0)

    (sample,) = model.predict(torch.rand(1, 3, 96, 96) * 255, [DetDataSample()])

    assert sample.get("not_inspected") is None
    assert sample.pred_instances.bboxes.isfinite().all()
    for layer in model.bbox_head.multi_level_conv_reg:
        nn.init.constant_(layer.bias, float("nan"))
    (sample,) = model.predict(torch.rand(1, 3, 96, 96) * 255, [DetDataSample()])
    assert "NaN" in sample.not_inspected
