from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose

from aicore.errors import ConfigError, DataError
from aicore.segmentation import LoadMask, RandomClassCrop, SegmentationDataset
from aicore.segmentation.masks import MaskFormat

CLASSES = ("background", "scratch", "spot")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.array([[0, 1, 2], [2, 255, 0]], np.uint8))
    return str(path)


def record(path: str | None, size=(2, 3)) -> dict:
    return {
        "img_path": "image.png",
        "ori_shape": size,
        "seg_map_path": path,
        "relative_path": "image.png",
        "mask_format": MaskFormat(CLASSES),
    }


# ---- masks ----


def test_a_mask_is_loaded(file):
    results = LoadMask()(record(file))

    assert results["gt_seg_map"].tolist() == [[0, 1, 2], [2, 255, 0]]
    assert results["gt_seg_map"].dtype == np.uint8


def test_no_mask_file_is_background():
    assert LoadMask()(record(None, (4, 5)))["gt_seg_map"].tolist() == [[0] * 5] * 4


def test_a_record_without_truth_stays_as_it_is():
    results = {"img_path": "image.png", "ori_shape": (2, 3)}

    assert LoadMask()(dict(results)) == results


def test_a_mask_of_another_size_than_its_image(file):
    with pytest.raises(DataError, match=r"is 3 x 2 pixels \(width x height\), .*'image.png' 5 x 4"):
        LoadMask()(record(file, (4, 5)))


def test_the_mask_of_an_image_that_cannot_be_read_is_kept(file):
    results = LoadMask()({**record(file, (32, 32)), "not_inspected": "it is empty"})

    assert results["gt_seg_map"].shape == (2, 3)


def test_masks_stay_in_the_original_size_in_a_test(scenes):
    pipeline = [
        dict(type="aicore.LoadImage"),
        dict(type="Resize", scale=(32, 32)),
        dict(type="aicore.LoadMask"),
        dict(type="mmseg.PackSegInputs"),
    ]
    dataset = SegmentationDataset("val", str(scenes), pipeline=pipeline, test_mode=True)

    data = dataset[1]

    assert data["inputs"].shape == (3, 32, 32)
    assert data["data_samples"].gt_sem_seg.data.shape == (1, 64, 64)
    assert data["data_samples"].ori_shape == (64, 64)


# ---- crops ----


def scene(height: int, width: int) -> dict:
    """An image whose pixels name their place, and a mask with one small area of class 2."""
    rows, columns = np.mgrid[:height, :width]
    image = np.dstack([rows, columns, rows * 0]).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[5:7, 100:103] = 2
    return {"img": image, "gt_seg_map": mask}


def test_image_and_mask_are_cut_alike():
    crop = RandomClassCrop((32, 48))

    for _ in range(20):
        results = crop(scene(120, 160))
        top, left = results["img"][0, 0, :2].tolist()
        whole = scene(120, 160)
        assert np.array_equal(
            results["gt_seg_map"], whole["gt_seg_map"][top : top + 32, left : left + 48]
        )
        assert np.array_equal(results["img"], whole["img"][top : top + 32, left : left + 48])
        assert results["img_shape"] == (32, 48)


def test_a_small_class_is_kept_in_half_of_the_crops_around_classes():
    np.random.seed(0)
    kept = Counter(
        2 in RandomClassCrop((32, 32), class_share=1.0)(scene(200, 200))["gt_seg_map"]
        for _ in range(300)
    )
    by_chance = Counter(
        2 in RandomClassCrop((32, 32), class_share=0.0)(scene(200, 200))["gt_seg_map"]
        for _ in range(300)
    )

    assert 130 <= kept[True] <= 190  # of two classes each is drawn alike; some hit by chance
    assert by_chance[True] < 30


def test_every_place_around_the_drawn_pixel_occurs():
    mask = np.full((64, 64), 255, np.uint8)
    mask[30, 40] = 1
    crop = RandomClassCrop((16, 16), class_share=1.0)

    corners = {crop._corner(mask) for _ in range(4000)}

    assert corners == {(top, left) for top in range(15, 31) for left in range(25, 41)}


def test_crops_stay_inside_the_image():
    mask = np.full((20, 20), 255, np.uint8)
    mask[0, 19] = 1
    crop = RandomClassCrop((16, 16), class_share=1.0)

    assert {crop._corner(mask) for _ in range(50)} == {(0, 4)}


def test_a_mask_of_ignored_pixels_only():
    crop = RandomClassCrop((16, 16), class_share=1.0)

    assert crop(
        {"img": np.zeros((20, 20), np.uint8), "gt_seg_map": np.full((20, 20), 255, np.uint8)}
    )


def test_a_smaller_image_is_padded():
    results = RandomClassCrop((8, 10))(
        {"img": np.full((5, 20), 7, np.uint8), "gt_seg_map": np.ones((5, 20), np.uint8)}
    )

    assert results["img"].shape == results["gt_seg_map"].shape == (8, 10)
    assert (results["img"][:5] == 7).all()
    assert not results["img"][5:].any()
    assert (results["gt_seg_map"][:5] == 1).all()
    assert (results["gt_seg_map"][5:] == 255).all()


def test_crops_follow_from_numpys_seed():
    def crops() -> list:
        np.random.seed(4)
        return [RandomClassCrop((16, 16))(scene(60, 120))["img"].tolist() for _ in range(5)]

    assert crops() == crops()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (dict(size=(0, 4)), r"size is \(0, 4\)"),
        (dict(size=(4,)), r"size is \(4,\)"),
        (dict(size=(4, 4.5)), r"size is \(4, 4.5\)"),
        (dict(size=(4, 4), class_share=2), "class_share is 2"),
    ],
)
def test_wrong_arguments(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        RandomClassCrop(**settings)


def test_it_is_found_by_name():
    assert Compose([dict(type="aicore.RandomClassCrop", size=(8, 8))])(scene(20, 120))
