import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile

from aicore.datasets.transforms.loading import LoadImage
from aicore.errors import ConfigError, DataError, ImageError
from aicore.registry import TRANSFORMS
from aicore.runtime.images import write_image


def grey_ramp(dtype, top) -> np.ndarray:
    """A 16x256 image whose grey values go from 0 to ``top``."""
    return np.linspace(0, top, 16 * 256).round().astype(dtype).reshape(16, 256)


@pytest.fixture
def colour(tmp_path) -> str:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    return str(tmp_path / "a.png")


def test_sets_what_mmcv_sets(colour):
    assert TRANSFORMS.module_dict["LoadImage"] is LoadImage
    ours = LoadImage()(dict(img_path=colour))
    theirs = LoadImageFromFile()(dict(img_path=colour))
    assert ours.keys() == theirs.keys()
    np.testing.assert_array_equal(ours["img"], theirs["img"])
    assert ours["img"].dtype == np.uint8
    for key in ("img_path", "img_shape", "ori_shape"):
        assert ours[key] == theirs[key]


def test_one_channel(colour):
    results = LoadImage(in_channels=1)(dict(img_path=colour))
    theirs = LoadImageFromFile(color_type="grayscale")(dict(img_path=colour))
    assert results["img"].shape == results["img_shape"] == (20, 30)
    assert np.abs(results["img"].astype(int) - theirs["img"]).max() <= 1


@pytest.mark.parametrize(("white_level", "in_channels"), [(65535, 1), (4095, 1), (4095, 3)])
def test_16_bits_come_on_the_8_bit_scale_without_loss(tmp_path, white_level, in_channels):
    ramp = grey_ramp(np.uint16, white_level)
    write_image(tmp_path / "a.tif", ramp)
    image = LoadImage(in_channels, white_level)(dict(img_path=tmp_path / "a.tif"))["img"]

    assert image.dtype == np.float32
    assert (image.min(), image.max()) == (0, pytest.approx(255))
    assert len(np.unique(image)) == len(np.unique(ramp)) == 4096
    grey = image if in_channels == 1 else image[..., 2]
    np.testing.assert_allclose(grey, ramp * (255 / white_level), rtol=1e-5)


def test_brighter_than_white_names_the_file_and_both_values(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, grey_ramp(np.uint16, 40000))
    with pytest.raises(DataError, match=r"a\.png has the grey value 40000.*white_level=4095"):
        LoadImage(white_level=4095)(dict(img_path=str(path)))


@pytest.mark.parametrize(("in_channels", "shape"), [(1, (32, 32)), (3, (32, 32, 3))])
def test_not_inspected_image_keeps_its_place(tmp_path, in_channels, shape):
    record = dict(img_path=str(tmp_path / "none.png"), not_inspected="no such file")
    results = LoadImage(in_channels)(record)
    assert results["img"].shape == shape
    assert results["img"].dtype == np.uint8
    assert not results["img"].any()
    assert results["img_shape"] == results["ori_shape"] == (32, 32)
    assert results["not_inspected"] == "no such file"


def test_unreadable_image_raises_with_path_and_reason(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError) as caught:
        LoadImage()(dict(img_path=str(tmp_path / "a.png")))
    assert caught.value.path == str(tmp_path / "a.png")
    assert "empty" in caught.value.reason


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_array_is_treated_as_a_file_with_its_pixels(tmp_path, dtype, in_channels):
    colour = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(dtype)
    for image in (colour, colour[..., 0], colour[..., :1], colour[:, ::-1]):
        results = LoadImage(in_channels)(dict(img=image))
        assert results["img_path"] is None
        assert results["img_shape"] == results["ori_shape"] == (20, 30)
        assert results["img"].flags.c_contiguous
        if dtype == np.float64:  # no file format for it
            assert results["img"].dtype == np.float32
            continue
        write_image(tmp_path / "a.png", image)
        read = LoadImage(in_channels)(dict(img_path=str(tmp_path / "a.png")))["img"]
        assert results["img"].dtype == read.dtype
        np.testing.assert_array_equal(results["img"], read)


def test_array_that_is_no_image():
    with pytest.raises(DataError, match=r"shape \(3, 20, 30\)"):
        LoadImage()(dict(img=np.zeros((3, 20, 30), np.uint8)))
    with pytest.raises(DataError, match="An image array has the grey value 9"):
        LoadImage(white_level=4)(dict(img=np.full((2, 2), 9, np.uint16)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(in_channels=4), "in_channels is 4; expected 1 or 3"),
        (dict(in_channels="3"), "in_channels is '3'"),
        (dict(white_level=0), "white_level is 0; expected the grey value"),
        (dict(white_level=70000), "white_level is 70000"),
        (dict(white_level="12 bit"), "white_level is '12 bit'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        LoadImage(**arguments)


def test_repr_names_the_arguments():
    assert repr(LoadImage(1, 4095)) == "LoadImage(in_channels=1, white_level=4095)"


def test_too_little_memory_costs_that_image(tmp_path, monkeypatch):
    def scale(*_):
        raise MemoryError

    write_image(tmp_path / "a.png", grey_ramp(np.uint16, 4095))
    monkeypatch.setattr("aicore.datasets.transforms.loading.to_eight_bit_scale", scale)
    with pytest.raises(ImageError, match=r"a\.png: there is not enough memory for it"):
        LoadImage()({"img_path": str(tmp_path / "a.png")})
