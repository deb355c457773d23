"""Finding pictures of the same shot: re-encoded, resized, or brightened a little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MIN_CORRELATION = 0.9  # of two thumbnails, for a closer look
_MIN_PARTIAL_CORRELATION = 0.92  # once what other images explain has been taken out
_RATIO = 2.0  # how much farther than its twin an image's other neighbours are
_TWINS = 3  # nearest neighbours to look at more closely
_NEIGHBOURS = 32  # that an image is compared with
_REGRESSORS = 12  # of these, what is used to explain it
_BLOCK_VALUES = 2**24  # of a similarity matrix at a time, 64 MiB


def near_pairs(thumbnails: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Finds the pairs of images that stand out as nearer to each other than parts alike do.

    Good parts in a fixture look almost the same, so a threshold on similarity alone would call
    all of them twins. Two images are a pair when, for each of the two,

    - their thumbnails correlate (at least 0.9);
    - there are other images, but at least twice as far away as the twin (a nearest-neighbour ratio
      as in Lowe, "Distinctive image features from scale-invariant keypoints", 2004);
    - the *partial* correlation, after regression on the nearest 12 of these others, is still at
      least 0.92: what all the parts share (geometry, light, small shifts) is explained by other
      images and drops out; what is left (texture, noise) only the same shot has in common.

    The same part photographed twice in the same pose is found as well; more than 32 copies of a
    shot are not, nor copies that are mirrored, turned or cropped.

    Args:
        thumbnails: (N, D), each row of mean 0 and length 1 or all 0; no two rows from images of
            the same pixels.

    Returns:
        Pairs ``(i, j)`` with i < j, sorted.
    """
    usable = np.flatnonzero(thumbnails.any(axis=1))
    if len(usable) < 3:  # a pair and one to compare it with
        return []
    rows = thumbnails[usable]
    neighbours = _nearest(rows)
    pairs = [
        (i, int(j))
        for i, order in neighbours.items()
        for j in order[:_TWINS]
        if _is_twin(rows, i, j, order) and _is_twin(rows, j, i, neighbours.get(int(j)))
    ]
    return sorted({(int(usable[min(pair)]), int(usable[max(pair)])) for pair in pairs})


def connected(count: int, pairs: list[tuple[int, int]]) -> list[list[int]]:
    """Returns the groups of two or more of ``count`` items that pairs join, each sorted."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for i, j in pairs:
        parent[root(j)] = root(i)
    groups: dict[int, list[int]] = {}
    for item in range(count):
        groups.setdefault(root(item), []).append(item)
    return [group for group in groups.values() if len(group) > 1]


def _nearest(rows: NDArray[np.float32]) -> dict[int, NDArray[np.intp]]:
    """Returns the nearest others, nearest first, of each row that has one near enough."""
    count = min(_NEIGHBOURS, len(rows) - 1)
    step = max(1, _BLOCK_VALUES // len(rows))
    neighbours = {}
    for start in range(0, len(rows), step):
        similarity = rows[start : start + step] @ rows.T
        own = np.arange(len(similarity))
        similarity[own, own + start] = -np.inf
        near = np.flatnonzero(similarity.max(axis=1) >= _MIN_CORRELATION)
        similarity = similarity[near]
        best = np.argpartition(similarity, -count, axis=1)[:, -count:]
        order = np.argsort(-np.take_along_axis(similarity, best, axis=1), axis=1)
        ordered = np.take_along_axis(best, order, axis=1)
        neighbours.update(zip((near + start).tolist(), ordered, strict=True))
    return neighbours


def _is_twin(rows: NDArray[np.float32], i: int, j: int, order: NDArray[np.intp] | None) -> bool:
    """Whether j stands out among the neighbours of i; see :func:`near_pairs`."""
    if order is None or rows[i] @ rows[j] < _MIN_CORRELATION:
        return False
    # From differences: 1 minus a correlation near 1 would have no digits left in float32.
    distances = np.linalg.norm(rows[order] - rows[i], axis=1)
    limit = _RATIO * np.linalg.norm(rows[j] - rows[i])
    others = rows[order[distances > limit][:_REGRESSORS]]
    if not len(others):
        return False
    basis, _ = np.linalg.qr(others.T)
    pair = rows[[i, j]]
    first, second = pair - (pair @ basis) @ basis.T
    scale = np.linalg.norm(first) * np.linalg.norm(second)
    return bool(first @ second >= _MIN_PARTIAL_CORRELATION * scale)
