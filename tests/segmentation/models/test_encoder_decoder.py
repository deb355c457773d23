from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from aicore.errors import ConfigError
from aicore.registry import MODELS
from aicore.runtime.tiling import tile_weight
from tests.segmentation.models.conftest import build, with_labels

TILES = dict(mode="slide", crop_size=(64, 64), stride=(48, 48))


@pytest.fixture
def model():
    return build()


def logits(model, images):
    with torch.no_grad():
        return model(images, mode="tensor")


def preprocessor(**settings):
    return MODELS.build(
        dict(type="aicore.SegmentationPreprocessor", size_divisor=1, **settings)
    ).eval()


# ---- any size ----


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 31), (1, 1)])
def test_logits_have_the_size_of_the_image(model, size):
    assert logits(model, torch.randn(2, 3, *size)).shape == (2, 4, *size)


def test_padding_is_at_the_bottom_and_the_right_and_cut_off(model):
    image = torch.randn(1, 3, 50, 90)

    padded = logits(model, F.pad(image, (0, 6, 0, 14)))

    assert torch.equal(logits(model, image), padded[:, :, :50, :90])


def test_a_loss_does_not_count_the_padding(model):
    image, samples = torch.randn(2, 3, 50, 90), with_labels(2, (50, 90))
    model.decode_head.loss_decode.avg_non_ignore = True

    loss = model(image, samples, mode="loss")["decode.loss_ce"]

    label = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    expected = F.cross_entropy(model(image, mode="tensor"), label, ignore_index=255)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert samples[0].gt_sem_seg.shape == (50, 90)  # what was given is not changed


# ---- predictions ----


def test_predictions_have_the_original_size(model):
    image, samples = torch.randn(1, 3, 64, 64), with_labels(1, (100, 130))

    (sample,) = model(image, samples, mode="predict")

    expected = F.interpolate(logits(model, image), (100, 130), mode="bilinear")[0]
    assert torch.allclose(sample.seg_logits.data, expected, atol=1e-6)
    assert torch.equal(sample.pred_sem_seg.data, expected.argmax(dim=0, keepdim=True))


def test_a_prediction_depends_on_its_image_alone(model):
    sizes = [(64, 64), (50, 90), (64, 64), (32, 40)]
    images = [torch.randn(3, *size) for size in sizes]
    alone = [
        model(image[None], with_labels(1, size), mode="predict")[0]
        for image, size in zip(images, sizes, strict=True)
    ]

    together = model(images, [with_labels(1, size)[0] for size in sizes], mode="predict")

    for a, b, size in zip(alone, together, sizes, strict=True):
        assert b.pred_sem_seg.shape == size
        # Alone and in a batch, sums are added up in another order.
        assert torch.allclose(a.seg_logits.data, b.seg_logits.data, rtol=1e-4, atol=1e-4)


def test_predictions_without_data_samples(model):
    (sample,) = model(torch.randn(1, 3, 50, 90), mode="predict")

    assert sample.pred_sem_seg.shape == (50, 90)


# ---- tiles ----


def test_tiles_by_a_plain_loop(model):
    tiled = build(model=dict(test_cfg=TILES))
    tiled.load_state_dict(model.state_dict())
    image = torch.randn(2, 3, 64, 130)

    found = logits(tiled, image)

    weight = torch.from_numpy(tile_weight((64, 64), (16, 16)))
    total, weights = torch.zeros(2, 4, 64, 130), torch.zeros(64, 130)
    for left in (0, 48, 66):
        total[..., left : left + 64] += logits(model, image[..., left : left + 64]) * weight
        weights[:, left : left + 64] += weight
    assert torch.allclose(found, total / weights, atol=1e-5)


