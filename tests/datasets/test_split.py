from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from aicore.classification.datasets import ClassificationDataset
from aicore.datasets.split import Item, doubts, find_items, split_items, write_lists
from aicore.errors import DataError

TWO = {"train": 0.8, "val": 0.2}
THREE = {"train": 0.7, "val": 0.15, "test": 0.15}


def singles(**counts: int) -> list[Item]:
    paths = [(f"{label}/{i}.png", label) for label, count in counts.items() for i in range(count)]
    return [Item(path, label, path) for path, label in paths]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def counts_of(part: list[Item]) -> dict[str, int]:
    return dict(Counter(item.label for item in part))


@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_its_shares(seed):
    splits = split_items(singles(good=100, scratch=20, dent=40), THREE, seed)
    assert counts_of(splits["train"]) == {"good": 70, "scratch": 14, "dent": 28}
    assert counts_of(splits["val"]) == {"good": 15, "scratch": 3, "dent": 6}
    assert counts_of(splits["test"]) == {"good": 15, "scratch": 3, "dent": 6}


def test_every_image_is_in_one_split():
    items = singles(good=31, dent=7)
    splits = split_items(items, THREE, 0)
    assert sorted(i.path for part in splits.values() for i in part) == sorted(i.path for i in items)


def test_shares_that_are_no_whole_numbers_are_met_to_one_image():
    splits = split_items(singles(good=33, dent=14), TWO, 0)
    for label, total in (("good", 33), ("dent", 14)):
        assert abs(counts_of(splits["val"])[label] - 0.2 * total) < 1


def test_the_seed_alone_decides_whatever_the_order():
    items = singles(good=50, dent=20)
    first = split_items(items, TWO, 3)
    assert split_items(items[::-1], TWO, 3) == first
    assert split_items(items, TWO, 4) != first


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_torn(seed):
    # Parts of 1 to 6 pictures each, some of which show good sides and defective ones.
    items = [
        Item(f"{part}_{view}.png", "dent" if (part + view) % 3 == 0 else "good", str(part))
        for part in range(60)
        for view in range(1 + part % 6)
    ]
    splits = split_items(items, THREE, seed)
    where = {name: {item.group for item in part} for name, part in splits.items()}
    assert not where["train"] & where["val"] | where["train"] & where["test"]
    assert not where["val"] & where["test"]
    totals = counts_of(items)
    for name, share in THREE.items():
        for label, count in counts_of(splits[name]).items():
            assert abs(count - share * totals[label]) <= 6  # no worse than the largest group


def test_a_class_with_enough_groups_is_in_every_split():
    splits = split_items(singles(good=100, rare=3), {"train": 0.9, "val": 0.05, "test": 0.05}, 0)
    assert [counts_of(part)["rare"] for part in splits.values()] == [1, 1, 1]
    assert doubts(splits) == []


def test_the_larger_of_two_unequal_groups_goes_to_train():
    items = [Item(f"{i}.png", "good", "big" if i < 18 else "small") for i in range(20)]
    splits = split_items(items, TWO, 0)
    assert [len(part) for part in splits.values()] == [18, 2]


def test_a_class_with_too_few_groups_is_doubtful():
    items = [*singles(good=10), Item("a.png", "rare", "one"), Item("b.png", "rare", "one")]
    (sentence,) = doubts(split_items(items, TWO, 0))
    assert "'rare' has no image in val" in sentence
    assert "1 group for 2 splits" in sentence


def test_an_empty_split_is_refused():
    items = [Item(f"{i}.png", "good", "one part") for i in range(9)]
    with pytest.raises(DataError, match=r"val would be empty: 9 images in 1 groups .* val 20%"):
        split_items(items, TWO, 0)


def test_class_is_the_first_folder(tmp_path):
    touch(tmp_path, "good/a.png", "good/lot 1/b.JPG", "dent/c.bmp", "dent/notes.txt")
    assert [(item.path, item.label, item.group) for item in find_items(tmp_path)[0]] == [
        ("dent/c.bmp", "dent", "dent/c.bmp"),
        ("good/a.png", "good", "good/a.png"),
        ("good/lot 1/b.JPG", "good", "good/lot 1/b.JPG"),
    ]


