from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform

from aicore.detection.mosaic import MixUp, Mosaic
from aicore.errors import ConfigError
from tests.detection.pictures import GREY, KEYS, bounds, coloured, example, plain


def mixed(step: BaseTransform, records: list[dict], seed: int) -> dict:
    """The first record after a step that draws the others, in their order."""
    np.random.seed(seed)
    copies = [{key: value.copy() for key, value in record.items()} for record in records]
    return step({**copies[0], "others": iter(copies[1:])})


def check_boxes(results: dict, exact: bool, tolerance: float = 1.5) -> int:
    """Compares boxes with the pixels of their colour; returns how many were compared."""
    height, width = results["img"].shape[:2]
    compared = 0
    for box, label, ignored in zip(*(results[key] for key in KEYS), strict=True):
        assert ignored == (label == 3)
        assert (box[:2] >= 0).all()
        assert (box[2:] <= (width, height)).all()
        assert (box[2:] - box[:2] >= 2).all()
        pixels = coloured(results["img"], label)
        if not pixels.any():
            assert (box[2:] - box[:2]).min() < 4
            continue
        found = bounds(pixels)
        inside = (box[:2] > 0).all() and (box[2:] < (width, height)).all()
        if exact or inside:
            np.testing.assert_allclose(found, box, atol=tolerance)
            compared += 1
        assert (found[:2] >= box[:2] - tolerance).all()
        assert (found[2:] <= box[2:] + tolerance).all()
    return compared


# ---- mosaic ----


@pytest.mark.parametrize("size", [(96, 96), (64, 120), (200, 90)])
def test_boxes_follow_their_pixels_through_a_mosaic(size):
    straight = Mosaic(size, rotate=0, shear=0, scale=(0.3, 2.0), min_visible=0)
    turned = Mosaic(size, scale=(0.3, 2.0), min_visible=0)
    records = [example(label) for label in range(4)]

    compared = [0, 0]
    for seed in range(40):
        results = mixed(straight, records, seed)
        compared[0] += check_boxes(results, exact=True)
        for label in set(range(4)) - set(results["gt_bboxes_labels"]):
            pixels = coloured(results["img"], label)
            assert not pixels.any() or (bounds(pixels)[2:] - bounds(pixels)[:2]).min() <= 3
        compared[1] += check_boxes(mixed(turned, records, seed), exact=False, tolerance=2.5)
    assert compared[0] > 60
    assert compared[1] > 30


def test_boxes_follow_their_pixels_to_a_fraction_of_a_pixel():
    height, width = 90, 110
    y, x = np.mgrid[:height, :width] + 0.5
    records = []
    for label in range(4):
        # The first channels hold each pixel's own place, the last one says which image it is.
        image = np.dstack([x, y, np.full_like(x, 100 * label)]).astype(np.float32)
        records.append({**example(label), "img": image})

    compared = 0
    for seed in range(60):
        step = Mosaic((128, 160), scale=(0.6, 1.2))
        results = mixed(step, records, seed)
        for box, label in zip(results["gt_bboxes"], results["gt_bboxes_labels"], strict=True):
            if (box[:2] <= 0).any() or (box[2:] >= (160, 128)).any():
                continue
            own = cv2.erode(
                (abs(results["img"][..., 2] - 100 * label) < 0.01).astype(np.uint8), np.ones((5, 5))
            )
            if own.sum() < 200:
                continue
            rows, columns = np.nonzero(own)
            source = np.column_stack([results["img"][own > 0][:, :2], np.ones(len(rows))])
            matrix, *_ = np.linalg.lstsq(source, np.column_stack([columns, rows]) + 0.5, rcond=None)
            x1, y1, x2, y2 = records[label]["gt_bboxes"][0]
            corners = np.array([[a, b, 1] for a in (x1, x2) for b in (y1, y2)]) @ matrix
            expected = [*corners.min(axis=0), *corners.max(axis=0)]
            np.testing.assert_allclose(box, expected, atol=0.1)
            compared += 1
    assert compared > 20


def test_four_images_lie_around_a_point_without_seams():
    records = [example(0) for _ in range(4)]
    for level, record in zip((50, 100, 150, 200), records, strict=True):
        record["img"] = np.full((70, 70), level, np.uint8)

    for seed in range(30):
        image = mixed(Mosaic((64, 64), scale=(2, 2), translate=0), records, seed)["img"]
        # At this scale nothing but the four images is seen: no grey, and no blend of two.
        assert set(np.unique(image)) <= {50, 100, 150, 200}
    image = mixed(Mosaic((64, 64), scale=(0.7, 0.7), rotate=0, shear=0), records, 1)["img"]
    assert {50, 100, 150, 200} <= set(np.unique(image))
    columns = [np.nonzero(image == level)[1].mean() for level in (50, 100, 150, 200)]
    rows = [np.nonzero(image == level)[0].mean() for level in (50, 100, 150, 200)]
    assert columns[0] < columns[1] and columns[2] < columns[3]
    assert rows[0] < rows[2] and rows[1] < rows[3]


