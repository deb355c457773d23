from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from aicore.evaluation.areas import connected_regions, decode_mask, encode_mask


@pytest.mark.parametrize("share", [0, 0.4, 1])
def test_run_lengths_are_those_of_coco(share):
    mask = np.random.default_rng(0).random((17, 23)) < share

    counts = encode_mask(mask)

    assert np.array_equal(decode_mask(counts, mask.shape), mask)
    assert coco.area({"size": [17, 23], "counts": counts.encode()}) == mask.sum()


def test_regions_of_a_mask():
    mask = np.zeros((20, 30), bool)
    mask[2:5, 4:8] = True
    mask[10:14, 20:25] = True
    mask[14, 25] = True  # touches the second one at a corner
    mask[0, 29] = True

    regions = list(connected_regions(mask))

    assert [(region.pixels, region.box) for region in regions] == [
        (21, [20, 10, 6, 5]),
        (12, [4, 2, 4, 3]),
        (1, [29, 0, 1, 1]),
    ]
    assert mask[regions[0].inside].all()
    assert np.array_equal(np.unique(regions[1].inside[0]), [2, 3, 4])


def test_no_region():
    assert list(connected_regions(np.zeros((3, 4), bool))) == []
