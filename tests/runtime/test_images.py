import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from aicore.errors import ConfigError, DataError, ImageError
from aicore.runtime.images import (
    find_images,
    read_image,
    to_channels,
    to_eight_bit_scale,
    write_image,
)


def picture(dtype=np.uint8, channels=3, size=(40, 60)) -> np.ndarray:
    """A smooth colourful picture that uses the whole range of ``dtype``."""
    noise = np.random.default_rng(0).random((*size, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    image = np.round(smooth * np.iinfo(dtype).max).astype(dtype)
    return image if channels == 3 else image[..., 0]


def pil_bytes(image: np.ndarray, image_format: str, mode: str = "RGB", **options) -> bytes:
    stream = io.BytesIO()
    colour = image[..., ::-1] if image.ndim == 3 else image
    pil_image = Image.fromarray(np.ascontiguousarray(colour))
    if mode != pil_image.mode and image.dtype == np.uint8:
        pil_image = pil_image.convert(mode)
    pil_image.save(stream, image_format, **options)
    return stream.getvalue()


def encoded(suffix: str, image: np.ndarray, options=()) -> bytes:
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def write_tiff(path: Path, image: np.ndarray, compression: int = 1) -> None:
    """Writes an HxW or HxWxC array as it is, with the simplest header that says so."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    values = {"u": 1, "i": 2, "f": 3}[image.dtype.kind]
    data = image.tobytes()
    tags = {256: image.shape[1], 257: image.shape[0], 258: 8 * image.itemsize}
    tags |= {259: compression, 262: 1 if channels == 1 else 2, 273: 8, 277: channels}
    tags |= {278: image.shape[0], 279: len(data), 339: values}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = struct.pack("<4sI", b"II*\0", 8 + len(data))
    path.write_bytes(start + data + struct.pack("<H", len(tags)) + entries + bytes(4))


# Reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_lossless_files_keep_depth_and_values(tmp_path, suffix, dtype, channels):
    image = picture(dtype, channels)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix, image))

    read = read_image(path, channels)

    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_file_is_repeated_and_colour_file_weighted(tmp_path, dtype):
    grey, colour = picture(dtype, 1), picture(dtype, 3)
    write_image(tmp_path / "grey.png", grey)
    write_image(tmp_path / "colour.png", colour)

    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", 3), np.dstack([grey] * 3))
    weighted = colour @ np.array([0.114, 0.587, 0.299])
    read = read_image(tmp_path / "colour.png", 1)
    assert read.dtype == dtype
    assert np.abs(read - weighted).max() < 2


@pytest.mark.parametrize("channels", [1, 3])
def test_bmp(tmp_path, channels):
    image = picture(channels=channels)
    (tmp_path / "a.bmp").write_bytes(encoded(".bmp", image))
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp", channels), image)


def test_jpg_and_webp(tmp_path):
    image = picture()
    for suffix in (".jpg", ".webp"):
        (tmp_path / f"a{suffix}").write_bytes(encoded(suffix, image))
        read = read_image(tmp_path / f"a{suffix}")
        assert read.shape == image.shape
        assert np.abs(read.astype(int) - image).mean() < 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_dropped(tmp_path, dtype):
    image = picture(dtype)
    alpha = np.zeros(image.shape[:2], dtype)
    (tmp_path / "a.png").write_bytes(encoded(".png", np.dstack([image, alpha])))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_other_pixel_formats_read_as_pillow_reads_them(tmp_path, mode, image_format):
    path = tmp_path / "image"
    path.write_bytes(pil_bytes(picture(), image_format, mode))
    with Image.open(path) as reference:
        expected = np.asarray(reference.convert("RGB"))[..., ::-1]
    np.testing.assert_array_equal(read_image(path), expected)


def test_cmyk_jpeg_becomes_colour(tmp_path):
    image = picture()
    (tmp_path / "a.jpg").write_bytes(pil_bytes(image, "JPEG", "CMYK", quality=95))
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).mean() < 6


UPRIGHT = {  # what each orientation of the EXIF standard asks to do with the stored rows
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("image_format", "dtype", "channels"),
    [
        ("JPEG", np.uint8, 3),
        ("JPEG", np.uint8, 1),
        ("PNG", np.uint8, 3),
        ("TIFF", np.uint8, 3),
        ("TIFF", np.uint16, 1),
    ],
)
def test_exif_orientation_is_applied(tmp_path, image_format, dtype, channels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = picture(dtype, channels)
    (tmp_path / "stored").write_bytes(pil_bytes(image, image_format))
    (tmp_path / "turned").write_bytes(pil_bytes(image, image_format, exif=exif))

    expected = UPRIGHT[orientation](read_image(tmp_path / "stored", channels))
    np.testing.assert_array_equal(read_image(tmp_path / "turned", channels), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_unicode_path(tmp_path, suffix):
    path = tmp_path / "图像" / f"ß ñ 画像{suffix}"
    path.parent.mkdir()
    write_image(path, np.full((8, 9, 3), 77, np.uint8))
    for given in (path, str(path)):
        assert (read_image(given) == 77).all()


# Files that cannot be read ------------------------------------------------------------------


def assert_refused(path, reason: str):
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.path == str(path)
    assert reason in caught.value.reason
    assert str(caught.value) == f"Cannot use image {path}: {caught.value.reason}."
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    assert_refused(tmp_path / "none.png", "no such file")
    assert_refused(tmp_path, "")


def test_empty_file(tmp_path):
    (tmp_path / "a.png").touch()
    assert_refused(tmp_path / "a.png", "empty (0 bytes)")


def test_text_named_png(tmp_path):
    (tmp_path / "a.png").write_text("part 1: ok\n" * 20)
    assert_refused(
        tmp_path / "a.png", "not an image; expected jpg, png, bmp, tif, webp, pgm or ppm"
    )


def whole_files() -> dict[str, bytes]:
    colour, grey, deep = picture(), picture(channels=1), picture(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "jpg": encoded(".jpg", colour),
        "jpg grey": encoded(".jpg", grey),
        "jpg progressive": encoded(".jpg", colour, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        "jpg restarts": encoded(".jpg", colour, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
        "jpg exif": pil_bytes(colour, "JPEG", exif=exif),
        "jpg cmyk": pil_bytes(colour, "JPEG", "CMYK"),
        "png": encoded(".png", colour),
        "png 16": encoded(".png", deep),
        "png pillow": pil_bytes(colour, "PNG"),
        "bmp": encoded(".bmp", colour),
        "bmp grey": encoded(".bmp", grey),
        "tif": encoded(".tif", colour),
        "tif 16": encoded(".tif", deep),
        "tif raw": encoded(".tif", colour, [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
        "tif pillow": pil_bytes(colour, "TIFF"),
        "tif deflate": pil_bytes(colour, "TIFF", compression="tiff_adobe_deflate"),
        "webp": encoded(".webp", colour),
    }


WHOLE_FILES = whole_files()


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_cut_off_file_is_refused(tmp_path, capfd, name):
    data = WHOLE_FILES[name]
    path = tmp_path / "a.img"
    path.write_bytes(data)
    assert read_image(path).shape in [(40, 60, 3), (60, 40, 3)]  # 60x40 where EXIF says so
    for size in (len(data) // 10, len(data) // 2, len(data) * 9 // 10, len(data) * 99 // 100):
        path.write_bytes(data[:size])
        assert_refused(path, f"cut off or damaged ({size} bytes)")
    path.write_bytes(data[:-1])
    assert_refused(path, "cut off or damaged")
    assert capfd.readouterr().err == ""


def test_large_jpg_cut_off_is_refused(tmp_path):
    # cv2.imread fills such a file up with grey.
    data = encoded(".jpg", picture(size=(600, 800)))
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    assert cv2.imread(str(tmp_path / "a.jpg")) is not None
    assert_refused(tmp_path / "a.jpg", "cut off")


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_zeros_in_place_of_the_rest_are_refused(tmp_path, suffix, share):
    data = encoded(suffix, picture())
    size = int(len(data) * share)
    (tmp_path / "a").write_bytes(data[:size] + bytes(len(data) - size))
    assert_refused(tmp_path / "a", "cut off or damaged")


def test_preview_in_a_cut_off_jpg_does_not_count_as_its_end(tmp_path):
    preview = encoded(".jpg", picture(size=(8, 8)))
    segment = b"\xff\xe1" + struct.pack(">H", len(preview) + 8) + b"Exif\0\0" + preview
    data = encoded(".jpg", picture())
    data = data[:2] + b"\xff" + segment + data[2:]  # with a byte of padding, as the standard allows
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 9 // 10] + bytes(10_000))
    assert_refused(tmp_path / "a.jpg", "cut off or damaged")


def test_bytes_behind_the_end_do_no_harm(tmp_path):
    for suffix in (".jpg", ".png"):
        (tmp_path / "a").write_bytes(encoded(suffix, picture()) + b"camera's own notes" * 9)
        assert read_image(tmp_path / "a").shape == (40, 60, 3)


def test_decompression_bomb_is_refused(tmp_path):
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )
    assert_refused(tmp_path / "a.png", "it has 60000 x 60000 = 3600000000 pixels, more than")


def test_pixel_limit_can_be_set(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", picture())
    monkeypatch.setenv("AICORE_MAX_IMAGE_PIXELS", "2399")
    assert_refused(tmp_path / "a.png", "environment variable AICORE_MAX_IMAGE_PIXELS")
    monkeypatch.setenv("AICORE_MAX_IMAGE_PIXELS", "2400")
    assert read_image(tmp_path / "a.png").shape == (40, 60, 3)
    monkeypatch.setenv("AICORE_MAX_IMAGE_PIXELS", "2 GB")
    with pytest.raises(ConfigError, match="AICORE_MAX_IMAGE_PIXELS is '2 GB'; expected"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), cv2.error("Failed to allocate 3000000000 bytes")],
    ids=["python", "opencv"],
)
def test_too_little_memory_costs_that_image(tmp_path, monkeypatch, error):
    def decode(*_):
        raise error

    if isinstance(error, cv2.error):
        error.code, error.err = cv2.Error.StsNoMem, "Failed to allocate 3000000000 bytes"
    write_image(tmp_path / "a.png", picture())
    monkeypatch.setattr(cv2, "imdecode", decode)
    assert_refused(tmp_path / "a.png", "not enough memory to decode it (60 x 40 pixels)")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert_refused(tmp_path / "a.png", "a named pipe")


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint32, np.float64, np.int16])
def test_tiff_of_other_depths_is_refused(tmp_path, dtype):
    write_tiff(tmp_path / "a.tif", picture(channels=1).astype(dtype))
    name = np.dtype(dtype).name
    assert_refused(tmp_path / "a.tif", f"its grey values are {name}; convert it to 8 or 16 bits")


def test_tiff_of_five_channels_is_not_called_damaged(tmp_path):
    write_tiff(tmp_path / "a.tif", np.dstack([picture(), picture()[..., :2]]))
    with pytest.raises(ImageError, match="it has 5 channels; expected 1") as caught:
        read_image(tmp_path / "a.tif")
    assert "damaged" not in str(caught.value)


def test_tiff_of_an_unknown_compression_is_named(tmp_path):
    write_tiff(tmp_path / "a.tif", picture(), compression=34712)  # JPEG 2000
    assert_refused(tmp_path / "a.tif", "TIFF's number 34712, is not read")


def test_first_of_several_pages_is_read(tmp_path):
    first, second = picture(channels=1), 255 - picture(channels=1)
    Image.fromarray(first).save(
        tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(second)]
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 1), first)


def test_image_error_survives_pickling_and_rebuilding():
    error = ImageError(Path("图像/a.png"), "it is empty")
    again = pickle.loads(pickle.dumps(error))
    assert (again.path, again.reason) == ("图像/a.png", "it is empty")
    assert str(again) == str(error) == "Cannot use image 图像/a.png: it is empty."
    # As MMEngine's registry and torch's data loader raise it again.
    assert str(type(error)(str(error))) == str(error)


# Writing ------------------------------------------------------------------------------------


def test_write_refuses_what_the_format_cannot_hold(tmp_path):
    deep = picture(np.uint16)
    for name, image, reason in [
        ("a.jpg", deep, "cannot hold uint16"),
        ("a.bmp", deep, "cannot hold uint16"),
        ("a.png", deep.astype(np.float32), "cannot hold float32"),
        ("a.gif", picture(), "images are not written as '.gif'"),
        ("a.png", np.zeros((4, 4, 7), np.uint8), "shape (4, 4, 7)"),
        ("none/a.png", picture(), "no such file"),
    ]:
        with pytest.raises(ImageError) as caught:
            write_image(tmp_path / name, image)
        assert caught.value.path == str(tmp_path / name)
        assert reason in caught.value.reason
        assert not (tmp_path / name).exists()


# Finding ------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    for name in [
        "b/2.PNG",
        "b/10.tiff",
        "a/1.jpg",
        "a/deep/er/0.bmp",
        "a/notes.txt",
        "[x]/1.png",
        ".hidden/1.png",
        "a/._1.jpg",
        "empty/readme.txt",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(paths, root) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_find_images_in_folder(tree):
    found = names(find_images(tree).files, tree)
    assert found == ["[x]/1.png", "a/1.jpg", "a/deep/er/0.bmp", "b/10.tiff", "b/2.PNG"]
    assert names(find_images(str(tree / "[x]")).files, tree) == ["[x]/1.png"]


def test_find_images_by_file_glob_and_order(tree, monkeypatch):
    inputs = [tree / "b", str(tree / "a" / "*"), tree / "b" / "2.PNG", str(tree / "[x]/1.png")]
    assert names(find_images(inputs).files, tree) == [
        "b/10.tiff",
        "b/2.PNG",
        "a/1.jpg",
        "[x]/1.png",
    ]
    assert names(find_images(str(tree / "**" / "*.bmp")).files, tree) == ["a/deep/er/0.bmp"]
    assert find_images(tree / "a" / "notes.txt").files == [tree / "a" / "notes.txt"]
    monkeypatch.chdir(tree)
    assert find_images("a/*.jpg").files == [Path("a/1.jpg")]


def test_find_images_says_what_was_tried(tree):
    with pytest.raises(DataError, match=r"No such file or folder.*none/\*\.png"):
        find_images(tree / "none" / "*.png")
    with pytest.raises(DataError, match="No such file or folder"):
        find_images([tree / "a", tree / "gone"])
    with pytest.raises(DataError, match=r"empty: 1 files were found there, none ends in \.bmp"):
        find_images(tree / "empty")
    with pytest.raises(DataError, match=r"\*\.txt: 1 files were found there"):
        find_images(tree / "a" / "*.txt")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**", ["[x]/1.png", "a/1.jpg", "a/deep/er/0.bmp", "b/10.tiff", "b/2.PNG"]),
        ("**/deep/**/*", ["a/deep/er/0.bmp"]),
        ("**/b/1*", ["b/10.tiff"]),
        ("[ab]/**/?.*", ["a/1.jpg", "a/deep/er/0.bmp", "b/2.PNG"]),
        (".hidden/*", [".hidden/1.png"]),
    ],
)
def test_find_images_by_globs_of_folders(tree, pattern, expected):
    assert names(find_images(tree / pattern).files, tree) == expected


@pytest.mark.parametrize("pattern", ["", "*", "**/*", "b/*", "b/**/*.*"])
def test_find_images_ends_at_loops_and_opens_files_alone(tree, pattern):
    (tree / "b/loop").symlink_to(tree)
    os.mkfifo(tree / "b/pipe.png")
    (tree / "b/gone.png").symlink_to("nowhere")
    (tree / "0.png").touch()

    found = find_images(tree / pattern)

    assert len({path.resolve() for path in found.files}) == len(found.files) > 0
    if pattern != "*":
        reasons = {path.relative_to(tree).as_posix(): reason for path, reason in found.left_out}
        assert reasons["b/pipe.png"] == "a named pipe, no file"
        assert reasons["b/gone.png"] == "a link to nothing"


def test_find_images_refuses_what_is_no_file(tree):
    os.mkfifo(tree / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png' cannot be used: a named pipe, no file"):
        find_images(tree / "pipe.png")
    with pytest.raises(DataError, match="cannot be used: file name too long"):
        find_images(tree / ("a" * 300))


# Arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_to_channels(dtype):
    colour = picture(np.uint16).astype(dtype)
    grey = colour[..., 0]
    kept = np.float32 if dtype == np.float64 else dtype
    for image, channels, expected in [
        (grey, 1, grey),
        (grey[..., None], 1, grey),
        (grey, 3, np.dstack([grey] * 3)),
        (grey[..., None], 3, np.dstack([grey] * 3)),
        (colour, 3, colour),
    ]:
        out = to_channels(image, channels)
        assert out.dtype == kept
        np.testing.assert_array_equal(out, expected)
    out = to_channels(colour, 1)
    assert (out.dtype, out.shape) == (kept, grey.shape)
    assert np.abs(out - colour @ np.array([0.114, 0.587, 0.299])).max() < 2


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 5, 3), np.uint8),
        np.zeros((4, 5), np.int64),
        np.zeros((4, 5), bool),
    ],
)
def test_to_channels_refuses_what_is_no_image(image):
    with pytest.raises(DataError, match="is not an image: expected"):
        to_channels(image, 3)


def test_to_eight_bit_scale_keeps_every_grey_level():
    levels = np.arange(65536, dtype=np.uint16)
    out = to_eight_bit_scale(levels)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, levels / 257, rtol=1e-6)
    assert len(np.unique(out)) == 65536
    assert to_eight_bit_scale(np.array([4095], np.uint16), 4095) == pytest.approx(255)
    for same in (np.arange(9, dtype=np.uint8), np.arange(9, dtype=np.float32)):
        assert to_eight_bit_scale(same, 4095) is same


def test_runtime_imports_neither_torch_nor_mmengine():
    code = (
        "import sys, aicore.runtime.images;"
        "assert not {'torch', 'mmengine', 'mmcv', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
