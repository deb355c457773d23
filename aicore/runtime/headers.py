"""What an image file says of itself before its pixels: size, channels, depth, pages.

Read from the bytes alone, so that a picture too large for the memory, or of a kind that the
decoder does not know, is told before it is decoded.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # "+" is BigTIFF
_PNM_SIGNATURES = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
SIGNATURES = (PNG_SIGNATURE, JPEG_SIGNATURE, b"BM", b"RIFF", *_TIFF_SIGNATURES)

_JPEG_START_OF_SCAN = 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF; not tables
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette holds colours
_PNG_WITH_ALPHA = (4, 6)
# Numbers that stand apart by blanks or by comments: width, height, largest value.
_PNM_NUMBER = re.compile(rb"(?:\s|#[^\n]*\n)+(\d+)")
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # whole numbers without a sign
_TIFF_VALUES = {1: "uint", 2: "int", 3: "float"}  # sample formats


class TiffTag:
    """Numbers of the TIFF tags that are read."""

    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
    FILL_ORDER, STRIP_OFFSETS, CHANNELS, STRIP_ROWS, STRIP_SIZES = 266, 273, 277, 278, 279
    PLANAR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 284, 322, 323, 324, 325
    KIND, EXTRA_CHANNELS, VALUES = 254, 338, 339


@dataclass(frozen=True)
class Header:
    """What the start of an image file states.

    Attributes:
        format: ``jpg``, ``png``, ``bmp``, ``tif``, ``webp`` or ``pnm`` (pgm, ppm).
        width: In pixels, as stored, before any orientation is applied.
        height: In pixels.
        channels: Values of a pixel, alpha included.
        bits: Of one value.
        values: ``uint``, ``int`` or ``float``.
        has_alpha: Whether pixels can be transparent.
        pages: Number of pictures in the file; of a tif alone.
        tags: The numbers of a tif's first page by :class:`TiffTag`; else empty.
    """

    format: str
    width: int
    height: int
    channels: int = 3
    bits: int = 8
    values: str = "uint"
    has_alpha: bool = False
    pages: int = 1
    tags: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def compression(self) -> int:
        """The number of a tif's compression; 1, for none, of other formats."""
        return self.tags.get(TiffTag.COMPRESSION, (1,))[0]

    def __str__(self) -> str:
        """Returns e.g. ``tif, 3 x 8 bits``."""
        return f"{self.format}, {self.channels} x {self.bits} bits"


def read_header(data: bytes) -> Header | None:
    """Reads the header of a jpg, png, bmp, tif, webp, pgm or ppm file.

    Args:
        data: The file, or its beginning: of a tif all of it.

    Returns:
        None for bytes of another kind, or a header that is cut off or makes no sense.
    """
    for starts, read in (
        ((JPEG_SIGNATURE,), _read_jpeg),
        ((PNG_SIGNATURE,), _read_png),
        ((b"BM",), _read_bmp),
        (_TIFF_SIGNATURES, _read_tiff),
        (_PNM_SIGNATURES, _read_pnm),
        ((b"RIFF",), _read_webp),
    ):
        if data.startswith(starts):
            try:
                return read(data)
            except (struct.error, IndexError, KeyError, ValueError, ZeroDivisionError):
                return None
    return None


def jpeg_segments(data: bytes) -> list[tuple[int, int]]:
    """Returns marker and position (of its length) of each segment before a JPEG's pixels.

    The last one is the start of the scan, unless the file ends or is broken before.
    """
    segments = []
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a byte of padding
            position += 1
            continue
        segments.append((marker, position + 2))
        if marker == _JPEG_START_OF_SCAN:
            break
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return segments


def _read_jpeg(data: bytes) -> Header | None:
    for marker, position in jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, position + 2)
            return Header("jpg", width, height, channels, bits)
    return None


def _read_png(data: bytes) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    has_alpha = colour in _PNG_WITH_ALPHA or b"tRNS" in data[: data.find(b"IDAT")]
    return Header("png", width, height, _PNG_CHANNELS[colour], bits, has_alpha=has_alpha)


def _read_bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:  # of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    return Header("bmp", abs(width), abs(height), 1 if bits <= 8 else bits // 8)


def _read_pnm(data: bytes) -> Header:
    kind, position, numbers = int(data[1:2]), 2, []
    is_binary = kind in (1, 4)  # black and white: no largest value
    for _ in range(2 if is_binary else 3):
        found = _PNM_NUMBER.match(data, position)
        if found is None:
            raise ValueError(data[:2])
        numbers.append(int(found[1]))
        position = found.end()
    width, height, largest = (*numbers, 1)[:3]
    return Header("pnm", width, height, 3 if kind in (3, 6) else 1, 16 if largest > 255 else 8)


def _read_webp(data: bytes) -> Header | None:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        size = [int.from_bytes(data[start : start + 3], "little") + 1 for start in (24, 27)]
        return Header("webp", *size, has_alpha=bool(data[20] & 0x10))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return Header("webp", width, height, has_alpha=bool(bits >> 28 & 1))
    width, height = struct.unpack_from("<HH", data, 26)
    return Header("webp", width & 0x3FFF, height & 0x3FFF)


def _read_tiff(data: bytes) -> Header:
    tags, following = _read_tiff_page(data, None)
    pages, visited = 1, {0}
    while following not in visited and following < len(data):
        visited.add(following)
        page, following = _read_tiff_page(data, following)
        pages += page.get(TiffTag.KIND, (0,))[0] == 0  # neither a preview nor a mask
    extra = tags.get(TiffTag.EXTRA_CHANNELS, ())
    return Header(
        "tif",
        tags[TiffTag.WIDTH][0],
        tags[TiffTag.HEIGHT][0],
        tags.get(TiffTag.CHANNELS, (1,))[0],
        max(tags.get(TiffTag.BITS, (1,))),
        _TIFF_VALUES.get(tags.get(TiffTag.VALUES, (1,))[0], "other"),
        has_alpha=bool(extra) and extra[0] in (1, 2),
        pages=pages,
        tags=tags,
    )


def _read_tiff_page(data: bytes, start: int | None) -> tuple[dict[int, tuple[int, ...]], int]:
    """Returns the whole numbers of a page by tag, and where the next page starts, or 0.

    Args:
        data: The file.
        start: Where the page's directory starts; None for the first page.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    number, entry_count, entry = ("Q", "Q", "HHQ") if is_big else ("I", "H", "HHI")
    width = struct.calcsize(f"={number}")
    if start is None:
        (start,) = struct.unpack_from(order + number, data, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + entry_count, data, start)
    position = start + struct.calcsize(f"={entry_count}")
    tags = {}
    for _ in range(count):
        tag, kind, values = struct.unpack_from(order + entry, data, position)
        where = position + struct.calcsize(f"={entry}")
        position = where + width
        if kind not in _TIFF_TYPES:
            continue
        size = values * struct.calcsize(f"={_TIFF_TYPES[kind]}")
        if size > len(data):
            raise IndexError(tag)
        if size > width:
            (where,) = struct.unpack_from(order + number, data, where)
        tags[tag] = struct.unpack_from(f"{order}{values}{_TIFF_TYPES[kind]}", data, where)
    (following,) = struct.unpack_from(order + number, data, position)
    return tags, following