def test_a_mosaic_is_what_a_plain_canvas_gives():
    """YOLOX's way: paste four fitted images into a canvas of twice the size, and warp that."""
    generator = np.random.default_rng(0)
    records = []
    for _ in range(4):
        smooth = generator.uniform(0, 255, (3, 4, 3)).astype(np.float32)
        image = cv2.resize(smooth, (96, 72), interpolation=cv2.INTER_CUBIC).clip(0, 255)
        records.append({**example(0), "img": image})
    for seed in range(10):
        step = Mosaic((96, 96), scale=(0.5, 1.5))
        result = mixed(step, records, seed)["img"]

        np.random.seed(seed)
        assert np.random.random() < 1  # whether to act
        x, y = np.random.uniform(0.5, 1.5, 2) * 96
        view = step._draw_view()
        canvas = np.full((192 * 4, 192 * 4, 3), 114, np.float32)  # four times as fine
        for record, (right, below) in zip(
            records, itertools.product((0, 1), repeat=2), strict=True
        ):
            right, below = below, right
            fitted = cv2.resize(record["img"], None, fx=4, fy=4)
            left, top = round(4 * x) - (1 - right) * 384, round(4 * y) - (1 - below) * 288
            seen = fitted[max(0, -top) : 768 - top, max(0, -left) : 768 - left]
            top, left = max(0, top), max(0, left)
            canvas[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
        to_fine = np.array([[0.25, 0, 0.125], [0, 0.25, 0.125], [0, 0, 1]])
        matrix = view @ to_fine
        matrix[:2, 2] -= 0.5
        expected = cv2.warpAffine(canvas, matrix[:2], (96, 96), borderValue=(114, 114, 114))

        assert np.median(abs(result - expected)) < 1
        assert (abs(result - expected).max(axis=2) > 12).mean() < 0.06  # at the seams


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("step", [Mosaic((64, 96)), MixUp((64, 96))])
def test_channels_and_type_are_kept(step, channels, dtype):
    records = [example(label, channels, dtype) for label in range(4)]

    results = mixed(step, records, 0)

    assert results["img"].dtype == dtype
    assert results["img"].shape == ((64, 96, 3) if channels == 3 else (64, 96))
    assert results["img_shape"] == (64, 96)
    assert results["gt_bboxes"].dtype == np.float32
    assert results["gt_bboxes_labels"].dtype == np.int64
    assert results["gt_ignore_flags"].dtype == bool
    lengths = {len(results[key]) for key in KEYS}
    assert len(lengths) == 1


@pytest.mark.parametrize("step", [Mosaic((64, 96)), MixUp((64, 96))])
def test_8_and_16_bit_images_together_become_float(step):
    records = [example(label, dtype=[np.uint8, np.float32][label % 2]) for label in range(4)]

    assert mixed(step, records, 0)["img"].dtype == np.float32


def test_boxes_follow_their_pixels_in_grey_images():
    step = Mosaic((96, 96), rotate=0, shear=0, scale=(0.3, 2.0))
    records = [example(0, channels=1), *[plain(channels=1)] * 3]

    assert sum(check_boxes(mixed(step, records, seed), exact=True) for seed in range(40)) > 10


@pytest.mark.parametrize("make", [Mosaic, MixUp])
def test_boxes_of_which_too_little_is_left_are_dropped(make):
    records = [example(label) for label in range(4)]
    settings = dict(size=(64, 64), scale=(0.8, 2.0))
    if make is Mosaic:
        settings.update(rotate=0, shear=0)

    dropped = 0
    for seed in range(60):
        every = mixed(make(min_visible=0, min_side=0, **settings), records, seed)
        some = mixed(make(min_visible=0.5, min_side=5, **settings), records, seed)
        assert np.array_equal(every["img"], some["img"])
        kept = {tuple(box) for box in some["gt_bboxes"].tolist()}
        own = 0 if make is Mosaic else 1  # mixup keeps the boxes of the image itself
        for box in every["gt_bboxes"][own:]:
            width, height = box[2:] - box[:2]
            if tuple(box.tolist()) in kept:
                assert min(width, height) >= 5
            else:
                dropped += 1
                cut = (box[:2] == 0).any() or (box[2:] == 64).any()
                assert cut or min(width, height) < 5
    assert dropped > 5


def test_the_visible_share_counts_from_the_box_before():
    record = {**plain((100, 100)), "gt_bboxes": np.float32([[0, 0, 100, 100]])}
    record.update(gt_bboxes_labels=np.array([7]), gt_ignore_flags=np.array([False]))
    step = Mosaic((100, 100), scale=(1, 1), rotate=0, shear=0, translate=0, min_visible=0.25)

    for seed in range(30):
        results = mixed(step, [record] * 4, seed)
        np.random.seed(seed)
        np.random.random()
        x, y = np.random.uniform(0.5, 1.5, 2) * 100 - 50  # the point in the result
        areas = [x * y, (100 - x) * y, x * (100 - y), (100 - x) * (100 - y)]
        assert len(results["gt_bboxes"]) == sum(area >= 2500 for area in areas)


@pytest.mark.parametrize("step", [Mosaic((64, 64)), MixUp((64, 64))])
def test_images_without_any_box(step):
    results = mixed(step, [plain() for _ in range(4)], 0)

    assert results["gt_bboxes"].shape == (0, 4)
    assert len(results["gt_bboxes_labels"]) == len(results["gt_ignore_flags"]) == 0


@pytest.mark.parametrize("make", [Mosaic, MixUp])
def test_a_record_without_others_stays_as_it_is(make):
    given = example(0)

    results = make((64, 64))(dict(given))

    assert results.keys() == given.keys()
    assert all(results[key] is given[key] for key in given)


@pytest.mark.parametrize("make", [Mosaic, MixUp])
def test_the_share_of_mixed_images(make):
    step = make((64, 64), probability=0.3)
    records = [example(label) for label in range(4)]

    acted = sum("img_shape" in mixed(step, records, seed) for seed in range(300))

    assert 60 < acted < 120


@pytest.mark.parametrize("step", [Mosaic((64, 64)), MixUp((64, 64))])
def test_the_images_mixed_are_not_changed(step):
    records = [example(label) for label in range(4)]

    np.random.seed(0)
    step({**records[0], "others": iter(records[1:])})

    for label, record in enumerate(records):
        for key, value in example(label).items():
            assert np.array_equal(record[key], value)


# ---- mixup ----


@pytest.mark.parametrize("size", [(96, 96), (64, 120), (200, 90)])
def test_boxes_follow_their_pixels_through_mixup(size):
    step = MixUp(size, min_visible=0)

    compared = 0
    for seed in range(40):
        results = mixed(step, [plain(size), example(1)], seed)
        assert set(results["gt_bboxes_labels"]) <= {1}
        compared += check_boxes(results, exact=True)
    assert compared > 30


def test_half_of_each_image_and_the_boxes_of_both():
    own, other = example(0, size=(64, 64)), example(3, size=(64, 64))
    own["img"][:] = 100
    other["img"][:] = 200

    results = mixed(MixUp((64, 64), scale=(1, 1), flip=0), [own, other], 0)

    assert (results["img"] == 150).all()
    assert np.array_equal(
        results["gt_bboxes"], np.concatenate([own["gt_bboxes"], other["gt_bboxes"]])
    )
    assert results["gt_bboxes_labels"].tolist() == [0, 3]
    assert results["gt_ignore_flags"].tolist() == [False, True]


def test_the_other_image_is_mirrored_within_its_padding():
    own, other = plain((64, 64)), example(0, size=(64, 32))
    other["gt_bboxes"][:] = [2, 4, 20, 24]

    results = mixed(MixUp((64, 64), scale=(1, 1), flip=1), [own, other], 0)

    assert results["gt_bboxes"].tolist() == [[64 - 20, 4, 64 - 2, 24]]
    assert (results["img"][:, :32] == (GREY + 114) // 2).all()


def test_a_record_of_another_size_is_fitted_first():
    results = mixed(MixUp((96, 128)), [example(2), plain()], 0)

    assert results["img"].shape == (96, 128, 3)
    np.testing.assert_allclose(results["gt_bboxes"], example(2)["gt_bboxes"] * 1.6, rtol=1e-5)


# ---- arguments ----


@pytest.mark.parametrize(
    ("step", "settings", "reason"),
    [
        (Mosaic, dict(size=(0, 64)), r"size is \(0, 64\)"),
        (Mosaic, dict(probability=1.5), "probability is 1.5"),
        (Mosaic, dict(scale=(0, 2)), r"scale is \(0, 2\); expected \(smallest, largest\)"),
        (Mosaic, dict(scale=(2, 1)), r"scale is \(2, 1\)"),
        (Mosaic, dict(scale=1), "scale is 1"),
        (Mosaic, dict(rotate=-1), r"rotate is -1; expected degrees in \[0, 180\]"),
        (Mosaic, dict(shear=60), r"shear is 60; expected degrees in \[0, 30\]"),
        (Mosaic, dict(translate="a"), "translate is 'a'"),
        (Mosaic, dict(min_visible=2), r"min_visible is 2; expected a number in \[0, 1\]"),
        (Mosaic, dict(min_side=-1), "min_side is -1; expected pixels, at least 0"),
        (MixUp, dict(size=64), "size is 64"),
        (MixUp, dict(scale=("a", 2)), r"scale is \('a', 2\)"),
        (MixUp, dict(flip=2), "flip is 2"),
        (MixUp, dict(min_side=None), "min_side is None"),
    ],
)
def test_wrong_arguments(step, settings, reason):
    with pytest.raises(ConfigError, match=f"^aicore.{step.__name__}: {reason}"):
        step(**{"size": (64, 64), **settings})
