from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F  # noqa: N812

from aicore.anomaly.padim import PaDiM
from aicore.anomaly.statistics import GaussianStatistics
from aicore.backbones import TimmBackbone
from aicore.errors import ConfigError


class Pyramid(nn.Module):
    """Three feature maps, at strides 4, 8 and 16."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        sizes = (channels, 6, 8, 10)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=4 if i == 0 else 2, padding=1)
            for i, (a, b) in enumerate(pairwise(sizes))
        )

    def forward(self, images):
        features = []
        for layer in self.layers:
            images = layer(images).tanh()
            features.append(images)
        return features


def make(size=(64, 48), channels=3, **settings) -> PaDiM:
    torch.manual_seed(0)
    return PaDiM(Pyramid(channels), size, **{"num_features": 12, **settings})


def fitted(padim: PaDiM, images: torch.Tensor, roi=None) -> PaDiM:
    statistics = GaussianStatistics()
    inside = None if roi is None else padim.positions_inside(roi).flatten(1)
    statistics.update(padim.embed(images), inside)
    padim.set_gaussian(statistics.count, statistics.whitening(0.01))
    return padim


def pictures(count=20, size=(64, 48), channels=3, seed=0) -> torch.Tensor:
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed))


def joined(padim: PaDiM, images: torch.Tensor) -> torch.Tensor:
    """All channels at the largest map's size, N x C x rows x columns: the plain way."""
    maps = padim.backbone(images)
    return torch.cat([F.interpolate(m, size=maps[0].shape[2:]) for m in maps], dim=1)


# ---- embedding ----


def test_random_reduction_is_a_seeded_choice_of_channels():
    padim, images = make(seed=3), pictures(2)

    expected = joined(padim, images)[:, padim.chosen].flatten(2).transpose(1, 2)

    assert len(set(padim.chosen.tolist())) == 12
    torch.testing.assert_close(padim.embed(images), expected)
    assert torch.equal(padim.chosen, make(seed=3).chosen)
    assert not torch.equal(padim.chosen, make(seed=4).chosen)


def test_semi_orthogonal_reduction_is_a_projection_of_all_channels():
    padim, images = make(reduction="semi_orthogonal"), pictures(2)

    projection = padim.projection
    torch.testing.assert_close(projection @ projection.t(), torch.eye(12), atol=1e-5, rtol=0)
    expected = torch.einsum("dc,ncyx->nyxd", projection, joined(padim, images)).flatten(1, 2)
    torch.testing.assert_close(padim.embed(images), expected, atol=1e-5, rtol=1e-5)


def test_no_reduction_takes_all_channels():
    padim, images = make(reduction=None), pictures(2)

    torch.testing.assert_close(padim.embed(images), joined(padim, images).flatten(2).mT)


def test_the_choice_is_the_checkpoints_not_the_configs():
    trained, other = fitted(make(seed=1), pictures()), make(seed=2)

    other.load_state_dict(trained.state_dict())

    for one, two in zip(trained(pictures(3)), other(pictures(3)), strict=True):
        torch.testing.assert_close(one, two)
    assert int(other.reduction_seed) == 1


# ---- distances, maps, scores ----


def test_distances_are_mahalanobis_at_each_position():
    images = pictures(30)
    padim = fitted(make(), images)
    x = padim.embed(pictures(2, seed=9))

    distances = padim.distances(x).flatten(1)

    good = padim.embed(images).double().numpy()
    for position in (0, 17, 16 * 12 - 1):
        covariance = np.cov(good[:, position], rowvar=False) + 0.01 * np.eye(12)
        for image in range(2):
            delta = x[image, position].double().numpy() - good[:, position].mean(axis=0)
            expected = np.sqrt(delta @ np.linalg.inv(covariance) @ delta)
            assert float(distances[image, position]) == pytest.approx(expected, rel=1e-4)


def test_the_map_is_the_smoothed_distances_and_the_score_its_maximum():
    padim = fitted(make(), pictures())
    images = pictures(2, seed=5)

    scores, maps = padim(images)

    grown = F.interpolate(
        padim.distances(padim.embed(images))[:, None], size=(64, 48), mode="bilinear"
    )
    for image in range(2):
        # scipy's "mirror" is torch's "reflect": the edge is not repeated.
        expected = gaussian_filter(grown[image, 0].double().numpy(), 4.0, mode="mirror", radius=16)
        np.testing.assert_allclose(maps[image], expected, rtol=1e-4)
        assert float(scores[image]) == float(maps[image].max())


