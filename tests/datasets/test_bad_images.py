from __future__ import annotations

import pickle

import pytest

from aicore.datasets.bad_images import BadImageLog
from aicore.errors import DataError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "bad_images.txt"


def test_an_image_is_listed_once(file):
    log = BadImageLog(file, "train", total=100, max_share=None)

    log.add("零件 1.png", "it is empty")
    log.add("b.png", "it is cut off")
    log.add("零件 1.png", "it is empty")

    assert file.read_text(encoding="utf-8") == (
        "train\t零件 1.png\tit is empty\ntrain\tb.png\tit is cut off\n"
    )
    assert log.paths() == {"零件 1.png": "it is empty", "b.png": "it is cut off"}


@pytest.mark.parametrize(
    "path", ["tab\there.png", "line\nbreak.png", "\x1b[31m.png", "caf\udce9.png", '"a".png', "\x85"]
)
def test_any_name_is_listed_on_a_line_of_its_own(file, path):
    log = BadImageLog(file, "train", total=100, max_share=None)

    log.add(path, "OpenCV says:\n\tno")
    log.add("b.png", "it is empty")

    assert log.paths() == {path: "OpenCV says: no", "b.png": "it is empty"}
    text = file.read_bytes().decode()
    assert text.count("\n") == 2
    assert text.count("\t") == 4


def test_a_line_that_a_full_disk_cut_off_is_passed_over(file):
    file.write_text("train\ta.png\tit is empty\ntrain\tb.p")

    assert BadImageLog(file, "train", total=9, max_share=None).paths() == {"a.png": "it is empty"}


def test_nothing_listed(file):
    assert BadImageLog(file, "train", total=100, max_share=0.05).paths() == {}


def test_copies_share_the_list(file):
    log = BadImageLog(file, "train", total=100, max_share=None)
    first, second = pickle.loads(pickle.dumps(log)), pickle.loads(pickle.dumps(log))

    first.add("a.png", "it is empty")
    second.add("a.png", "it is empty")
    second.add("b.png", "it is empty")

    assert log.paths() == {"a.png": "it is empty", "b.png": "it is empty"}
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2


def test_splits_are_counted_apart(file):
    train = BadImageLog(file, "train", total=2, max_share=0.5)
    val = BadImageLog(file, "val", total=2, max_share=None)

    val.add("a.png", "it is empty")
    val.add("b.png", "it is empty")
    train.add("c.png", "it is empty")

    assert train.paths() == {"c.png": "it is empty"}
    assert len(val.paths()) == 2


def test_the_share_that_is_allowed_is_allowed(file):
    log = BadImageLog(file, "train", total=100, max_share=0.05)

    for index in range(5):
        log.add(f"{index}.png", "it is empty")
    with pytest.raises(DataError) as caught:
        log.add("5.png", "it is empty")

    assert str(caught.value) == (
        "6 of 100 train images (6.0%) cannot be read, more than the allowed 5%: 0.png (it is "
        "empty); 1.png (it is empty); 2.png (it is empty). All are listed in "
        f"{file}. Repair or remove them, or raise default_hooks.bad_images.max_share."
    )
    assert len(log.paths()) == 6