def test_class_and_group_from_patterns(tmp_path):
    touch(tmp_path, "MT_Fray/Imgs/exp1_7.jpg", "MT_Fray/Imgs/exp1_7.png", "MT_Free/Imgs/exp2_7.jpg")
    items, _ = find_items(tmp_path, re.compile("^MT_([^/]+)/"), re.compile(r"_(\d+)\."), "*.jpg")
    assert [(item.label, item.group) for item in items] == [("Fray", "7"), ("Free", "7")]


def test_a_path_without_a_match_is_named(tmp_path):
    touch(tmp_path, "crazing_1.jpg", "other.jpg")
    with pytest.raises(DataError, match=r"--label-from .* nothing in 1 of 2 paths.*'other\.jpg'"):
        find_items(tmp_path, re.compile(r"([a-z]+)_\d"))
    with pytest.raises(DataError, match=r"--group-from .* nothing in 2 of 2"):
        find_items(tmp_path, re.compile(r"([a-z]+)"), re.compile("(Z*)"))


def test_an_image_without_a_class_folder_is_named(tmp_path):
    touch(tmp_path, "good/a.png", "b.png")
    with pytest.raises(DataError, match=r"'b\.png' lies directly in .*--label-from"):
        find_items(tmp_path)


def test_nothing_found(tmp_path):
    touch(tmp_path / "images", "good/a.png")
    with pytest.raises(DataError, match=r"is not a folder\. Did you mean 'images'\?"):
        find_items(tmp_path / "imagse")
    with pytest.raises(DataError, match=r"takes none of the 1 images .*'good/a\.png'"):
        find_items(tmp_path / "images", include="*.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="No image in"):
        find_items(tmp_path / "empty")


def test_masks_beside_images_are_doubtful():
    items = [
        Item(f"good/{i}.{suffix}", "good", str(i)) for i in range(5) for suffix in ("jpg", "png")
    ]
    (sentence,) = doubts(split_items(items, TWO, 0))
    assert "5 images share folder and name" in sentence
    assert "--include" in sentence


def test_lists_are_read_back_by_the_data_set(tmp_path):
    paths = {"good/a.png": "good", "good/b c.png": "good", "bad part/ä.png": "bad part"}
    part = [Item(path, label, path) for path, label in paths.items()]
    files = write_lists({"train": part, "val": part[:1]}, tmp_path / "lists")
    assert [file.name for file in files] == ["train.txt", "val.txt", "labels.txt"]
    assert files[0].read_text(encoding="utf-8").splitlines()[0] == "good/a.png good"
    dataset = ClassificationDataset(str(files[0]), data_root=str(tmp_path))
    assert dataset.metainfo["classes"] == ("bad part", "good")
    read = {
        Path(record["img_path"]).relative_to(tmp_path).as_posix(): dataset.CLASSES[
            record["gt_label"]
        ]
        for record in map(dataset.get_data_info, range(len(dataset)))
    }
    assert read == paths


def test_another_split_is_not_overwritten(tmp_path):
    items = singles(good=20)
    splits = split_items(items, TWO, 0)
    write_lists(splits, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    write_lists(splits, tmp_path)  # the same content is no harm
    with pytest.raises(DataError, match=r"train\.txt' belongs to another split"):
        write_lists(split_items(items, TWO, 1), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_list_that_the_new_split_lacks_is_not_left_beside_it(tmp_path):
    (tmp_path / "test.txt").write_text("good/1.png good\n")
    with pytest.raises(DataError, match=r"test\.txt' belongs to another split"):
        write_lists(split_items(singles(good=20), TWO, 0), tmp_path)
    assert not (tmp_path / "train.txt").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    file = touch(tmp_path, "file") / "file"
    with pytest.raises(DataError, match=r"cannot be written into .*--out"):
        write_lists(split_items(singles(good=20), TWO, 0), file)


@pytest.mark.parametrize("path", ["good/a\nb.png", " good/a.png", "good/a\tb.png"])
def test_a_name_that_a_list_cannot_hold(tmp_path, path):
    with pytest.raises(DataError, match="cannot stand in a list file"):
        write_lists({"train": [Item(path, "good", path)]}, tmp_path)
