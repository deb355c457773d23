from __future__ import annotations

import os
from pathlib import Path

import pytest

from aicore.datasets.files import (
    find_listed,
    finding_of_strays,
    findings_of,
    is_list,
    join_path,
    read_labels,
    read_lines,
    read_list,
    relative_below,
    with_image_suffix,
    without_suffix,
)
from aicore.datasets.findings import NOTE, WARNING
from aicore.errors import DataError
from aicore.runtime.files import walk_files
from aicore.runtime.images import images_among


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# ---- lists ----


def test_lists_end_in_txt_in_any_case():
    assert is_list("train.txt")
    assert is_list(Path("lists/train.TXT"))
    assert not is_list("train")
    assert not is_list("train.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_lines_of_a_list(tmp_path, end):
    file = tmp_path / "train.txt"
    file.write_bytes(
        b"\xef\xbb\xbf" + end.join(["a.png ", "", "  零件 1.png\t", "x\x85y"]).encode()
    )

    assert read_list(file) == [(1, "a.png"), (3, "零件 1.png"), (4, "x\x85y")]
    assert read_list(tmp_path / "none.txt") == []


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [
        ("utf-16", "byte 0xff in line 1 is none; it reads as UTF-16"),
        ("gbk", "in line 2 is none; it reads as GBK, or else Latin-1"),
        ("latin-1", "in line 2 is none; it reads as Latin-1"),
    ],
)
def test_a_list_in_another_encoding(tmp_path, encoding, sentence):
    name = "caf\xe9.png" if encoding == "latin-1" else "零件.png"
    (tmp_path / "train.txt").write_bytes(f"a.png\n{name}\n".encode(encoding))

    with pytest.raises(DataError, match=rf"train\.txt' is not a text file in UTF-8: .*{sentence}"):
        read_list(tmp_path / "train.txt")


def test_a_list_that_is_no_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read: a folder"):
        read_list(tmp_path)
    os.mkfifo(tmp_path / "train.txt")
    with pytest.raises(DataError, match="cannot be read: a named pipe, no file"):
        read_list(tmp_path / "train.txt")


@pytest.mark.parametrize(
    "name", ["a/1.png", "./a/1.png", "a\\1.png", ".\\a\\1.png", "a\\1", "a/1", "b/../a/1.png"]
)
def test_the_image_of_a_line_in_any_form(tmp_path, name):
    touch(tmp_path, "images/a/1.png", "other/x.png")

    images, other = tmp_path / "images", tmp_path / "other"
    assert find_listed(name, "list, line 1", images) == images / "a/1.png"
    assert find_listed(name, "list, line 1", other, images) == images / "a/1.png"
    assert find_listed(str(images / "a/1.png"), "list, line 1", other) == images / "a/1.png"


def test_a_name_that_really_holds_a_backslash_wins(tmp_path):
    touch(tmp_path, "a/1.png", "a\\1.png")

    assert find_listed("a\\1.png", "list, line 1", tmp_path) == tmp_path / "a\\1.png"


def test_an_image_that_is_not_there(tmp_path):
    assert find_listed("a\\1.png", "list, line 1", tmp_path) == tmp_path / "a/1.png"
    assert find_listed("a" * 300, "list, line 1", tmp_path) == tmp_path / ("a" * 300)
    absolute = str(tmp_path / "gone.png")
    assert find_listed(absolute, "list, line 1", tmp_path) == tmp_path / "gone.png"


@pytest.mark.parametrize("name", ["C:\\data\\1.png", "d:/data/1.png", "/nowhere/of/mine/1.png"])
def test_a_path_of_another_machine_is_told(tmp_path, name):
    with pytest.raises(DataError, match=r"list, line 7: .* is a path of another machine: there is"):
        find_listed(name, "list, line 7", tmp_path)


def test_a_class_that_stands_twice_in_a_list_of_classes(tmp_path):
    (tmp_path / "labels.txt").write_text("good\n\nbad\ngood \n")

    with pytest.raises(DataError, match=r"labels\.txt': lines 1 and 4 both name the class 'good'"):
        read_labels(tmp_path / "labels.txt", "a list file")


# ---- what is not taken ----


def test_files_that_are_passed_over_are_counted_and_named(tmp_path):
    touch(tmp_path, "1.JPG", "2.jfif", "3.pgm", "a/4.gif", "5.GIF", "6.heic", "LICENSE", "x.npy")
    touch(tmp_path, "README.md", "Thumbs.db", "1.json", "1.xml", "list.txt", ".hidden", "._1.gif")
    (tmp_path / "gone.png").symlink_to("nowhere")

    walk = images_among(walk_files(tmp_path))
    pictures, others, closed = findings_of(walk.left_out)

    assert [file.name for file in walk.files] == ["1.JPG", "2.jfif", "3.pgm"]
    assert (pictures.level, others.level, closed.level) == (WARNING, NOTE, WARNING)
    assert pictures.text.startswith("3 files are no images (.gif 2, .heic 1): only .bmp .dib ")
    assert len(pictures.cases) == 3
    assert others.text.startswith("2 files are no images (no suffix 1, .npy 1): ")
    assert closed.cases == [f"{tmp_path / 'gone.png'}: a link to nothing"]


def test_nothing_is_said_where_nothing_is_passed_over(tmp_path):
    touch(tmp_path, "1.png", "README.md", "Thumbs.db")
    assert findings_of(images_among(walk_files(tmp_path)).left_out) == []


def test_files_of_no_image_are_a_warning_where_images_lack_theirs(tmp_path):
    file = tmp_path / "a.png"
    (finding,) = finding_of_strays("mask", [file], without=2)
    assert finding.level == WARNING
    assert finding.text.startswith("1 mask file belongs to no image; images without one, which")
    assert finding.text.endswith(": 2")
    (finding,) = finding_of_strays("mask", [file, file], without=0)
    assert (finding.level, finding.text) == (NOTE, "2 mask files belong to no image")
    assert finding_of_strays("mask", [], without=3) == []


# ---- paths ----


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".tiff", ".jfif"])
def test_the_image_of_a_name_without_suffix(tmp_path, suffix):
    (tmp_path / f"part.7{suffix}").write_bytes(b"")

    assert with_image_suffix(tmp_path / "part.7") == tmp_path / f"part.7{suffix}"
    assert without_suffix(tmp_path / f"part.7{suffix}") == tmp_path / "part.7"
    assert without_suffix(tmp_path / "part.7") == tmp_path / "part.7"


def test_there_is_none(tmp_path):
    (tmp_path / "part.txt").write_bytes(b"")
    os.mkfifo(tmp_path / "part.png")

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


def test_utf16_without_a_mark_is_no_list(tmp_path):
    (tmp_path / "train.txt").write_bytes("a.png\n".encode("utf-16-le"))

    with pytest.raises(DataError, match="null bytes; it reads as UTF-16"):
        read_lines(tmp_path / "train.txt")


def test_what_labelme_ignores_is_no_class(tmp_path):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ndent\n")

    assert read_labels(tmp_path / "labels.txt", "") == ["_background_", "dent"]
