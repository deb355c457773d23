from __future__ import annotations

import numpy as np
import pytest

from aicore.runtime.tiling import Window, tile_weight, windows


@pytest.mark.parametrize(
    ("size", "tile", "stride"),
    [
        ((100, 70), (32, 32), (24, 24)),
        ((100, 70), (32, 48), (32, 40)),
        ((64, 64), (64, 64), (48, 48)),
        ((65, 64), (64, 64), (48, 48)),
        ((7, 300), (64, 64), (48, 48)),
        ((1, 1), (64, 64), (48, 48)),
        ((128, 128), (32, 32), (32, 32)),
    ],
)
def test_windows_of_one_size_cover_the_image(size, tile, stride):
    places = windows(*size, tile, stride)

    covered = np.zeros(size, int)
    expected = tuple(min(side, t) for side, t in zip(size, tile, strict=True))
    for top, left, bottom, right in places:
        assert (bottom - top, right - left) == expected
        assert top >= 0
        assert left >= 0
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    assert len(set(places)) == len(places)


def test_no_more_windows_than_needed():
    assert windows(64, 100, (64, 64), (48, 48)) == [Window(0, 0, 64, 64), Window(0, 36, 64, 100)]
    assert len(windows(128, 128, (32, 32), (32, 32))) == 16


def test_neighbours_share_at_least_the_overlap():
    lefts = [window.left for window in windows(64, 500, (64, 64), (48, 48))]

    steps = np.diff(lefts)
    assert (steps[:-1] == 48).all()
    assert 0 < steps[-1] <= 48


def test_the_weight_rises_over_the_overlap():
    weight = tile_weight((1, 10), (0, 4))

    assert weight.dtype == np.float32
    assert weight[0] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_without_overlap_all_pixels_count_alike():
    assert (tile_weight((5, 3), (0, 0)) == 1).all()


def test_in_the_overlap_of_two_tiles_the_weights_sum_to_one():
    weight = tile_weight((4, 10), (0, 4))[0]

    assert weight[6:] + weight[:4] == pytest.approx(np.ones(4))
