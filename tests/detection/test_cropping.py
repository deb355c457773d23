from __future__ import annotations

import numpy as np
import pytest

from aicore.detection import RandomBoxCrop
from aicore.errors import ConfigError


def record(size=(300, 400), boxes=((100, 50, 130, 90),), labels=None, channels=3) -> dict:
    """Returns a black image with its boxes filled in white."""
    image = np.zeros((*size, 3)[: 2 + (channels == 3)], np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return {
        "img": image,
        "img_shape": size,
        "gt_bboxes": np.array(boxes, np.float32).reshape(-1, 4),
        "gt_bboxes_labels": np.array(labels or [0] * len(boxes), np.int64),
        "gt_ignore_flags": np.zeros(len(boxes), bool),
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_the_crop_holds_the_object_and_the_box_its_pixels(channels):
    np.random.seed(0)
    crop = RandomBoxCrop((96, 128), object_share=1.0)
    corners = set()
    for _ in range(50):
        results = crop(record(channels=channels))

        assert results["img"].shape[:2] == results["img_shape"] == (96, 128)
        (box,) = results["gt_bboxes"]
        rows, columns = np.nonzero(results["img"] if channels == 1 else results["img"][..., 0])
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (box[2] - box[0], box[3] - box[1]) == (30, 40)
        corners.add(tuple(box[:2]))
    assert len(corners) > 40


def test_of_an_object_larger_than_the_crop_a_part_is_seen():
    np.random.seed(0)
    crop = RandomBoxCrop((64, 64), object_share=1.0, min_visible=0.01)
    for _ in range(20):
        results = crop(record(boxes=[(50, 50, 250, 250)]))

        assert results["gt_bboxes"].tolist() == [[0, 0, 64, 64]]


def test_rare_classes_come_as_often_as_frequent_ones():
    np.random.seed(0)
    crowd = [(10 * i, 0, 10 * i + 5, 5) for i in range(20)]
    labels = [0] * 20 + [1]
    crop = RandomBoxCrop((64, 64), object_share=1.0)
    seen = 0
    for _ in range(200):
        found = crop(record(boxes=[*crowd, (300, 250, 320, 270)], labels=labels))
        seen += 1 in found["gt_bboxes_labels"]
    assert 70 < seen < 130


def test_boxes_of_which_little_is_seen_are_dropped_with_their_labels():
    crop = RandomBoxCrop((100, 100), object_share=0.0, min_visible=0.5)
    np.random.seed(0)
    seen = set()
    for _ in range(50):
        results = crop(record((120, 120), [(0, 0, 30, 30), (60, 60, 110, 110)], [3, 4]))

        count = len(results["gt_bboxes"])
        assert len(results["gt_bboxes_labels"]) == len(results["gt_ignore_flags"]) == count
        boxes = dict(zip(results["gt_bboxes_labels"], results["gt_bboxes"], strict=True))
        for label, side in ((3, 30), (4, 50)):
            if label in boxes:
                seen.add(label)
                x1, y1, x2, y2 = boxes[label]
                assert (x2 - x1) * (y2 - y1) >= 0.5 * side**2
        assert (results["gt_bboxes"] >= 0).all()
        assert (results["gt_bboxes"] <= 100).all()
    assert seen == {3, 4}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_smaller_image_is_padded_and_keeps_its_scale(channels):
    image = record(channels=channels)["img"]
    results = RandomBoxCrop((512, 512))(record(channels=channels))

    assert results["img"].shape[:2] == results["img_shape"] == (512, 512)
    assert np.array_equal(results["img"][:300, :400], image)
    assert (results["img"][300:] == 114).all()
    assert (results["img"][:, 400:] == 114).all()
    assert results["gt_bboxes"].tolist() == [[100, 50, 130, 90]]


def test_the_crop_does_not_keep_the_whole_image():
    results = RandomBoxCrop((64, 64))(record())

    assert results["img"].base is None


def test_an_image_without_objects_gives_crops_of_the_background():
    results = RandomBoxCrop((64, 64), object_share=1.0)(record(boxes=[]))

    assert results["img"].shape == (64, 64, 3)
    assert results["gt_bboxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size": 64}, "size is 64; expected"),
        ({"size": (64, 64), "object_share": 2}, "object_share is 2; expected"),
        ({"size": (64, 64), "min_visible": -1}, "min_visible is -1; expected"),
    ],
)
def test_mistakes(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RandomBoxCrop(**arguments)
