from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
import torch

from aicore.anomaly.areas import read_area
from aicore.anomaly.transforms import LoadDefectMask, LoadROI, PackAnomaly
from aicore.errors import DataError, ImageError
from aicore.registry import TRANSFORMS

ROI = [[0, 1, 1], [0, 255, 0]]
MASK = [[200, 0, 200], [0, 0, 100]]


@pytest.fixture
def files(tmp_path):
    cv2.imwrite(str(tmp_path / "roi.png"), np.array(ROI, np.uint8))
    cv2.imwrite(str(tmp_path / "mask.png"), np.array(MASK, np.uint8))
    return tmp_path


def record(size=(2, 3), **known) -> dict:
    return {
        "img": np.zeros((*size, 3), np.uint8),
        "img_path": "image.png",
        "ori_shape": size,
        "img_shape": size,
        **known,
    }


def labelled(files, label: int, **known) -> dict:
    """A record of the data set, with its mask if it is defective."""
    return record(
        gt_label=label,
        defect_type="dent" if label else "good",
        mask_path=str(files / "mask.png") if label else None,
        mask_threshold=127,
        **known,
    )


# ---- areas ----


def test_an_area_of_any_depth_and_colour(tmp_path):
    grey = np.array([[0, 127, 128, 255]], np.uint8)
    for name, pixels in (
        ("grey.png", grey),
        ("colour.png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)),
        ("deep.png", grey.astype(np.uint16) * 257),
    ):
        cv2.imwrite(str(tmp_path / name), pixels)
        assert read_area(tmp_path / name, "mask", 127).tolist() == [[0, 0, 1, 1]]
        assert read_area(tmp_path / name, "roi").tolist() == [[0, 1, 1, 1]]
        assert read_area(tmp_path / name, "roi").dtype == np.uint8


def test_an_unreadable_area_is_no_unreadable_image(tmp_path):
    (tmp_path / "a.png").touch()

    for name, reason in (("a.png", "cannot be read: the file is empty"), ("b.png", "not exist")):
        with pytest.raises(DataError, match=rf"mask '.*{name}' .*{reason}") as caught:
            read_area(tmp_path / name, "mask")
        assert not isinstance(caught.value, ImageError)  # the image would be left out silently


# ---- ROI ----


def test_the_roi_of_a_record(files):
    roi = LoadROI(roi="{name}.png")(record(roi_path=str(files / "roi.png")))["roi"]

    assert roi.tolist() == [[0, 1, 1], [0, 1, 0]]
    assert roi.dtype == np.uint8


def test_one_roi_for_images_of_a_demo_too(files):
    load = LoadROI(roi="roi.png", data_root=str(files))

    assert load(record())["roi"].sum() == 3
    (files / "roi.png").unlink()
    assert load(record(img_path=None))["roi"].sum() == 3  # read once
    assert pickle.loads(pickle.dumps(load))(record())["roi"].sum() == 3


@pytest.mark.parametrize("roi", [None, "roi/{path}.png"])
def test_no_roi(roi):
    assert "roi" not in LoadROI(roi=roi)(record())


def test_an_unreadable_image_has_no_roi(files):
    load = LoadROI(roi="roi.png", data_root=str(files))

    assert "roi" not in load(record(size=(32, 32), not_inspected="it is empty"))


def test_wrong_rois(files):
    load = LoadROI(roi="roi.png", data_root=str(files))
    with pytest.raises(
        DataError, match=r"roi .* is 3 x 2 pixels .* image 'image\.png' 5 x 4: both"
    ):
        load(record(size=(4, 5)))
    with pytest.raises(DataError, match=r"its image \(an array\) 5 x 4"):
        load(record(size=(4, 5), img_path=None))
    cv2.imwrite(str(files / "empty.png"), np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match=r"empty\.png' has no pixel above 0"):
        LoadROI()(record(roi_path=str(files / "empty.png")))
    with pytest.raises(DataError, match=r"roi '.*none\.png' does not exist"):
        LoadROI(roi="none.png", data_root=str(files))(record())


# ---- masks ----


def test_the_mask_of_a_defective_image(files):
    results = LoadDefectMask()(labelled(files, 1))

    assert results["gt_mask"].tolist() == [[1, 0, 1], [0, 0, 0]]
    assert "gt_mask" not in LoadDefectMask()(labelled(files, 0))


def test_a_record_of_a_demo_stays_as_it_is():
    results = record()

    assert LoadDefectMask()(dict(results)).keys() == results.keys()


def test_wrong_masks(files):
    with pytest.raises(DataError, match=r"mask .* 3 x 2 pixels .* 5 x 4: both have to agree\."):
        LoadDefectMask()({**labelled(files, 1), "ori_shape": (4, 5)})
    with pytest.raises(DataError, match=r"mask '.*none\.png' does not exist"):
        LoadDefectMask()({**labelled(files, 1), "mask_path": str(files / "none.png")})


def test_the_mask_of_an_unreadable_image_is_left_out(files):
    results = {**labelled(files, 1), "ori_shape": (32, 32), "not_inspected": "it is empty"}

    assert "gt_mask" not in LoadDefectMask()(results)


# ---- packing ----


def pack(files, label: int, with_roi: bool):
    roi = {"roi_path": str(files / "roi.png")} if with_roi else {}
    results = LoadDefectMask()(LoadROI()(labelled(files, label, **roi)))
    return PackAnomaly()(results)["data_samples"]


def test_a_good_image(files):
    sample = pack(files, 0, with_roi=False)

    assert sample.gt_label.dtype == torch.int64
    assert (sample.gt_label.shape, int(sample.gt_label)) == ((), 0)
    assert "gt_mask" not in sample
    assert "roi" not in sample
    assert (sample.img_path, sample.defect_type) == ("image.png", "good")
    assert (sample.ori_shape, sample.img_shape) == ((2, 3), (2, 3))


def test_a_defective_image(files):
    sample = pack(files, 1, with_roi=False)

    assert sample.gt_label == 1
    assert sample.gt_mask.data.tolist() == [[[1, 0, 1], [0, 0, 0]]]
    assert sample.gt_mask.data.dtype == torch.uint8


@pytest.mark.parametrize(
    ("label", "expected"),
    [(0, [[255, 0, 0], [255, 0, 255]]), (1, [[255, 0, 1], [255, 0, 255]])],
)
def test_pixels_outside_the_roi_do_not_count(files, label, expected):
    sample = pack(files, label, with_roi=True)

    assert sample.gt_mask.data.tolist() == [expected]
    assert sample.gt_mask.data.dtype == torch.uint8
    assert sample.roi.data.tolist() == [[[0, 1, 1], [0, 1, 0]]]


def test_a_defective_image_without_a_mask(files):
    results = record(gt_label=1, defect_type="dent", mask_path=None)
    results["roi"] = np.ones((2, 3), np.uint8)

    assert "gt_mask" not in PackAnomaly()(results)["data_samples"]


def test_an_image_of_a_demo():
    sample = PackAnomaly()(record(img_path=None))["data_samples"]

    assert "gt_label" not in sample
    assert "defect_type" not in sample
    assert sample.img_path is None


@pytest.mark.parametrize(("shape", "dtype"), [((5, 4), np.uint8), ((5, 4, 3), np.float32)])
def test_inputs(shape, dtype):
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)

    inputs = PackAnomaly()({**record(), "img": image})["inputs"]

    assert inputs.shape == (shape[2] if len(shape) == 3 else 1, 5, 4)
    assert inputs.is_contiguous()
    assert np.array_equal(inputs.permute(1, 2, 0).numpy().reshape(shape), image)
    assert inputs.numpy().dtype == dtype


@pytest.mark.parametrize("transform", [LoadROI, LoadDefectMask, PackAnomaly])
def test_registered(transform):
    assert TRANSFORMS.get(transform.__name__) is transform
    assert repr(transform()).startswith(transform.__name__)
