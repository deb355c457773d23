"""Image files and arrays: find, read, write, bring to one shape and one grey scale.

Training, evaluation, demo and the exported model read their images here, so that all of them see
the same pixels.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np

from aicore.errors import ConfigError, DataError, ImageError
from aicore.runtime.damage import find_damage
from aicore.runtime.files import FOLDER, MISSING, Walk, walk_files, why_no_file
from aicore.runtime.headers import SIGNATURES, Header, read_header

IMAGE_SUFFIXES = (
    *(".bmp", ".dib", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif"),
    *(".tiff", ".webp"),
)
"""Of files that are read."""
NO_IMAGE = "no image by its suffix"
"""Why a walk left a file out, see :func:`images_among`."""

PIXEL_LIMIT_VARIABLE = "AICORE_MAX_IMAGE_PIXELS"

_PIXEL_LIMIT = 2**28  # 16384 x 16384; a colour image of 16 bits is then 1.5 GiB
_MOST_CHANNELS = 4  # three colours and alpha
# None, CCITT's three, LZW, JPEG, Deflate, PackBits; others give OpenCV a black image.
_TIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)
_WRITTEN_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# What usually lies beside images: texts, tables, annotations, thumbnails of Windows.
_COMPANIONS = {
    *(".csv", ".db", ".html", ".ini", ".json", ".md", ".pdf", ".txt", ".xlsx", ".xml", ".yaml"),
    ".yml",
}
_SHOWN = 5  # suffixes, or other reasons, in a sentence
_SUFFIXES_OF_16_BIT = (".png", ".tif", ".tiff")

# OpenCV would print a line of its own about each broken file; ImageError says it better.
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.setLogLevel(0)


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """Reads an 8- or 16-bit image file, told by content, not suffix: jpg, png, bmp, tif, webp, pgm.

    The orientation that a jpg, png or tif states (EXIF) is applied, an alpha channel is dropped,
    CMYK and palettes become colour. Of a file with several pages the first is read.

    Args:
        path: The file; any Unicode name on any system.
        channels: 1 for grey, 3 for colour, whatever the file has; see :func:`to_channels`.

    Returns:
        HxW for one channel, HxWx3 in BGR order for three; uint8 or uint16 as in the file, with
        its values as they are.

    Raises:
        ImageError: The file is missing, empty, cut off, damaged as far as its format can tell
            (see :mod:`aicore.runtime.damage`), not an image, of more than 2**28 pixels (or what
            the environment variable AICORE_MAX_IMAGE_PIXELS says), too large for the memory, of
            more than four channels, or neither 8- nor 16-bit.
        ConfigError: AICORE_MAX_IMAGE_PIXELS is not a number.
    """
    return decode_image(path, read_bytes(path), channels)


def decode_image(path: str | Path, data: bytes, channels: int = 3) -> np.ndarray:
    """Decodes the content of an image file, of the name ``path``, as :func:`read_image` does."""
    header = read_header(data)
    if header is not None:
        _check_kind(path, header)
    damage = find_damage(data, header)
    if damage:
        raise ImageError(path, _damaged(data, damage))
    try:
        return to_channels(_decode(path, data, header), channels)
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise ImageError(path, f"OpenCV refuses it ({error.err})") from error
        size = f" ({header.width} x {header.height} pixels)" if header else ""
        raise ImageError(
            path, f"there is not enough memory to decode it{size}; cut it into smaller images"
        ) from error


def read_bytes(path: str | Path) -> bytes:
    """Reads an image file as it is.

    Raises:
        ImageError: The file is missing, empty, cannot be read, or is no file: a pipe would be
            waited for without end.
    """
    reason = why_no_file(Path(path))
    if reason:
        raise ImageError(path, reason)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(path, _lower_first(error.strerror or str(error))) from error
    if not data:
        raise ImageError(path, "the file is empty (0 bytes); copy it again or remove it")
    return data


def check_pixels(path: str | Path, width: int, height: int) -> None:
    """Raises for an image that is too large, before it is decoded.

    Raises:
        ImageError: It has more than :func:`pixel_limit` pixels.
    """
    pixels, limit = width * height, pixel_limit()
    if pixels > limit:
        raise ImageError(
            path,
            f"it has {width} x {height} = {pixels} pixels, more than {limit}; cut it into smaller "
            f"images, or set the environment variable {PIXEL_LIMIT_VARIABLE}",
        )


def pixel_limit() -> int:
    """Returns the largest number of pixels of an image that is read.

    Raises:
        ConfigError: AICORE_MAX_IMAGE_PIXELS is not a number.
    """
    text = os.environ.get(PIXEL_LIMIT_VARIABLE, str(_PIXEL_LIMIT))
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(
            f"The environment variable {PIXEL_LIMIT_VARIABLE} is {text!r}; expected the largest "
            f"number of pixels of an image, e.g. {_PIXEL_LIMIT}."
        ) from error


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes an image in the format of the path's suffix; the folder must exist.

    Args:
        path: The file; any Unicode name on any system.
        image: HxW or HxWx3 in BGR order; uint8, or uint16 for png and tif.

    Raises:
        ImageError: Such files are not written, the format cannot hold the array, or the file
            cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITTEN_SUFFIXES:
        known = " ".join(_WRITTEN_SUFFIXES)
        raise ImageError(path, f"images are not written as {suffix!r}, use one of {known}")
    # OpenCV would clip 16 bits to 8 without a word.
    if image.dtype != np.uint8 and not (image.dtype == np.uint16 and suffix in _SUFFIXES_OF_16_BIT):
        raise ImageError(
            path,
            f"a {suffix} file cannot hold {image.dtype}; write uint8, or uint16 as .png or .tif",
        )
    try:
        _, encoded = cv2.imencode(suffix, image)
    except cv2.error as error:
        raise ImageError(path, f"shape {image.shape} cannot be written ({error.err})") from error
    try:
        Path(path).write_bytes(encoded.tobytes())
    except OSError as error:
        raise ImageError(path, _lower_first(error.strerror or str(error))) from error


def find_images(inputs: str | Path | Iterable[str | Path]) -> Walk:
    """Finds image files by files, folders and globs, in the order given, each file once.

    A file is taken whatever its suffix. Of a folder (searched to its last subfolder) and of a
    glob such as ``parts/**/*_top.png`` the files with one of ``IMAGE_SUFFIXES`` are taken, sorted
    by path; hidden ones (``.thumbnails/a.png``, ``._a.png``) are not. What is passed over
    otherwise is told as :func:`walk_files` tells it.

    Args:
        inputs: One path or glob, or several.

    Raises:
        DataError: A path does not exist or cannot be used, a glob matches nothing, or no image is
            there.
    """
    if isinstance(inputs, (str, Path)):
        inputs = [inputs]
    found: dict[Path, None] = {}
    left_out: dict[tuple[Path, str], None] = {}
    for item in inputs:
        walk = _find_images_of(Path(item))
        found.update(dict.fromkeys(walk.files))
        left_out.update(dict.fromkeys(walk.left_out))
    return Walk(list(found), list(left_out))


def images_among(walk: Walk) -> Walk:
    """Returns what is left of a walk if files that do not end as images do are left out too.

    Texts and tables, which may well lie beside images, are passed over without a word.
    """
    images = [file for file in walk.files if file.suffix.lower() in IMAGE_SUFFIXES]
    named = {*IMAGE_SUFFIXES, *_COMPANIONS}
    others = [(file, NO_IMAGE) for file in walk.files if file.suffix.lower() not in named]
    return Walk(images, walk.left_out + others)


def describe_others(files: Sequence[Path]) -> str:
    """Returns ``6 files are no images (.gif 4, .heic 2)``."""
    counts = Counter(file.suffix.lower() for file in files).most_common()
    shown = [f"{suffix or 'no suffix'} {count}" for suffix, count in counts[:_SHOWN]]
    if len(counts) > _SHOWN:
        shown.append(f"and {len(counts) - _SHOWN} other suffixes")
    subject = "1 file is no image" if len(files) == 1 else f"{len(files)} files are no images"
    return f"{subject} ({', '.join(shown)})"


def describe_left_out(left_out: Sequence[tuple[Path, str]]) -> str:
    """Returns what a walk passed over, as one clause; nothing if there is nothing to say."""
    others = [path for path, reason in left_out if reason == NO_IMAGE]
    closed = [f"{str(path)!r} is {reason}" for path, reason in left_out if reason != NO_IMAGE]
    if len(closed) > _SHOWN:
        closed[_SHOWN:] = [f"and {len(closed) - _SHOWN} more"]
    return "; ".join([describe_others(others)] * bool(others) + closed)


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Brings an image array to one or three channels.

    Args:
        image: HxW, HxWx1 or HxWx3 in BGR order; uint8, uint16 or a float type.
        channels: 1 or 3. Colour is weighted to grey (ITU-R BT.601), grey is repeated.

    Returns:
        HxW for one channel, HxWx3 in BGR order for three; uint8, uint16 or float32. Where nothing
        has to be converted it shares the array's memory.

    Raises:
        DataError: The array has another shape or type.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if np.issubdtype(image.dtype, np.floating):
        image = image.astype(np.float32, copy=False)
    is_grey = image.ndim == 2
    if not is_grey and (image.ndim != 3 or image.shape[2] != 3):
        raise DataError(
            f"An array of shape {image.shape} is not an image: expected HxW, HxWx1 or HxWx3."
        )
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise DataError(
            f"An array of type {image.dtype} is not an image: expected uint8, uint16 or float."
        )
    if is_grey == (channels == 1):
        return image
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if is_grey else cv2.COLOR_BGR2GRAY)


def to_eight_bit_scale(image: np.ndarray, white_level: int = 65535) -> np.ndarray:
    """Brings a 16-bit image to the grey scale of an 8-bit one: 0 is black, 255 is white.

    Args:
        image: Any shape; uint8, uint16, or float32, which is taken as on this scale.
        white_level: The grey value of white in a uint16 array: 65535, or 4095 of a 12-bit camera.

    Returns:
        float32 for uint16, ``image * 255 / white_level``, which keeps all grey levels apart; else
        the array as it is.
    """
    return image * np.float32(255 / white_level) if image.dtype == np.uint16 else image


def _check_kind(path: str | Path, header: Header) -> None:
    """Raises for an image that is too large, or of a kind that is not read."""
    check_pixels(path, header.width, header.height)
    if header.channels > _MOST_CHANNELS:
        raise ImageError(
            path,
            f"it has {header.channels} channels; expected 1 (grey) or 3 (colour), with or without "
            "alpha: write the channels that matter as images of their own",
        )
    if header.values != "uint" or header.bits > 16:
        raise ImageError(
            path,
            f"its grey values are {header.values}{header.bits}; convert it to 8 or 16 bits "
            "without a sign",
        )
    if header.compression not in _TIFF_COMPRESSIONS:
        raise ImageError(
            path,
            f"its compression, TIFF's number {header.compression}, is not read; save it without "
            "one, or with LZW or Deflate",
        )


def _decode(path: str | Path, data: bytes, header: Header | None) -> np.ndarray:
    """Decodes a file's bytes to HxW or HxWx3, uint8 or uint16, as the file has them."""
    # imdecode refuses a file that is cut off; cv2.imread fills the rest of a jpg with grey.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image is None and header is None and not data.startswith(SIGNATURES):
        raise ImageError(path, "it is not an image; expected jpg, png, bmp, tif, webp, pgm or ppm")
    if image is None:
        raise ImageError(path, _damaged(data, "", header))
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(path, f"its grey values are {image.dtype}; convert it to 8 or 16 bits")
    return image


