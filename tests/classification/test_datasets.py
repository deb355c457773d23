from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aicore.classification import ClassificationDataset
from aicore.errors import DataError


@pytest.fixture
def root(tmp_path):
    """An empty data root; the images are never opened here."""
    return tmp_path / "data"


def open_dataset(*arguments, **settings) -> ClassificationDataset:
    # Packing the records collects all of python's garbage, which takes longer than a test.
    return ClassificationDataset(*arguments, serialize_data=False, **settings)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_list(root: Path, text: str, labels: str | None = "good\nscratch\n") -> None:
    root.mkdir(exist_ok=True)
    (root / "train.txt").write_text(text, encoding="utf-8")
    if labels is not None:
        (root / "labels.txt").write_text(labels, encoding="utf-8")


def records(dataset: ClassificationDataset, root: Path) -> list[tuple[str, int]]:
    """Returns path below ``root`` and label of every record."""
    found = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(Path(r["img_path"]).relative_to(root).as_posix(), r["gt_label"]) for r in found]


def read_list(root: Path, **settings) -> list[tuple[str, int]]:
    return records(open_dataset("train.txt", str(root), **settings), root)


# ---- class folders ----


def test_folders_are_the_classes_in_sorted_order(root):
    touch(root, "train/b/2.png", "train/b/1.JPG", "train/a/deep/3.tif", "train/a/notes.txt")
    touch(root, "train/.hidden/4.png", "train/readme.md", "train/c/.keep")
    touch(root, "train/a/._1.png", "train/a/.thumbnails/1.png")

    dataset = open_dataset("train", str(root))

    assert dataset.metainfo["classes"] == ("a", "b", "c")
    assert records(dataset, root) == [
        ("train/a/deep/3.tif", 0),
        ("train/b/1.JPG", 1),
        ("train/b/2.png", 1),
    ]


def test_given_classes_set_the_order(root):
    touch(root, "train/a/1.png", "train/b/2.png")

    dataset = open_dataset("train", root, metainfo=dict(classes=["b", "x", "a"]))

    assert dataset.metainfo["classes"] == ("b", "x", "a")
    assert records(dataset, root) == [("train/b/2.png", 0), ("train/a/1.png", 2)]


def test_a_folder_that_is_no_class(root):
    touch(root, "train/good/1.png", "train/scatch/2.png")

    with pytest.raises(DataError) as caught:
        open_dataset("train", root, metainfo=dict(classes=("good", "scratch")))

    message = str(caught.value)
    assert "holds the folder 'scatch', which is not one of the classes good, scratch." in message
    assert "Did you mean 'scratch'?" in message


def test_a_class_given_twice(root):
    touch(root, "train/a/1.png")

    with pytest.raises(DataError, match="'a' more than once"):
        open_dataset("train", root, metainfo=dict(classes=("a", "b", "a")))


@pytest.mark.parametrize("prepared", [(), ("data/other/a/1.png",)])
def test_a_wrong_folder(tmp_path, prepared):
    touch(tmp_path, *prepared)

    with pytest.raises(DataError) as caught:
        open_dataset("train", tmp_path / "data")

    message = str(caught.value)
    folder = tmp_path / "data" / "train"
    assert f"found 0 images: {str(folder)!r} does not exist. " in message
    assert "one folder per class" in message
    assert str(folder / "good" / "part_001.png") in message


@pytest.mark.parametrize("classes", [None, ("a",)])
def test_folders_without_images(root, classes):
    touch(root, "train/a/notes.txt")

    with pytest.raises(DataError, match=r"found 0 images: .* holds none of them\..*part_001\.png"):
        open_dataset("train", root, metainfo=dict(classes=classes))


def test_the_names_alone_need_no_image(root):
    touch(root, "train/a/notes.txt", "train/b/notes.txt")

    dataset = open_dataset("train", root, lazy_init=True)

    assert dataset.metainfo["classes"] == ("a", "b")


def test_unicode_and_blanks(root):
    touch(root, "训练 集/划 痕/图片 1.png")

    dataset = open_dataset("训练 集", root)

    assert dataset.metainfo["classes"] == ("划 痕",)
    assert records(dataset, root) == [("训练 集/划 痕/图片 1.png", 0)]


