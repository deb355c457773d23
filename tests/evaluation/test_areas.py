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


def test_run_lengths_of_a_list():
    mask = np.zeros((2, 3), bool)
    mask[1, 0] = mask[:, 1] = True

    assert np.array_equal(decode_mask([1, 3, 2], (2, 3)), mask)


def test_text_of_coco_with_long_and_negative_numbers():
    mask = np.zeros((3000, 40), bool)
    mask[5:2000, 3] = mask[100:110, 7] = mask[:, 9:30] = True

    text = coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()

    assert np.array_equal(decode_mask(text, mask.shape), mask)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([1, 2], "make 3 pixels, but the image has 6"),
        ([1, 50], "make 51 pixels, but the image has 6"),
        ([7, -2, 1], "is below 0"),
        ([2**62, 2**62, 2**63, 6], "make .* pixels"),
        ([1.0, 5], "not whole numbers"),
        ([True, 5], "not whole numbers"),
        (["1", "5"], "not whole numbers"),
        ([[1, 5]], "not whole numbers"),
        (None, "not whole numbers"),
        ({"a": 1}, "not whole numbers"),
        ("", "no text of COCO"),
        ("1 5", "no text of COCO"),
        ("1é", "no text of COCO"),
        ("5Q", "no text of COCO"),  # more characters should follow
        ("PPPPPPPPP1", "larger than any image"),
        ("1O", "is below 0"),
        ("12", "make 3 pixels"),
    ],
)
def test_what_is_no_run_lengths_of_the_mask(counts, reason):
    with pytest.raises(ValueError, match=reason):
        decode_mask(counts, (2, 3))


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
