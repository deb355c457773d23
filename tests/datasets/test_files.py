from __future__ import annotations

import pytest

from aicore.datasets.files import join_path, relative_below, with_image_suffix


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".tiff"])
def test_the_image_of_a_name_without_suffix(tmp_path, suffix):
    (tmp_path / f"part.7{suffix}").write_bytes(b"")

    assert with_image_suffix(tmp_path / "part.7") == tmp_path / f"part.7{suffix}"


def test_there_is_none(tmp_path):
    (tmp_path / "part.txt").write_bytes(b"")

    assert with_image_suffix(tmp_path / "part") is None


def test_a_path_below_a_folder_in_any_form(tmp_path, monkeypatch):
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    image = tmp_path / "data/images/a.png"
    for folder in (tmp_path / "data", tmp_path / "link", type(tmp_path)("data")):
        assert relative_below(image, folder).as_posix() == "images/a.png"
    relative = type(tmp_path)("data/images/a.png")
    assert relative_below(relative, tmp_path / "data").as_posix() == "images/a.png"


def test_a_path_elsewhere(tmp_path):
    with pytest.raises(ValueError, match="does not lie below"):
        relative_below(tmp_path / "a.png", tmp_path / "data")


def test_a_list_beside_a_linked_folder_of_images(tmp_path):
    (tmp_path / "disk/tiles").mkdir(parents=True)
    (tmp_path / "data/lists").mkdir(parents=True)
    (tmp_path / "data/tiles").symlink_to(tmp_path / "disk/tiles")
    (tmp_path / "data/lists/train.txt").write_text("a.png\n")

    found = join_path(tmp_path / "data/tiles", "../lists/train.txt")

    assert found.read_text() == "a.png\n"
    assert join_path("anywhere", str(found)) == found  # an absolute path
    assert join_path("data/tiles") == type(tmp_path)("data/tiles")