def test_the_home_folder(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.setenv("USERPROFILE", str(root))
    touch(root, "parts/train/a/1.png")

    dataset = open_dataset("train", "~/parts")

    assert records(dataset, root) == [("parts/train/a/1.png", 0)]


# ---- list files ----


def test_a_list_by_names_and_indices(root):
    write_list(root, "a.png good\nsub/b.png 1\n\nc.png scratch\n")

    assert read_list(root) == [("a.png", 0), ("sub/b.png", 1), ("c.png", 1)]


def test_paths_with_blanks(root):
    write_list(root, "my parts/a 1.png good\n  b.png   scratch  \nd.png\tscratch\n")

    assert read_list(root) == [("my parts/a 1.png", 0), ("b.png", 1), ("d.png", 1)]


def test_class_names_with_blanks(root):
    write_list(root, "a.png deep scratch\nb.png scratch\nc d.png\tdeep scratch\n", None)

    found = read_list(root, metainfo=dict(classes=("scratch", "deep scratch")))

    assert found == [("a.png", 1), ("b.png", 0), ("c d.png", 1)]


def test_names_that_are_numbers_come_before_indices(root):
    write_list(root, "a.png 1\nb.png 0\n", "1\n0\n")

    assert read_list(root) == [("a.png", 0), ("b.png", 1)]


def test_a_byte_order_mark_and_windows_lines(root):
    root.mkdir()
    (root / "train.txt").write_bytes("\ufeffa.png good\r\nb.png scratch\r\n".encode())
    (root / "labels.txt").write_bytes("\ufeffgood\r\nscratch\r\n".encode())

    assert read_list(root) == [("a.png", 0), ("b.png", 1)]


def test_absolute_paths(root, tmp_path):
    write_list(root, f"{tmp_path}/other/a.png good\n")

    dataset = open_dataset("train.txt", root)

    assert dataset.get_data_info(0)["img_path"] == f"{tmp_path}/other/a.png"


def test_labels_txt_is_missing(root):
    write_list(root, "a.png good\n", labels=None)

    with pytest.raises(DataError, match=r"labels\.txt' does not exist: a list file needs"):
        open_dataset("train.txt", root)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b.png scrach", "class 'scrach' is neither one of the classes good, scratch nor an index"),
        ("b.png 2", r"class '2' is neither .* nor an index 0\.\.1"),
        ("b.png -1", "class '-1' is neither"),
        ("b.png,good", r"'b\.png,good' is not of the form '<path> <class>'"),
        ("good", "'good' is not of the form"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(root, line, reason):
    write_list(root, f"a.png good\n\n{line}\n")

    with pytest.raises(DataError, match=rf"train\.txt, line 3: {reason}"):
        open_dataset("train.txt", root)


def test_a_misspelt_class_gets_a_suggestion(root):
    write_list(root, "a.png scrach\n")

    with pytest.raises(DataError, match=r"Did you mean 'scratch'\? Add it to labels\.txt"):
        open_dataset("train.txt", root)


@pytest.mark.parametrize("name", ["train.txt", "labels.txt"])
def test_a_list_that_is_no_text(root, name):
    write_list(root, "a.png good\n")
    (root / name).write_bytes(b"\x89PNG\r\n\xff")

    with pytest.raises(DataError, match=rf"{name}' is not a text file in UTF-8"):
        open_dataset("train.txt", root)


def test_a_missing_list(root):
    with pytest.raises(DataError, match=r"train\.txt' does not exist.*train\.txt: images/part_001"):
        open_dataset("train.txt", root, metainfo=dict(classes=("good",)))


def test_an_empty_list(root):
    write_list(root, "\n")

    with pytest.raises(DataError, match=r"found 0 images: .*train\.txt' holds none of them"):
        open_dataset("train.txt", root)


# ---- what shared code asks ----


def test_labels_and_faults(root):
    write_list(root, "a.png scratch\n")
    dataset = open_dataset("train.txt", root)

    assert dataset.labels_of(dataset.get_data_info(0)) == [1]
    assert dataset.faults_of(dataset.get_data_info(0)) == []


def test_mmpretrains_arguments_are_taken(class_folders):
    dataset = open_dataset("train", str(class_folders), indices=5)

    assert len(dataset) == 5


def test_the_split_stands_below_the_root(class_folders, tmp_path):
    shutil.copytree(class_folders / "val", tmp_path / "set" / "b")

    dataset = open_dataset("set/b", tmp_path)

    assert len(dataset) == 12
