"""Finds damage inside an image file that OpenCV's decoders pass over.

Of a file that was damaged in the middle (a bad sector, a copy that went wrong) the decoders
return a picture as good as any, a part of it wrong. What a format lets one tell:

- png: everything, by its checksums;
- jpg: most of what is longer than some bytes, by libjpeg's warnings, which OpenCV prints only;
- tif: with Deflate everything, by its checksums; with LZW most, by the length of what it decodes
  to; otherwise a file that is too short;
- webp, bmp: a file that is too short, and what their decoders refuse themselves.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from aicore.runtime.headers import JPEG_SIGNATURE, PNG_SIGNATURE, Header, TiffTag, jpeg_segments

try:
    import simplejpeg
except ImportError:  # no wheel for this machine: OpenCV alone then reads jpg files, damaged or not
    simplejpeg = None

_JPEG_END = b"\xff\xd9"
# What libjpeg warns of although no pixel depends on it.
_HARMLESS = ("Invalid SOS parameters", "Warning: unknown JFIF revision")
_SUBSAMPLED = 6  # TIFF's photometric of YCbCr, whose rows have other lengths
_LZW_CLEAR, _LZW_END, _LZW_FIRST = 256, 257, 258
# The width in bits of each code after a Clear, and where it starts; see _length_of_lzw.
_LZW_WIDTHS = np.repeat(np.arange(9, 13), [254, 512, 1024, 2048 + 256])
_LZW_STARTS = np.cumsum(_LZW_WIDTHS) - _LZW_WIDTHS
_LZW_MASKS = ((1 << _LZW_WIDTHS) - 1).astype(np.int32)
_LZW_HIGHEST = np.arange(len(_LZW_WIDTHS), dtype=np.int32) + _LZW_END  # what a code can name


def find_damage(data: bytes, header: Header | None) -> str:
    """Returns what shows that a file is damaged, a clause; empty where nothing does.

    Args:
        data: The file.
        header: Its header; None for one that could not be read.
    """
    if data.startswith(PNG_SIGNATURE):
        return _damage_of_png(data)
    if data.startswith(JPEG_SIGNATURE):
        return _damage_of_jpeg(data)
    if header is None:
        return ""
    if header.format == "tif":
        return _damage_of_tiff(data, header)
    if header.format == "webp" and struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        return "it is shorter than it states"
    return ""


def _damage_of_png(data: bytes) -> str:
    """Walks the chunks; libpng would write about a fault to stderr, past every log level."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        end = position + 8 + size
        name = data[position + 4 : position + 8]
        if end + 4 > len(data):
            break
        if zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"the checksum of its chunk {name.decode('ascii', 'replace')!r} is wrong"
        if name == b"IEND":
            return ""
        position = end + 4
    return "its end is missing"


def _damage_of_jpeg(data: bytes) -> str:
    # A preview image in the EXIF segment has an end mark too: look behind the segments. OpenCV
    # takes the zeros that an interrupted copy leaves for pixels.
    segments = jpeg_segments(data)
    if data.rfind(_JPEG_END, segments[-1][1] if segments else 0) < 0:
        return "its end is missing"
    if simplejpeg is None:
        return ""
    try:
        # Every code has to be read, but an eighth of the size needs no transform of the pixels.
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        if str(error).startswith(_HARMLESS):
            return ""
        return f"libjpeg says: {str(error).rstrip('.')}"
    return ""


def _damage_of_tiff(data: bytes, header: Header) -> str:
    length_of = _LENGTHS.get(header.compression)
    is_known = (  # rows of as many bytes as their pixels say, bits in the usual order
        header.tags.get(TiffTag.PHOTOMETRIC) != (_SUBSAMPLED,)
        and header.tags.get(TiffTag.FILL_ORDER, (1,)) == (1,)
    )
    for start, size, expected, full in _tiff_blocks(header):
        block = data[start : start + size]
        if len(block) < size:
            return "its end is missing"
        if is_known and length_of is not None and length_of(block, full) not in (expected, full):
            return "its compression does not give the pixels it states"
    return ""