def _find_images_of(path: Path) -> Walk:
    """Finds the images of one file, folder or glob."""
    reason = why_no_file(path)
    if not reason:
        return Walk([path], [])
    if reason == FOLDER:
        walk = walk_files(path)
    elif reason == MISSING or glob.has_magic(str(path)):
        walk = _match(path)
    else:
        raise DataError(f"{str(path)!r} cannot be used: {reason}. Give an image or a folder.")
    images = images_among(walk)
    if images.files:
        return images
    if reason != FOLDER and not any(walk):
        raise DataError(
            f"No such file or folder, and no match as a glob: {path}. Give an image, a folder of "
            f"images or a glob such as 'parts/*.png'."
        )
    left_out = f" ({describe_left_out(images.left_out)})" if images.left_out else ""
    raise DataError(
        f"No image in {path}: {len(walk.files)} files were found there, none ends in "
        f"{' '.join(IMAGE_SUFFIXES)}{left_out}. Give a folder or a glob with images, such as "
        f"{path if reason == FOLDER else 'parts'}/part_1.png."
    )


def _match(pattern: Path) -> Walk:
    """Finds the files that a glob names; ``**`` stands for any number of folders."""
    if "**" not in pattern.parts:
        matches = sorted(map(Path, glob.glob(str(pattern))))  # noqa: PTH207  (absolute ones too)
        reasons = {match: why_no_file(match) for match in matches}
        others = [
            (match, reason) for match, reason in reasons.items() if reason not in ("", FOLDER)
        ]
        return Walk([match for match, reason in reasons.items() if not reason], others)
    start = pattern.parts.index("**")
    walk = Walk([], [])
    for folder in sorted(glob.glob(str(Path(*pattern.parts[:start])))):  # noqa: PTH207
        below = walk_files(folder)
        walk.files.extend(
            file
            for file in below.files
            if _fits(file.relative_to(folder).parts, pattern.parts[start:])
        )
        walk.left_out.extend(below.left_out)
    return walk


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tells whether the parts of a path fit those of a glob with ``**``."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _damaged(data: bytes, damage: str, header: Header | None = None) -> str:
    """Returns the clause on a file that is damaged, or that OpenCV does not decode."""
    kind = f", or of a kind that OpenCV does not decode: {header}" if header else ""
    return (
        f"it is cut off or damaged ({len(data)} bytes){': ' if damage else ''}{damage}{kind}; "
        "copy it again or remove it"
    )


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
