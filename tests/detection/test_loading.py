from __future__ import annotations

import numpy as np
import pytest

from aicore.detection.loading import LoadBoxes
from aicore.errors import DataError, ImageError


def test_boxes_become_arrays():
    instances = [
        {"bbox": [1, 2, 3.5, 4], "bbox_label": 2, "ignore_flag": 0},
        {"bbox": [5, 6, 7, 8], "bbox_label": 0, "ignore_flag": 1},
    ]

    results = LoadBoxes()({"instances": instances})

    assert results["gt_bboxes"].dtype == np.float32
    assert results["gt_bboxes"].tolist() == [[1, 2, 3.5, 4], [5, 6, 7, 8]]
    assert (results["gt_bboxes_labels"].dtype, results["gt_bboxes_labels"].tolist()) == (
        np.int64,
        [2, 0],
    )
    assert (results["gt_ignore_flags"].dtype, results["gt_ignore_flags"].tolist()) == (
        bool,
        [False, True],
    )


def test_no_boxes():
    results = LoadBoxes()({"instances": []})

    assert results["gt_bboxes"].shape == (0, 4)
    assert results["gt_bboxes_labels"].shape == results["gt_ignore_flags"].shape == (0,)


def test_an_image_without_truth_stays_as_it_is():
    assert LoadBoxes()({"img_path": "a.png"}) == {"img_path": "a.png"}


def test_a_faulty_annotation_is_not_used():
    record = {"img_path": "a.png", "instances": [], "faults": ["a.txt, line 3: is inverted"]}

    with pytest.raises(DataError, match=r"^a\.png: a\.txt, line 3: is inverted\.$"):
        LoadBoxes()(record)


@pytest.mark.parametrize(
    ("left_out", "error"), [(False, DataError), (True, ImageError)], ids=["stop", "drop"]
)
def test_an_annotation_for_an_image_of_another_size(left_out, error):
    results = {
        "img_path": "a.png",
        "ori_shape": (40, 60),
        "height": 80,
        "width": 120,
        "instances": [{"bbox": [1, 2, 3, 4], "bbox_label": 0, "ignore_flag": 0}],
        **({"left_out": True} if left_out else {}),
    }

    with pytest.raises(error, match=r"120 x 80 pixels .*but the file has 60 x 40"):
        LoadBoxes()(results)
    assert len(LoadBoxes()({**results, "ori_shape": (80, 120)})["gt_bboxes"]) == 1
    assert len(LoadBoxes()({**results, "not_inspected": "cut off"})["gt_bboxes"]) == 1
