"""Video files: read frame by frame, write."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from aicore.errors import DataError

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")

_USUAL_RATE = 25.0  # frames per second, where a file does not say

# FFmpeg would print lines of its own about each broken file; DataError says it better. OpenCV
# reads this when it first opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Video:
    """A video file to read.

    Args:
        path: The file.

    Attributes:
        rate: Frames per second.
        length: Number of frames as the file states it, None where it does not.

    Raises:
        DataError: The file is missing, or no video.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"No such file: {path}. Give a video, an image or a folder of images.")
        capture = self._open()
        rate, length = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        self.rate = rate if math.isfinite(rate) and rate > 0 else _USUAL_RATE
        self.length = int(length) if length > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the frames, H x W x 3 uint8, BGR, turned as the file says.

        Raises:
            DataError: There is no frame at all.
        """
        capture = self._open()
        try:
            is_frame, frame = capture.read()
            if not is_frame:
                raise DataError(f"{self.path} has no frame that can be read: is it cut off?")
            while is_frame:
                yield frame
                is_frame, frame = capture.read()
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise DataError(
                f"{self.path} is not a video that can be read: it is damaged, empty or of an "
                "unknown format. Convert it to mp4, or copy it again."
            )
        return capture


class VideoWriter:
    """Writes pictures as an mp4 file; the first one decides the size.

    A later picture of another size is scaled to fit, and stands on black. A file that the disk did
    not take in full is a :class:`DataError` at the end.

    Args:
        path: The file, which ends in ``.mp4``; its folder must exist.
        rate: Frames per second.

    Example:
        >>> with VideoWriter('out.mp4', 25) as video:  # doctest: +SKIP
        ...     video.write(picture)
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        # OpenCV says nothing of a full disk.
        if kind is None and _frame_count(self.path) != self._count:
            raise DataError(f"{self.path} cannot be written in full: is the disk full?")

    def write(self, picture: np.ndarray) -> None:
        """Adds a picture, H x W x 3 uint8, BGR.

        Raises:
            DataError: The file cannot be written.
        """
        if self._writer is None:
            height, width = picture.shape[:2]
            self._size = width + width % 2, height + height % 2  # the codec wants even sides
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.path), codec, self._rate, self._size)
            if not self._writer.isOpened():
                raise DataError(f"{self.path} cannot be written: is the folder there and free?")
        self._writer.write(_fit(picture, self._size))
        self._count += 1


def _frame_count(path: Path) -> int | None:
    try:
        return Video(path).length
    except DataError:
        return None


def _fit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture of ``size`` (width, height): scaled down where too large, then padded."""
    height, width = picture.shape[:2]
    scale = min(1.0, size[0] / width, size[1] / height)
    if scale < 1:
        small = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    below, beside = size[1] - picture.shape[0], size[0] - picture.shape[1]
    return cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_CONSTANT)
