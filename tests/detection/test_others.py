from __future__ import annotations

import itertools

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

import aicore.detection.mosaic  # noqa: F401  (registers)
from aicore.detection.others import LoadOthers
from aicore.errors import ConfigError, DataError
from aicore.registry import TRANSFORMS
from tests.detection.pictures import KEYS, LOAD, MakeExample, bounds, coloured, example, samples


def drawn(cache_size: int, epochs: int) -> np.ndarray:
    """The numbers of four others of each sample."""
    pipeline = Compose([*LOAD, dict(type="aicore.LoadOthers", load=LOAD, cache_size=cache_size)])
    numbers = []
    for results in samples(pipeline, epochs):
        assert "draw_another" not in results
        others = itertools.islice(results["others"], 4)
        numbers.append([other["gt_bboxes_labels"][0] for other in others])
    return np.array(numbers)


@pytest.mark.parametrize("cache_size", [0, 2, 6])
def test_every_image_is_another_equally_often(cache_size):
    numbers = drawn(cache_size, epochs=100)

    for place in range(4):
        shares = np.bincount(numbers[:, place], minlength=12) / len(numbers)
        np.testing.assert_allclose(shares, 1 / 12, atol=0.03)


def test_with_a_cache_the_others_are_not_read_anew():
    MakeExample.loaded = 0
    drawn(0, epochs=2)
    assert MakeExample.loaded == 24 * 5

    MakeExample.loaded = 0
    drawn(6, epochs=2)
    assert 24 <= MakeExample.loaded <= 24 + 2 * 4  # the cache is full after the first two


def test_no_other_comes_twice_from_the_cache_nor_the_image_itself():
    pipeline = Compose([*LOAD, dict(type="aicore.LoadOthers", load=LOAD, cache_size=5)])
    others = []
    for number in range(40):
        results = pipeline({"number": number, "draw_another": lambda: {"number": 1000}})
        others = [other["gt_bboxes_labels"][0] for other in itertools.islice(results["others"], 5)]
        assert number not in others
    assert sorted(others) == [34, 35, 36, 37, 38]


def test_the_cache_holds_images_that_nobody_changes():
    @TRANSFORMS.register_module(force=True)
    class Blacken(BaseTransform):
        def transform(self, results: dict) -> dict:
            results["img"][:] = 0
            return results

    others = dict(type="aicore.LoadOthers", load=LOAD, cache_size=2)
    pipeline = Compose([*LOAD, others, dict(type="aicore.Blacken")])

    found = samples(pipeline, 1)

    assert all(next(results["others"])["img"].any() for results in found)


def test_when_mosaic_is_over_the_cache_is_given_back():
    step = LoadOthers(LOAD, cache_size=3)
    for number in range(5):
        step(MakeExample()({"number": number, "draw_another": lambda: {"number": 0}}))
    assert len(step._cache) == 3

    results = step(MakeExample()({"number": 0}))

    assert "others" not in results
    assert not step._cache


def test_an_unreadable_other_is_replaced():
    records = itertools.cycle([{"number": 0, "broken": True}] * 3 + [{"number": 7}])
    results = LoadOthers(LOAD)({**example(0), "draw_another": lambda: next(records)})

    others = itertools.islice(results["others"], 3)

    assert [other["gt_bboxes_labels"][0] for other in others] == [7, 7, 7]


def test_if_no_other_can_be_read():
    draw = {"number": 0, "broken": True}
    results = LoadOthers(LOAD)({**example(0), "draw_another": lambda: dict(draw)})

    with pytest.raises(DataError, match=r"10 images drawn .* Cannot use image broken.png: it is"):
        next(results["others"])


def test_others_with_other_channels():
    step = LoadOthers([dict(type="aicore.MakeExample", channels=1)])
    results = step({**example(0), "draw_another": lambda: {"number": 0}})

    with pytest.raises(ConfigError, match="load gives images with other channels"):
        next(results["others"])


@pytest.mark.parametrize("cache_size", [-1, 2.5, "40", True])
def test_wrong_cache_sizes(cache_size):
    with pytest.raises(ConfigError, match=f"^aicore.LoadOthers: cache_size is {cache_size!r}; "):
        LoadOthers(LOAD, cache_size)