def test_an_image_is_judged_the_same_alone_and_in_a_batch():
    padim = fitted(make(), pictures())
    images = pictures(5, seed=7)

    together = padim(images)[1]

    for image, map_ in zip(images, together, strict=True):
        torch.testing.assert_close(padim(image[None])[1][0], map_, rtol=1e-5, atol=1e-5)


def test_what_lies_outside_the_roi_counts_nowhere():
    roi = torch.ones(1, 1, 64, 48)
    roi[..., 24:] = 0
    images = pictures()
    spoilt = images.clone()
    spoilt[..., 30:] = 50.0  # far from the border, beyond what the backbone sees of the inside
    padim = fitted(make(), images, roi.expand(20, -1, -1, -1))
    scores, maps = padim(pictures(1, seed=3), roi)

    assert not maps[..., 24:].any()
    assert float(scores) == float(maps[..., :24].max())
    assert not padim.count.view(16, 12)[:, 6:].any()
    assert (padim.count.view(16, 12)[:, :6] == 20).all()
    again = fitted(make(), spoilt, roi.expand(20, -1, -1, -1))
    left = torch.arange(16 * 12).view(16, 12)[:, :4].flatten()
    torch.testing.assert_close(again.mean[left], padim.mean[left])


def test_a_constant_distance_stays_constant_up_to_the_rois_border():
    padim = make()
    everywhere = (slice(None), torch.zeros(192, 12), torch.eye(12).expand(192, 12, 12))
    padim.set_gaussian(torch.full((192,), 5.0), [everywhere])
    padim.embed = lambda images: torch.ones(len(images), 192, 12)
    roi = torch.zeros(1, 1, 64, 48)
    roi[:, :, 8:40, 8:40] = 1

    _, maps = padim(pictures(1), roi)

    torch.testing.assert_close(maps, roi[:, 0] * 12**0.5, atol=1e-4, rtol=1e-4)


def test_half_precision_states_its_error():
    images = pictures(30)
    exact, half = fitted(make(), images), fitted(make(half=True), images)

    error = float(half.half_error)

    assert half.factor.dtype == torch.float16
    assert 0 < error < 2e-3
    difference = half(pictures(4, seed=2))[1] / exact(pictures(4, seed=2))[1] - 1
    assert float(difference.abs().max()) < 2 * error
    assert float(exact.half_error) == 0


def test_the_backbone_stays_as_it_is():
    padim = make()

    padim.train()

    assert not any(module.training for module in padim.modules())
    assert not any(parameter.requires_grad for parameter in padim.parameters())


# ---- the matrix ----


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(64, 64), (75, 50), (33, 97)])
@pytest.mark.parametrize("model", ["resnet18", "efficientnet_b0"])
def test_backbones_channels_and_odd_sizes(model, size, channels):
    backbone = TimmBackbone(model, in_channels=channels, out_indices=(1, 2, 3))
    padim = PaDiM(backbone, size, num_features=10)
    fitted(padim, pictures(4, size, channels))

    scores, maps = padim(pictures(1, size, channels, seed=8))

    assert scores.shape == (1,)
    assert maps.shape == (1, *size)
    assert maps.isfinite().all()
    assert scores[0] > 0


@pytest.mark.parametrize(("reduction", "half"), [("random", True), ("semi_orthogonal", False)])
def test_the_exported_model_gives_equal_maps(tmp_path, reduction, half):
    onnxruntime = pytest.importorskip("onnxruntime")
    padim = fitted(make((64, 50), reduction=reduction, half=half), pictures(10, (64, 50)))
    images = pictures(3, (64, 50), seed=4)
    file = tmp_path / "padim.onnx"
    torch.onnx.export(
        padim,
        (images[:2],),
        file,
        input_names=["images"],
        output_names=["scores", "maps"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        scores, maps = session.run(None, {"images": images[:count].numpy()})
        expected = padim(images[:count])
        np.testing.assert_allclose(scores, expected[0], rtol=1e-4)
        np.testing.assert_allclose(maps, expected[1], rtol=1e-4, atol=1e-4)


# ---- bad input ----


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(size=(16, 64)), "image_size"),
        (dict(size=64.0), "image_size"),
        (dict(size=(64, 64, 3)), "image_size"),
        (dict(num_features=0), "num_features = 0: expected a whole number from 1 to 24"),
        (dict(num_features=25), "num_features"),
        (dict(num_features=2.5), "num_features"),
        (dict(reduction="pca"), "reduction"),
        (dict(sigma=-1), "sigma"),
        (dict(sigma=8), "sigma"),
    ],
)
def test_values_out_of_range_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        make(**settings)