def test_many_tiles_are_judged_a_few_at_a_time(model, monkeypatch):
    tiled = build(model=dict(test_cfg=TILES))
    batches = []
    monkeypatch.setattr(
        tiled, "_whole", lambda x: batches.append(len(x)) or torch.zeros(len(x), 4, *x.shape[2:])
    )

    logits(tiled, torch.randn(2, 3, 200, 200))

    assert sum(batches) == 2 * 16
    assert max(batches) <= 8


@pytest.mark.parametrize("size", [(64, 64), (50, 40), (30, 200)])
def test_an_image_smaller_than_a_tile(model, size):
    tiled = build(model=dict(test_cfg=TILES))
    tiled.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, *size)

    found = logits(tiled, image)

    assert found.shape == (1, 4, *size)
    if max(size) <= 64:
        assert torch.allclose(found, logits(model, image), atol=1e-6)


@pytest.mark.parametrize(
    ("test_cfg", "reason"),
    [
        (dict(mode="tiles"), "expected dict"),
        (dict(mode="slide"), "expected dict"),
        (dict(mode="slide", crop_size=(64, 64), stride=(0, 9)), "in whole pixels"),
        (dict(mode="slide", crop_size=(64, 64.5), stride=(9, 9)), "in whole pixels"),
        (dict(mode="slide", crop_size=(64, 64), stride=(65, 9)), "would not be looked at"),
    ],
)
def test_a_wrong_test_cfg(test_cfg, reason):
    with pytest.raises(ConfigError, match=reason):
        build(model=dict(test_cfg=test_cfg))


# ---- channels of the heads ----


def test_heads_get_their_channels_from_the_encoder():
    auxiliary = [
        dict(type="FCNHead", in_index=2, channels=8, num_classes=4, out_channels=4),
        dict(type="FCNHead", in_channels=192, in_index=3, channels=8, num_classes=4),
    ]
    model = build("PSPHead", channels=8, out_channels=4, model=dict(auxiliary_head=auxiliary))

    assert model.decode_head.in_channels == 96
    assert [head.in_channels for head in model.auxiliary_head] == [48, 192]


def test_a_head_over_several_levels():
    model = build(
        "SegformerHead", in_index=[1, 2, 3, 4], channels=8, out_channels=4, norm_cfg=dict(type="BN")
    )

    assert model.decode_head.in_channels == [32, 48, 192, 96]


# ---- the preprocessor ----


def test_images_are_normalised_and_turned_to_rgb():
    image = torch.tensor([[[10]], [[20]], [[30]]], dtype=torch.uint8)  # blue, green, red

    data = preprocessor(mean=[1, 2, 3], std=[1, 2, 4], bgr_to_rgb=True)(
        {"inputs": [image], "data_samples": with_labels(1, (1, 1))}
    )

    assert data["inputs"].flatten().tolist() == [29, 9, 1.75]


def test_test_images_of_different_sizes_stay_apart():
    images = [torch.full((1, 4, 5), 3.0), torch.full((1, 6, 5), 5.0)]
    samples = [with_labels(1, (4, 5))[0], with_labels(1, (6, 5))[0]]

    data = preprocessor(mean=[1], std=[2])({"inputs": images, "data_samples": samples})

    assert [tuple(image.shape) for image in data["inputs"]] == [(1, 4, 5), (1, 6, 5)]
    assert [image.mean().item() for image in data["inputs"]] == [1, 2]
    assert [sample.gt_sem_seg.shape for sample in data["data_samples"]] == [(4, 5), (6, 5)]


def test_training_images_of_different_sizes_are_padded_and_the_padding_ignored():
    images = [torch.ones(1, 4, 5), torch.ones(1, 6, 5)]
    samples = [with_labels(1, (4, 5))[0], with_labels(1, (6, 5))[0]]

    data = preprocessor(mean=[0], std=[1])({"inputs": images, "data_samples": samples}, True)

    assert data["inputs"].shape == (2, 1, 6, 5)
    assert not data["inputs"][0, :, 4:].any()
    assert (data["data_samples"][0].gt_sem_seg.data[:, 4:] == 255).all()
