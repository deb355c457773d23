from __future__ import annotations

import resource

import cv2
import numpy as np
import pytest

from aicore.errors import DataError
from aicore.runtime.videos import Video, VideoWriter


def write(file, pictures, rate=10.0):
    with VideoWriter(file, rate) as video:
        for picture in pictures:
            video.write(picture)
    return file


def gray(level: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_frames_come_back(tmp_path):
    levels = [20, 100, 220]

    video = Video(write(tmp_path / "零件.mp4", map(gray, levels), rate=12.5))

    assert (video.rate, video.length) == (12.5, 3)
    for _ in range(2):  # from the beginning each time
        frames = list(video)
        assert [frame.shape for frame in frames] == [(60, 80, 3)] * 3
        assert [frame.mean() for frame in frames] == pytest.approx(
            levels, abs=6
        )  # the codec is coarse


def test_frames_are_read_one_by_one(tmp_path):
    frames = iter(Video(write(tmp_path / "a.mp4", [gray(100)] * 50)))

    assert next(frames).shape == (60, 80, 3)
    frames.close()


def test_the_first_picture_decides_the_size(tmp_path):
    pictures = [gray(200), gray(200, 120, 80), gray(200, 30, 40)]

    _, larger, smaller = Video(write(tmp_path / "a.mp4", pictures))

    assert larger.shape == smaller.shape == (60, 80, 3)
    assert larger[:, :36].mean() > 190 and larger[:, 44:].mean() < 10
    assert smaller[:26, :36].mean() > 190 and smaller[34:].mean() < 10


def test_odd_sides(tmp_path):
    (frame,) = Video(write(tmp_path / "a.mp4", [gray(200, 61, 81)]))

    assert frame.shape == (62, 82, 3)
    assert frame[:56, :76].mean() == pytest.approx(200, abs=6)


def test_a_file_without_a_rate(tmp_path, monkeypatch):
    file = write(tmp_path / "a.mp4", [gray(0)])
    monkeypatch.setattr(cv2, "VideoCapture", Unknown)

    video = Video(file)

    assert video.rate == 25
    assert video.length is None
    with pytest.raises(DataError, match="has no frame that can be read"):
        list(video)


class Unknown:
    """A capture that tells nothing."""

    def __init__(self, path):
        pass

    def isOpened(self):  # noqa: N802
        return True

    def get(self, what):
        return 0.0

    def read(self):
        return False, None

    def release(self):
        pass


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100, None])
def test_files_that_are_no_videos(tmp_path, capfd, content):
    file = tmp_path / "a.mp4"
    if content is None:  # cut off
        content = write(file, [gray(level) for level in range(30)]).read_bytes()[:900]
    file.write_bytes(content)

    with pytest.raises(DataError, match=r"a\.mp4 is not a video that can be read"):
        Video(file)

    assert capfd.readouterr().err == ""


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match=r"No such file: .*a\.mp4"):
        Video(tmp_path / "a.mp4")


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        write(tmp_path / "nowhere" / "a.mp4", [gray(0)])


def test_no_picture_no_file(tmp_path):
    assert not write(tmp_path / "a.mp4", []).exists()


def test_a_video_that_the_disk_does_not_take_is_told(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    frames = np.random.default_rng(0).integers(0, 255, (6, 96, 96, 3), dtype=np.uint8)
    try:
        with (
            pytest.raises(DataError, match="cannot be written in full: is the disk full"),
            VideoWriter(tmp_path / "a.mp4", 10) as video,
        ):
            for frame in frames:
                video.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
