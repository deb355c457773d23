import pickle
import subprocess
import sys
import warnings

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import ConfigDict
from mmengine.dataset import worker_init_fn
from torch.utils.data import DataLoader, Dataset

from aicore.datasets.transforms.albu import Albu
from aicore.errors import ConfigError, DataError
from aicore.registry import TRANSFORMS

HEIGHT, WIDTH = 80, 120
BOXES = np.array([[20, 10, 60, 40], [70, 45, 100, 75]], np.float32)
COLOURS = np.array([[250, 20, 20], [20, 20, 250]])  # BGR, one for each box and its label

GEOMETRIC = [
    dict(type="HorizontalFlip", p=1.0),
    dict(type="VerticalFlip", p=1.0),
    dict(type="Transpose", p=1.0),
    dict(type="RandomRotate90", p=1.0),
    dict(type="Affine", translate_px=dict(x=(-40, 40), y=(-30, 30)), scale=(0.7, 1.3), p=1.0),
    dict(type="Rotate", limit=(-40, 40), border_mode=cv2.BORDER_CONSTANT, p=1.0),
    dict(type="RandomCrop", height=60, width=80, p=1.0),
    dict(type="RandomResizedCrop", size=(64, 96), scale=(0.5, 1.0), p=1.0),
    dict(type="Resize", height=160, width=200, p=1.0),
    dict(type="PadIfNeeded", min_height=128, min_width=160, p=1.0),
    dict(
        type="OneOf",
        transforms=[
            dict(type="HorizontalFlip"),
            dict(type="SomeOf", transforms=[dict(type="VerticalFlip"), dict(type="Transpose")]),
        ],
        p=1.0,
    ),
]


