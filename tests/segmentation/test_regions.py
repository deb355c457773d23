from __future__ import annotations

import numpy as np
import pytest

from aicore.errors import ConfigError
from aicore.segmentation.regions import RegionCounts, RegionRule, list_regions

SIZE = (40, 60)


def areas(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of boxes: top, left, height, width."""
    mask = np.zeros(SIZE, bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([(0, 0, 5, 5)], [(0, 0, 5, 5)], (1, 0, 0)),
        ([(0, 0, 5, 5)], [], (0, 1, 0)),
        ([], [(0, 0, 5, 5)], (0, 0, 1)),
        ([(0, 0, 5, 5)], [(20, 20, 5, 5)], (0, 1, 1)),
        ([(0, 0, 5, 5), (20, 20, 5, 5)], [(0, 0, 5, 5)], (1, 1, 0)),
        # One prediction over two regions finds both.
        ([(0, 0, 5, 5), (0, 10, 5, 5)], [(0, 0, 5, 15)], (2, 0, 0)),
        # A region found in two pieces counts once, and neither piece is false.
        ([(0, 0, 5, 30)], [(0, 0, 5, 10), (0, 20, 5, 10)], (1, 0, 0)),
        # Less than a tenth of the region, or of the prediction.
        ([(0, 0, 10, 10)], [(0, 0, 3, 3)], (0, 1, 0)),
        ([(0, 0, 4, 3)], [(0, 0, 40, 50)], (1, 0, 1)),
    ],
)
def test_counts(truth, prediction, expected):
    counts = RegionRule(min_area=9, min_overlap=0.1).count(areas(*truth), areas(*prediction))

    assert counts == RegionCounts(*expected)


def test_small_regions_count_neither_way():
    rule = RegionRule(min_area=26)
    small = areas((0, 0, 5, 5))

    assert rule.count(small, areas()) == RegionCounts()
    assert rule.count(areas(), small) == RegionCounts()
    # What touches a small true region is not false.
    assert rule.count(small, areas((0, 0, 6, 6))) == RegionCounts()


def test_a_region_over_an_ignored_border_is_one():
    truth = np.zeros((60, 60), np.uint8)
    truth[10:50, 10:50] = 255
    truth[15:45, 15:45] = 1
    prediction = np.zeros((60, 60), np.uint8)
    prediction[5:55, 5:55] = 1

    assert RegionRule().count_classes(truth, prediction, 2) == [RegionCounts(1, 0, 0)] * 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (dict(min_area=0), "min_region_area is 0"),
        (dict(min_area=None), "min_region_area is None"),
        (dict(min_overlap=0), "min_region_overlap is 0"),
        (dict(min_overlap=1.5), "min_region_overlap is 1.5"),
    ],
)
def test_wrong_rules(settings, told):
    with pytest.raises(ConfigError, match=told):
        RegionRule(**settings)


def test_corners_join():
    diagonal = areas((0, 0, 5, 5), (5, 5, 5, 5))

    assert RegionRule().count(diagonal, areas()) == RegionCounts(missed=1)


def test_classes_and_any_defect():
    truth = np.zeros(SIZE, np.uint8)
    truth[:5, :5] = 1
    truth[20:25, :5] = 2
    truth[30:, :] = 255
    prediction = np.zeros(SIZE, np.uint8)
    prediction[:5, :5] = 2  # the right place, another class
    prediction[32:38, 10:20] = 1  # where nothing is known

    counts = RegionRule().count_classes(truth, prediction, 4)

    assert counts == [
        RegionCounts(missed=1),
        RegionCounts(missed=1, false=1),
        RegionCounts(),
        RegionCounts(found=1, missed=1),
    ]


def test_regions_of_a_mask():
    score = np.zeros(SIZE, np.float32)
    score[2:6, 3:8] = 0.5
    score[10:20, 30:34] = 0.75
    score[2, 3] = 0.6

    regions = list_regions(areas((2, 3, 4, 5), (10, 30, 10, 4), (0, 50, 2, 2)), score, min_area=5)

    assert regions == [
        {"pixels": 40, "box": [30, 10, 4, 10], "score": 0.75},
        {"pixels": 20, "box": [3, 2, 5, 4], "score": 0.505},
    ]


def test_regions_without_scores():
    assert list_regions(areas((0, 0, 2, 3)), None, 1) == [{"pixels": 6, "box": [0, 0, 3, 2]}]
