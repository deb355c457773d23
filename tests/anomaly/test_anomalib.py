"""The maps of anomalib: from anomalib itself where it is installed, and as it computed them once.

``anomalib_maps.npz`` holds ``maps`` and ``scores`` of anomalib 2.7.0 for what
:func:`small_case` returns; ``python tests/anomaly/test_anomalib.py`` writes it again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from aicore.anomaly.padim import PaDiM
from aicore.anomaly.statistics import GaussianStatistics
from aicore.backbones import TimmBackbone

REFERENCE = Path(__file__).parent / "anomalib_maps.npz"
# What anomalib adds to the variances, in two places.
REGULARISATION = 0.01 + 1e-5


class Means(nn.Module):
    """One feature map of six channels: means over 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(6, 6, 4, stride=4, groups=6, bias=False)
        nn.init.constant_(self.layer.weight, 1 / 16)

    def forward(self, images):
        return [4 * self.layer(images)]


def small_case() -> tuple[PaDiM, torch.Tensor, torch.Tensor]:
    """Returns a model, 12 good images and 2 others, 6 x 48 x 40 each."""
    random = np.random.RandomState(0)
    mix = random.randn(6, 6)
    good, others = (
        torch.tensor(np.einsum("nchw,cd->ndhw", random.randn(n, 6, 48, 40), mix)).float()
        for n in (12, 2)
    )
    return PaDiM(Means(), (48, 40), reduction=None), good, others + 0.5


def fitted(padim: PaDiM, images: torch.Tensor) -> PaDiM:
    statistics = GaussianStatistics()
    for batch in images.split(5):
        statistics.update(padim.embed(batch))
    padim.set_gaussian(statistics.count, statistics.whitening(REGULARISATION))
    return padim


def maps_of_anomalib(padim: PaDiM, good: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    from anomalib.models.components import MultiVariateGaussian
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator

    def embed(images: torch.Tensor) -> torch.Tensor:
        return padim.backbone(images)[0]

    gaussian = MultiVariateGaussian()
    gaussian.fit(embed(good))
    return AnomalyMapGenerator()(
        embedding=embed(others),
        mean=gaussian.mean,
        inv_covariance=gaussian.inv_covariance,
        image_size=padim.image_size,
    ).squeeze(1)


def test_the_maps_are_those_that_anomalib_computed():
    padim, good, others = small_case()
    reference = np.load(REFERENCE)

    scores, maps = fitted(padim, good)(others)

    np.testing.assert_allclose(maps, reference["maps"], rtol=1e-3)
    np.testing.assert_allclose(scores, reference["scores"], rtol=1e-3)


def test_the_maps_are_those_of_anomalib():
    pytest.importorskip("anomalib")
    padim, good, others = small_case()

    _, maps = fitted(padim, good)(others)

    np.testing.assert_allclose(maps, maps_of_anomalib(padim, good, others), rtol=1e-3)


def test_a_whole_model_is_anomalibs():
    pytest.importorskip("anomalib")
    from anomalib.models.image.padim.torch_model import PadimModel

    torch.manual_seed(0)
    peer = PadimModel("resnet18", pre_trained=False, n_features=40)
    backbone = TimmBackbone("resnet18", out_indices=(1, 2, 3))
    backbone.model.load_state_dict(peer.feature_extractor.feature_extractor.state_dict())
    own = PaDiM(backbone, (96, 96), num_features=40)
    own.load_state_dict({**own.state_dict(), "chosen": peer.idx.sort().values})
    good, others = torch.randn(30, 3, 96, 96), torch.randn(20, 3, 96, 96)
    others[10:, :, 30:60, 30:60] *= 1.1
    peer.train()
    peer.feature_extractor.eval()
    peer(good)
    peer.fit()

    expected = peer.eval()(others)
    scores, maps = fitted(own, good)(others)

    np.testing.assert_allclose(maps, expected.anomaly_map.squeeze(1), rtol=1e-3)
    truth = np.arange(20) >= 10
    aurocs = [roc_auc_score(truth, s) for s in (scores, expected.pred_score.squeeze())]
    assert aurocs[0] == pytest.approx(aurocs[1], abs=0.005)


if __name__ == "__main__":
    case = small_case()
    peers = maps_of_anomalib(*case).detach().numpy()
    np.savez_compressed(REFERENCE, maps=peers, scores=peers.max(axis=(1, 2)))