def scene(boxes=BOXES) -> dict:
    """A black image with a filled rectangle of its own colour in each box, and its masks."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    seg_map = np.zeros((HEIGHT, WIDTH), np.int64)
    for number, (left, top, right, bottom) in enumerate(boxes.astype(int)):
        image[top:bottom, left:right] = COLOURS[number]
        seg_map[top:bottom, left:right] = 300 * number + 7
    return dict(
        img=image,
        img_shape=image.shape[:2],
        gt_seg_map=seg_map,
        seg_fields=["gt_seg_map"],
        mask=seg_map > 0,
        gt_bboxes=HorizontalBoxes(boxes),
        gt_bboxes_labels=np.arange(len(boxes)),
        gt_ignore_flags=np.arange(len(boxes)) == 1,
    )


def extent(image: np.ndarray, colour: np.ndarray) -> np.ndarray | None:
    """The x1 y1 x2 y2 of the pixels nearer to ``colour`` than to black and the other colours."""
    palette = np.vstack([np.zeros(3), COLOURS])
    distances = np.linalg.norm(image[:, :, None] - palette, axis=-1)
    rows, columns = np.nonzero((palette[distances.argmin(-1)] == colour).all(-1))
    if not len(rows):
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("spec", GEOMETRIC, ids=lambda spec: spec["type"])
def test_boxes_labels_and_masks_follow_the_pixels(spec):
    albu = Albu([spec], min_visibility=0.0)
    for seed in range(8):
        np.random.seed(seed)
        results = albu(scene())
        image = results["img"]
        assert results["img_shape"] == image.shape[:2]
        assert image.flags.c_contiguous

        labels = results["gt_bboxes_labels"]
        assert isinstance(results["gt_bboxes"], HorizontalBoxes)
        np.testing.assert_array_equal(results["gt_ignore_flags"], labels == 1)
        boxes = dict(zip(labels.tolist(), results["gt_bboxes"].tensor.numpy(), strict=True))
        for label, colour in enumerate(COLOURS):
            seen = extent(image, colour)
            if seen is not None:
                assert np.abs(boxes[label] - seen).max() < 1.6
            elif label in boxes:  # a sliver of less than a pixel
                assert min(boxes[label][2:] - boxes[label][:2]) < 1.6

        seg_map, mask = results["gt_seg_map"], results["mask"]
        assert (seg_map.dtype, mask.dtype) == (np.int64, bool)
        assert seg_map.shape == mask.shape == image.shape[:2]
        assert set(np.unique(seg_map)) <= {0, 7, 307}
        np.testing.assert_array_equal(mask, seg_map > 0)
        painted = image.astype(int).sum(-1) > 145
        assert (painted & mask).sum() > 0.9 * (painted | mask).sum()


def test_flip_is_exact():
    before = scene()
    after = Albu([dict(type="HorizontalFlip", p=1.0)])(scene())
    np.testing.assert_array_equal(after["img"], before["img"][:, ::-1])
    np.testing.assert_array_equal(after["gt_seg_map"], before["gt_seg_map"][:, ::-1])
    flipped = np.array([[60, 10, 100, 40], [20, 45, 50, 75]])
    np.testing.assert_allclose(after["gt_bboxes"].tensor, flipped, atol=1e-4)


def crop_left(columns: int) -> dict:
    return dict(type="Crop", x_min=0, y_min=0, x_max=columns, y_max=HEIGHT, p=1.0)


def test_dropped_boxes_take_their_labels_along():
    # 90 columns hold 2/3 of the second box, 50 hold 3/4 of the first and none of the second.
    for min_visibility, columns, kept in [
        (0.6, 90, [0, 1]),
        (0.7, 90, [0]),
        (0.7, 50, [0]),
        (0.8, 50, []),
        (0.0, 15, []),
    ]:
        results = Albu([crop_left(columns)], min_visibility)(scene())
        assert results["gt_bboxes_labels"].tolist() == kept
        assert results["gt_ignore_flags"].tolist() == [label == 1 for label in kept]
        clipped = BOXES[kept].clip(max=[columns, HEIGHT, columns, HEIGHT])
        assert results["gt_bboxes"].tensor.shape == (len(kept), 4)
        np.testing.assert_allclose(results["gt_bboxes"].tensor, clipped, atol=1e-4)


def test_boxes_as_array_outside_the_image_or_none():
    corners = [[-10, -5, 30, 20], [50, 60, 50, 70], [10, 10, 20, 20], [130, 10, 150, 20]]
    boxes = np.array(corners, np.float32)
    record = dict(scene(), gt_bboxes=boxes, gt_bboxes_labels=np.array([4, 5, 6, 7]))
    del record["gt_ignore_flags"]
    results = Albu([dict(type="VerticalFlip", p=1.0)])(record)
    assert isinstance(results["gt_bboxes"], np.ndarray)
    assert results["gt_bboxes"].dtype == np.float32
    np.testing.assert_allclose(results["gt_bboxes"], [[0, 60, 30, 80], [10, 60, 20, 70]], atol=1e-4)
    assert results["gt_bboxes_labels"].tolist() == [4, 6]

    empty = dict(scene(), gt_bboxes=np.zeros((0, 4), np.float32), gt_bboxes_labels=np.zeros(0, int))
    del empty["gt_ignore_flags"]
    results = Albu([dict(type="Affine", scale=0.8, p=1.0)])(empty)
    assert results["gt_bboxes"].shape == (0, 4)
    assert results["gt_bboxes_labels"].shape == (0,)


def test_crop_around_a_defect_sees_the_mask():
    seg_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    seg_map[70:74, 110:114] = 1
    albu = Albu([dict(type="CropNonEmptyMaskIfExists", height=16, width=16, p=1.0)])
    for _ in range(10):
        results = albu(dict(img=np.zeros((HEIGHT, WIDTH), np.uint8), gt_seg_map=seg_map.copy()))
        assert results["img"].shape == (16, 16)
        assert results["gt_seg_map"].any()


def test_all_seg_fields_move():
    record = scene()
    record["gt_edge_map"] = record["gt_seg_map"].astype(np.uint8)
    record["seg_fields"] = ["gt_seg_map", "gt_edge_map"]
    results = Albu([dict(type="Transpose", p=1.0)])(record)
    np.testing.assert_array_equal(results["gt_edge_map"], scene()["gt_seg_map"].T.astype(np.uint8))


def test_image_alone_and_no_transform():
    image = scene()["img"]
    results = Albu([])(dict(img=image.copy()))
    assert results.keys() == {"img", "img_shape"}
    np.testing.assert_array_equal(results["img"], image)


# Depth and colour ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_grey_levels_survive(channels):
    levels = (np.arange(65536, dtype=np.float32) / 257).reshape(256, 256)
    image = levels if channels == 1 else np.dstack([levels] * 3)
    results = Albu([dict(type="HorizontalFlip", p=1.0)])(dict(img=image.copy()))
    assert results["img"].dtype == np.float32
    np.testing.assert_allclose(results["img"], image[:, ::-1], atol=1e-4)
    assert len(np.unique(results["img"])) == 65536


@pytest.mark.parametrize("channels", [1, 3])
def test_an_augmentation_means_the_same_for_both_depths(channels):
    shape = (8, 8) if channels == 1 else (8, 8, 3)
    brighter = Albu(
        [
            dict(
                type="RandomBrightnessContrast",
                brightness_limit=(0.2, 0.2),
                contrast_limit=(0, 0),
                p=1.0,
            )
        ]
    )
    for dtype in (np.uint8, np.float32):
        results = brighter(dict(img=np.full(shape, 100, dtype)))
        assert results["img"].dtype == dtype
        assert np.abs(results["img"] - 151.0).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_colours_are_handed_over_in_their_order(dtype):
    blue = np.zeros((4, 4, 3), dtype)
    blue[..., 0] = 255
    results = Albu([dict(type="ToGray", p=1.0)])(dict(img=blue))
    assert np.abs(results["img"] - 0.114 * 255).max() <= 1
    shifted = Albu(
        [
            dict(
                type="RGBShift",
                r_shift_limit=(30, 30),
                g_shift_limit=(0, 0),
                b_shift_limit=(0, 0),
                p=1.0,
            )
        ]
    )(dict(img=np.full((4, 4, 3), 100, np.uint8)))
    np.testing.assert_array_equal(shifted["img"][0, 0], [100, 100, 130])


# Randomness ---------------------------------------------------------------------------------

RANDOM = [
    dict(type="HorizontalFlip"),
    dict(type="VerticalFlip"),
    dict(type="OneOf", transforms=[dict(type="GaussNoise"), dict(type="Rotate")], p=0.9),
]


def samples(albu, seed: int, count: int = 8) -> list[np.ndarray]:
    np.random.seed(seed)
    return [albu(scene())["img"] for _ in range(count)]


def test_numpy_seed_decides_the_samples():
    first = samples(Albu(RANDOM), 3)
    used = Albu(RANDOM)
    samples(used, 11, count=3)
    for one, two in zip(first, samples(used, 3), strict=True):
        np.testing.assert_array_equal(one, two)
    other = samples(Albu(RANDOM), 4)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))
    assert len({image.tobytes() for image in first}) > 3


def test_transforms_are_drawn_independently():
    # Seeded with Compose.set_random_seed, Albumentations would flip always or never in both ways.
    albu = Albu([dict(type="HorizontalFlip", p=0.5), dict(type="VerticalFlip", p=0.5)])
    corners = np.arange(4, dtype=np.uint8).reshape(2, 2)
    np.random.seed(0)
    outcomes = [albu(dict(img=corners))["img"].tobytes() for _ in range(400)]
    counts = {outcome: outcomes.count(outcome) for outcome in outcomes}
    assert len(counts) == 4
    assert min(counts.values()) > 70  # 100 expected, standard deviation 8.7


class Scenes(Dataset):
    def __init__(self):
        self.albu = Albu(RANDOM)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.from_numpy(self.albu(scene())["img"].astype(np.int32))


def test_workers_differ_and_repeat_with_mmengine_seeds():
    def images(seed):
        loader = DataLoader(
            Scenes(),
            batch_size=3,
            num_workers=2,
            worker_init_fn=lambda worker: worker_init_fn(worker, 2, 0, seed),
        )
        return torch.cat(list(loader))

    first = images(0)
    assert torch.equal(first, images(0))
    assert not torch.equal(first, images(5))
    assert not torch.equal(first[:3], first[3:6])  # batches of the two workers


# Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([dict(type="HorizontalFlipp")], r"no transform 'HorizontalFlipp'\. Did you mean 'Horizo"),
        ([dict(type="resize", height=4, width=4)], "Did you mean 'Resize'"),
        ([dict(type="Compose", transforms=[])], "no transform 'Compose'"),
        (
            [dict(type="Blur"), dict(type="RandomBrightnessContrast", brightness=0.2)],
            r"transforms\[1\] \(RandomBrightnessContrast\) takes no argument 'brightness'\. "
            r"Did you mean 'brightness_limit'.* It takes: brightness_limit, contrast_limit",
        ),
        ([dict(type="Rotate", always_apply=True)], r"'always_apply'.* It takes: limit, interpol"),
        ([dict(type="HorizontalFlip", p=3)], r"transforms\[0\] \(HorizontalFlip\): p = 3: .* 1\."),
        ([dict(type="RandomRotate90", p=-1)], r"\(RandomRotate90\): p = -1"),
        ([dict(type="RandomCrop", height=20)], r"\(RandomCrop\): width: Field required"),
        ([dict(type="Affine", scale="big")], r"\(Affine\): scale = 'big'"),
        ([dict(type="Crop", x_min=5, x_max=3)], "x_max must be greater than x_min"),
        (
            [dict(type="OneOf", transforms=[dict(type="GaussNoise", var_limit=9)])],
            r"transforms\[0\]\.transforms\[0\] \(GaussNoise\) takes no argument 'var_limit'",
        ),
        ([dict(type="OneOf", transforms=[dict(type="Blur", p=0)])], "all have p=0"),
        ([dict(type="OneOf", transforms=[dict(type="Blur")], p=2)], r"\(OneOf\): p is 2; expected"),
        ([dict(type="OneOf", transforms=dict(type="Blur"))], "expected a list such as"),
        ([dict(type="OneOf")], r"transforms\[0\]\.transforms is None; expected a list"),
        ([dict(type="SomeOf", n="two", transforms=[])], r"transforms\[0\] \(SomeOf\): .*'str'"),
        ([dict(type="SomeOf", count=2, transforms=[])], "It takes: transforms, n, replace, p"),
        (dict(type="Blur"), "transforms is {'type': 'Blur'}; expected a list"),
        (["Blur"], r"transforms\[0\] is 'Blur'; expected a dict"),
        ([dict(p=0.5)], r"transforms\[0\] is {'p': 0.5}; expected a dict"),
        ([dict(type="Normalize")], "data_preprocessor normalises"),
        ([dict(type="FDA")], "needs fda_metadata"),
    ],
)
def test_mistakes_fail_when_built(specs, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match=message) as caught:
            Albu(specs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("min_visibility", [1.5, -0.1, "all"])
def test_min_visibility_is_a_share(min_visibility):
    with pytest.raises(ConfigError, match=r"min_visibility is .*; expected a number in"):
        Albu([], min_visibility)


def test_image_only_transforms_build_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Albu([dict(type="GaussNoise")])


def test_transform_that_does_not_fit_the_image():
    with pytest.raises(ConfigError, match=r"shape \(80, 120, 3\) \(uint8\): .*[Cc]rop"):
        Albu([dict(type="RandomCrop", height=500, width=500, p=1.0)])(scene())
    with pytest.raises(ConfigError, match="3-channel"):
        Albu([dict(type="RandomRain", p=1.0)])(dict(img=np.zeros((40, 40), np.uint8)))
    with pytest.raises(ConfigError, match="img is uint16; expected uint8, or float32"):
        Albu([])(dict(img=np.zeros((4, 4), np.uint16)))


def test_mask_of_another_size_and_instance_masks():
    record = dict(img_path="a.png", img=np.zeros((8, 9), np.uint8), mask=np.zeros((9, 8), bool))
    with pytest.raises(DataError, match=r"a\.png: mask is of shape \(9, 8\)"):
        Albu([])(record)
    with pytest.raises(ConfigError, match="cannot move gt_masks"):
        Albu([])(dict(img=np.zeros((8, 9), np.uint8), gt_masks=[]))


# As a transform of the library --------------------------------------------------------------


def test_is_registered_takes_a_config_and_pickles():
    assert TRANSFORMS.module_dict["Albu"] is Albu
    specs = [ConfigDict(type="HorizontalFlip", p=1.0)]
    albu = Albu(ConfigDict(transforms=specs).transforms)
    assert "HorizontalFlip(p=1.0)" in repr(albu)
    assert specs == [dict(type="HorizontalFlip", p=1.0)]  # the config is left as it was
    again = pickle.loads(pickle.dumps(albu))
    np.testing.assert_array_equal(again(scene())["img"], albu(scene())["img"])


@pytest.mark.slow
def test_it_is_imported_no_sooner_than_asked_for():
    code = "import sys, aicore.datasets; print('albumentations' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