# ---- the whole pipeline ----


@pytest.mark.parametrize("cache_size", [0, 6])
def test_boxes_follow_their_pixels_through_the_whole_pipeline(cache_size):
    load = [dict(type="aicore.MakeExample", boxed=3)]
    every = dict(min_visible=0, min_side=0)
    pipeline = Compose(
        [
            *load,
            dict(type="aicore.LoadOthers", load=load, cache_size=cache_size),
            dict(type="aicore.Mosaic", size=(128, 160), scale=(0.5, 1.5), **every),
            dict(type="aicore.MixUp", size=(128, 160), **every),
            dict(type="aicore.RandomHSV"),
            dict(type="mmdet.RandomFlip", prob=0.5),
            dict(type="aicore.Letterbox", size=(128, 160)),
            dict(type="mmdet.PackDetInputs"),
        ]
    )

    compared = 0
    for data in samples(pipeline, epochs=6):
        assert data["inputs"].shape == (3, 128, 160)
        image = data["inputs"].permute(1, 2, 0).numpy()
        truth = data["data_samples"].gt_instances
        if len(set(truth.labels.tolist())) != 1 or len(truth.bboxes.unique(dim=0)) != 1:
            continue  # where colours are blended, they cannot be told apart
        box, label = truth.bboxes[0].numpy(), int(truth.labels[0])
        if (box[2:] - box[:2]).min() > 4:
            np.testing.assert_allclose(bounds(coloured(image, label)), box, atol=2)
            compared += 1
    assert compared > 10


def test_without_mosaic_the_image_is_fitted():
    pipeline = Compose(
        [
            *LOAD,
            dict(type="aicore.LoadOthers", load=LOAD),
            dict(type="aicore.Mosaic", size=(96, 96)),
            dict(type="aicore.MixUp", size=(96, 96)),
            dict(type="aicore.RandomHSV"),
            dict(type="mmdet.RandomFlip", prob=0.0),
            dict(type="aicore.Letterbox", size=(96, 96)),
            dict(type="mmdet.PackDetInputs"),
        ]
    )

    data = pipeline({"number": 0, "ori_shape": (60, 80), "img_id": 5})

    assert data["inputs"].shape == (3, 96, 96)
    sample = data["data_samples"]
    np.testing.assert_allclose(sample.gt_instances.bboxes, example(0)["gt_bboxes"] * 1.2)
    assert sample.scale_factor == (1.2, 1.2)
    assert sample.img_shape == (96, 96)


@pytest.mark.parametrize("cache_size", [6])
def test_boxes_are_alike_with_and_without_a_cache(cache_size):
    def figures(size: int) -> np.ndarray:
        pipeline = Compose(
            [
                *LOAD,
                dict(type="aicore.LoadOthers", load=LOAD, cache_size=size),
                dict(type="aicore.Mosaic", size=(64, 64)),
                dict(type="aicore.MixUp", size=(64, 64)),
            ]
        )
        found = list(samples(pipeline, epochs=25, seed=1))
        boxes = np.concatenate([results["gt_bboxes"] for results in found])
        sides = boxes[:, 2:] - boxes[:, :2]
        counts = [len(results["gt_bboxes"]) for results in found]
        return np.array([np.mean(counts), np.std(counts), *sides.mean(axis=0), *sides.std(axis=0)])

    np.testing.assert_allclose(figures(cache_size), figures(0), rtol=0.1)


def test_without_a_cache_a_sample_follows_from_its_seed():
    settings = [dict(type="aicore.Mosaic", size=(64, 64)), dict(type="aicore.MixUp", size=(64, 64))]
    pipeline = Compose([*LOAD, dict(type="aicore.LoadOthers", load=LOAD), *settings])

    first, again = list(samples(pipeline, 1)), list(samples(pipeline, 1))

    for one, other in zip(first, again, strict=True):
        for key in ("img", *KEYS):
            assert np.array_equal(one[key], other[key])
    assert not np.array_equal(first[0]["img"], first[1]["img"])
