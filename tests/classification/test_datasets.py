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


# ---- what is not taken, and what is odd ----


def findings(dataset: ClassificationDataset) -> dict[str, str]:
    """Returns the texts of the findings with their levels."""
    return {finding.text: finding.level for finding in dataset.findings()}


def level_of(dataset: ClassificationDataset, start: str) -> str | None:
    """Returns the level of the finding that begins so; None if there is none."""
    return next(
        (level for text, level in findings(dataset).items() if text.startswith(start)), None
    )


def test_linked_folders_are_read(root):
    touch(root, "store/lot/1.png", "store/good/2.png", "train/bad/0.png")
    (root / "train/bad/lot").symlink_to(root / "store/lot")
    (root / "train/good").symlink_to("../store/good")
    (root / "train/bad/loop").symlink_to(root / "train")

    dataset = open_dataset("train", str(root))

    assert records(dataset, root) == [
        ("train/bad/0.png", 0),
        ("train/bad/lot/1.png", 0),
        ("train/good/2.png", 1),
    ]
    assert (
        level_of(dataset, "left out, for they cannot be read or were read before: 1") == "warning"
    )


def test_a_folder_linked_into_another_class_counts_once(root):
    touch(root, "train/bad/lot/1.png", "train/bad/2.png", "train/good/3.png", "train/good/4.png")
    (root / "train/good/lot").symlink_to(root / "train/bad/lot")

    dataset = open_dataset("train", str(root))

    assert [label for _, label in records(dataset, root)] == [0, 0, 1, 1]
    assert (
        level_of(dataset, "left out, for they cannot be read or were read before: 1") == "warning"
    )


def test_other_files_are_told(root):
    touch(root, "train/a/1.png", "train/a/2.gif", "train/b/3.jfif", "train/b/4.png", "train/5.png")
    touch(root, "train/a/5.pgm")

    dataset = open_dataset("train", str(root))

    assert [name for name, _ in records(dataset, root)] == [
        *("train/a/1.png", "train/a/5.pgm", "train/b/3.jfif", "train/b/4.png"),
    ]
    assert level_of(dataset, "1 file is no image (.gif 1)") == "warning"
    assert level_of(dataset, "images that lie in no class folder, and are left out: 1") == "warning"


def test_nothing_is_said_of_sound_folders(root):
    touch(
        root, "train/a/1.png", "train/a/2.png", "train/b/3.png", "train/b/4.png", "train/readme.md"
    )
    assert findings(open_dataset("train", str(root))) == {}


def test_a_training_of_one_class_is_refused(root):
    touch(root, "train/good/1.png", "train/good/2.png", "train/bad/.keep")

    text = "all images are of one class, 'good': there is nothing to learn"
    assert findings(open_dataset("train", str(root))) == {text: "error"}
    assert findings(open_dataset("train", str(root), test_mode=True)) == {}


def test_a_class_of_one_image(root):
    touch(root, "train/good/1.png", "train/good/2.png", "train/bad/3.png")
    assert level_of(open_dataset("train", str(root)), "classes with one image alone") == "warning"


def test_one_image_in_two_classes(root):
    touch(root, "train/good/1.png", "train/good/2.png", "train/bad/3.png", "train/bad/4.png")
    (root / "train/bad/5.png").symlink_to(root / "train/good/1.png")
    write_list(root, "train/good/1.png good\ntrain/good/1.png good\ntrain/bad/5.png scratch\n")

    dataset = open_dataset("train", str(root))
    assert findings(dataset) == {"images that are there twice, with another label: 1": "warning"}
    from_list = open_dataset("train.txt", str(root), test_mode=True)
    assert findings(from_list) == {
        "images that are there twice, with the same label: 1": "warning",
        "images that are there twice, with another label: 1": "warning",
    }


def test_class_folders_that_differ_in_case_or_blanks(root):
    touch(root, "train/Good/1.png", "train/Good/2.png", "train/good /3.png", "train/good /4.png")

    (finding,) = open_dataset("train", str(root)).findings()

    assert finding.level == "warning"
    assert finding.cases == ["'Good', 'good '"]


@pytest.mark.parametrize("name", ["train.TXT", "lists/train.Txt"])
def test_a_list_ends_in_txt_in_any_case(root, name):
    touch(root, "a/1.png", name)
    (root / name).write_text("a/1.png bad\n")
    (root / name).with_name("labels.txt").write_text("good\nbad\n")

    assert records(open_dataset(name, str(root)), root) == [("a/1.png", 1)]


@pytest.mark.parametrize("name", ["train.csv", "train.xlsx", "train"])
def test_a_file_that_is_no_list_is_told(root, name):
    touch(root, name)
    with pytest.raises(DataError, match=r"is a file but no list: lists end in \.txt"):
        open_dataset(name, str(root))


def test_a_list_of_windows(root):
    touch(root, "a/part 1.png")
    write_list(root, "a\\part 1.png\tscratch\r\n.\\a\\part 1.png 0 \r\n")

    assert read_list(root) == [("a/part 1.png", 1), ("a/part 1.png", 0)]


def test_a_list_of_another_machine(root):
    write_list(root, "D:\\data\\1.png good\n")
    with pytest.raises(DataError, match=r"train\.txt, line 1: .*a path of another machine"):
        read_list(root)


def test_indices_of_another_order_are_refused(root):
    touch(root, "1.png", "2.png", "3.png", "4.png")
    write_list(root, "1.png 0\n2.png 1\n3.png good\n4.png scratch\n")

    swapped = open_dataset("train.txt", str(root), metainfo=dict(classes=("scratch", "good")))
    start = f"2 lines of {root / 'train.txt'} name their class by its index, but classes in"
    assert level_of(swapped, start) == "error"
    same = open_dataset("train.txt", str(root), metainfo=dict(classes=("good", "scratch")))
    assert findings(same) == {}


def test_names_are_data(root):
    names = [
        "caf\udce9.png",
        "tab\there.png",
        "line\nbreak.png",
        "\x1b[31m.png",
        "n" * 250 + ".png",
    ]
    touch(root, *(f"train/a/{name}" for name in names), "train/b/1.png", "train/b/2.png")

    dataset = open_dataset("train", str(root))

    assert {
        name.removeprefix("train/a/") for name, label in records(dataset, root) if not label
    } == {*names}
    assert findings(dataset) == {}