def _tiff_blocks(header: Header) -> Iterator[tuple[int, int, int, int]]:
    """Yields start, size, and size when decompressed, in bytes, of each strip or tile.

    The last one is the size of a full strip, to which some writers fill the last one up.
    """
    tags = header.tags
    is_tiled = TiffTag.TILE_OFFSETS in tags
    starts = tags.get(TiffTag.TILE_OFFSETS if is_tiled else TiffTag.STRIP_OFFSETS, ())
    sizes = tags.get(TiffTag.TILE_SIZES if is_tiled else TiffTag.STRIP_SIZES, ())
    width = tags[TiffTag.TILE_WIDTH][0] if is_tiled else header.width
    rows = (
        tags[TiffTag.TILE_HEIGHT][0]
        if is_tiled
        else min(tags.get(TiffTag.STRIP_ROWS, (header.height,))[0], header.height)
    )
    is_planar = tags.get(TiffTag.PLANAR, (1,))[0] == 2
    row = -(-width * header.bits * (1 if is_planar else header.channels) // 8)
    strips = -(-header.height // max(rows, 1))
    for index, (start, size) in enumerate(zip(starts, sizes, strict=False)):
        is_last = not is_tiled and index % strips == strips - 1
        filled = header.height - (strips - 1) * rows if is_last else rows
        yield start, size, row * filled, row * rows


def _length_of_deflate(block: bytes, most: int) -> int:
    """Returns how many bytes a block decompresses to; -1 where a checksum or code is wrong."""
    try:
        # One byte more, so that the checksum behind the last one is read.
        return len(zlib.decompressobj().decompress(block, most + 1))
    except zlib.error:
        return -1


def _length_of_lzw(block: bytes, most: int) -> int:
    """Returns how many bytes a block decompresses to, or more than ``most``; -1 for a wrong code.

    It follows the lengths alone, which numpy can for all codes between two Clears at a time.
    """
    if block[:2] == b"\0\1":  # the kind of 1988, with its bits in another order
        return most
    padded = np.frombuffer(block + bytes(2), np.uint8).astype(np.int32)
    windows = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]  # 24 bits from each byte on
    bits, position, length = 8 * len(block), 0, 0
    while length <= most:
        starts = position + _LZW_STARTS
        count = int(np.searchsorted(starts + _LZW_WIDTHS, bits, "right"))
        starts, widths = starts[:count], _LZW_WIDTHS[:count]
        shifts = (24 - (starts & 7) - widths).astype(np.int32)
        codes = windows[starts >> 3] >> shifts & _LZW_MASKS[:count]
        # 256, a Clear, or 257, the end.
        ends = np.flatnonzero(codes >> 1 == _LZW_CLEAR >> 1)
        end = ends[0] if len(ends) else count
        strings = _lzw_length(codes[:end])
        if strings < 0 or (strings == 0 and position and end < count and codes[end] != _LZW_END):
            return -1
        length += strings
        if end == count or codes[end] == _LZW_END:  # some writers leave the end mark out
            return length
        position = int(starts[end] + widths[end])
    return length


def _lzw_length(codes: np.ndarray) -> int:
    """Returns how many bytes the codes between two Clears decompress to; -1 for a wrong code.

    Code i makes the entry 258 + i: its own string and the first byte of the next one. How long an
    entry is is therefore its depth in a tree whose parents come before it.
    """
    if not len(codes):
        return 0
    if (codes > _LZW_HIGHEST[: len(codes)]).any():
        return -1  # it names an entry that is not there yet
    root = len(codes)
    entries = np.where(codes < _LZW_CLEAR, root, codes - _LZW_FIRST)
    parents = np.append(entries, root)
    depths = np.ones(root + 1, np.int32)
    depths[root] = 0
    while parents.min() < root:
        depths += depths[parents]
        parents = parents[parents]
    return root + int(depths[entries].sum())


_LENGTHS = {5: _length_of_lzw, 8: _length_of_deflate, 32946: _length_of_deflate}
"""How to follow a tif's compressions, by their numbers."""
