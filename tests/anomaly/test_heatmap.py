from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from aicore.anomaly.heatmap import ng_score, pack_map, score_map, unpack_map


def smooth_map(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return np.abs(cv2.GaussianBlur(noise, (0, 0), 4) * 40).astype(np.float32) + 3


# ---- scores ----


def test_the_ng_score_is_a_half_at_the_threshold():
    scores = ng_score(np.array([0.0, 3.0, 6.0, 1e12], np.float32), 3.0)

    assert scores == pytest.approx([0, 0.5, 36 / 45, 1])


# ---- packing ----


@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (64, 64), (5, 64)])
def test_a_small_map_comes_back(shape):
    distances = smooth_map(shape)

    packed = json.loads(json.dumps(pack_map(distances)))

    assert packed["size"] == list(shape)
    assert packed["max"] == pytest.approx(distances.max(), abs=1e-6)
    back = unpack_map(packed, shape)
    assert back.dtype == np.float32
    assert np.abs(back - distances).max() <= 0.51 / 1023 * distances.max()


@pytest.mark.parametrize(
    ("shape", "size"),
    [((128, 128), [64, 64]), ((600, 1000), [38, 64]), ((3000, 4), [64, 1]), ((65, 64), [64, 63])],
)
def test_a_large_map_keeps_its_aspect(shape, size):
    packed = pack_map(smooth_map(shape))

    assert packed["size"] == size
    assert unpack_map(packed, shape).shape == shape


def test_a_pixel_of_a_packed_map_is_a_mean():
    distances = smooth_map((256, 128))

    small = unpack_map(pack_map(distances), (64, 32))

    means = distances.reshape(64, 4, 32, 4).mean(axis=(1, 3))
    assert np.abs(small - means).max() < 0.001 * distances.max()


def test_a_smooth_map_comes_back_in_its_own_size():
    rows, columns = np.mgrid[:300, :500]
    distances = (20 + 10 * np.sin(rows / 60) * np.cos(columns / 80)).astype(np.float32)

    back = unpack_map(pack_map(distances), distances.shape)

    assert np.abs(back - distances)[8:-8, 8:-8].max() < 0.1


def test_a_map_without_any_distance():
    packed = pack_map(np.zeros((30, 40), np.float32))

    assert packed["max"] == 0
    assert not unpack_map(packed, (30, 40)).any()


def test_a_packed_map_is_small():
    # Of noise, which cannot be compressed.
    distances = np.random.default_rng(0).random((640, 640)).astype(np.float32).repeat(2, axis=0)

    assert len(json.dumps(pack_map(distances))) < 7500


# ---- maps of scores ----


def test_a_score_map_tells_the_same_pixels_as_the_mask():
    distances = cv2.GaussianBlur(smooth_map((400, 300)), (0, 0), 10)
    mask = distances >= 6
    assert 0.005 < mask.mean() < 0.5

    scores = score_map(pack_map(distances), mask, 6.0)

    assert scores.dtype == np.uint16
    assert np.array_equal(scores >= 32768, mask)
    exact = ng_score(distances, 6.0)
    assert np.abs(scores / 65535 - exact).mean() < 0.01
