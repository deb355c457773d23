from __future__ import annotations

import numpy as np
import pytest
import torch

from aicore.anomaly.statistics import GaussianStatistics
from aicore.errors import DataError


def drawn(images: int = 30, positions: int = 7, size: int = 5, offset: float = 0.0):
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(size, size, generator=generator)
    return torch.randn(images, positions, size, generator=generator) @ mix + offset


def gathered(features: torch.Tensor, *splits: int, counts=None) -> GaussianStatistics:
    statistics = GaussianStatistics()
    parts = features.split(list(splits) or [len(features)])
    weights = [None] * len(parts) if counts is None else counts.split([len(p) for p in parts])
    for part, weight in zip(parts, weights, strict=True):
        statistics.update(part, weight)
    return statistics


def whitened(statistics: GaussianStatistics) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns count, mean and factor of all positions, float32."""
    _, means, factors = zip(*statistics.whitening(0.01), strict=True)
    return statistics.count, torch.cat(means).float(), torch.cat(factors).float()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_mean_and_covariance_are_numpys(offset):
    features = drawn(offset=offset)

    _, mean, covariance = gathered(features, 4, 16, 10).gaussian(0, 7)

    for position in range(7):
        x = features[:, position].double().numpy()
        np.testing.assert_allclose(mean[position], x.mean(axis=0), rtol=1e-6, atol=1e-5)
        # float32 holds numbers around 1000 to 6e-5.
        np.testing.assert_allclose(
            covariance[position], np.cov(x, rowvar=False), rtol=1e-4, atol=1e-5 + offset * 1e-6
        )


def test_the_factor_gives_mahalanobis_distances():
    features = drawn()
    count, mean, factor = whitened(gathered(features))
    x = drawn(1)[0] + 1

    distances = torch.linalg.vector_norm((factor @ (x - mean).unsqueeze(2)).squeeze(2), dim=1)

    assert count.tolist() == [30] * 7
    for position in range(7):
        sample = features[:, position].double().numpy()
        covariance = np.cov(sample, rowvar=False) + 0.01 * np.eye(5)
        delta = x[position].double().numpy() - sample.mean(axis=0)
        expected = np.sqrt(delta @ np.linalg.inv(covariance) @ delta)
        assert float(distances[position]) == pytest.approx(expected, rel=1e-4)


def test_fewer_images_than_features_still_have_a_distance():
    _, _, factor = whitened(gathered(drawn(3, 2, 20)))

    assert factor.isfinite().all()
    assert factor.abs().max() <= 10.001  # 1 / sqrt(0.01)


def test_positions_that_do_not_count_are_left_out_of_the_sums():
    features = drawn()
    counts = torch.ones(30, 7)
    counts[::2, 3] = 0
    counts[:, 5] = 0
    counts[1:, 6] = 0
    spoilt = features.clone()
    spoilt[::2, 3] = 1e3
    spoilt[:, 5] = 1e3

    statistics = gathered(spoilt, 10, 20, counts=counts)
    count, mean, factor = whitened(statistics)

    assert count.tolist() == [30, 30, 30, 15, 30, 0, 1]
    seen = features[1::2, 3].double()
    torch.testing.assert_close(mean[3].double(), seen.mean(dim=0), rtol=1e-5, atol=1e-5)
    _, _, covariance = statistics.gaussian(3, 4)
    torch.testing.assert_close(covariance[0], torch.cov(seen.t()), rtol=1e-4, atol=1e-4)
    assert not factor[5].any()
    assert not factor[6].any()


def test_memory_does_not_grow_with_the_images():
    statistics = gathered(drawn(8))
    before = {name: value.shape for name, value in statistics.state_dict().items()}

    for _ in range(5):
        statistics.update(drawn(40))

    assert {name: value.shape for name, value in statistics.state_dict().items()} == before
    assert statistics.images == 208


def test_a_saved_state_goes_on_to_the_last_bit():
    features = drawn()
    whole = whitened(gathered(features, 10, 10, 10))
    first = gathered(features[:20], 10, 10)
    second = GaussianStatistics()
    second.load_state_dict(first.state_dict())
    second.update(features[20:])

    for one, other in zip(whole, whitened(second), strict=True):
        assert torch.equal(one, other)


def test_an_empty_batch_changes_nothing():
    statistics = gathered(drawn())
    before = {name: value.clone() for name, value in statistics.state_dict().items()}

    statistics.update(drawn(0))

    assert all(torch.equal(before[n], v) for n, v in statistics.state_dict().items())


def test_nothing_gathered_is_refused():
    with pytest.raises(DataError, match="none of the training images was readable"):
        whitened(GaussianStatistics())
    with pytest.raises(DataError, match="none of the training images was readable"):
        whitened(gathered(drawn(0)))


def test_values_that_are_no_numbers_are_refused():
    features = drawn()
    features[3, 2, 1] = torch.nan

    with pytest.raises(DataError, match="not finite"):
        whitened(gathered(features))
