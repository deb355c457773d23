from __future__ import annotations

from pathlib import Path

import pytest

from aicore.datasets.path_template import PathTemplate
from aicore.errors import ConfigError, DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def template(root: Path, text: str, images: str = "images") -> PathTemplate:
    return PathTemplate("masks", text, root, root / images)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("masks/{path}.png", "masks/a/part.7.png"),
        ("{folder}/masks/{name}_m.png", "a/masks/part.7_m.png"),
        ("../{name}.xml", "../part.7.xml"),
    ],
)
def test_the_file_of_an_image(tmp_path, text, expected):
    image = tmp_path / "data/images/a/part.7.JPG"
    found = template(tmp_path / "data", text).of(image)
    assert found == (tmp_path / "data" / expected).resolve()
    direct = template(tmp_path, "{folder}/{name}.xml").of(tmp_path / "images/1.png")
    assert direct == tmp_path / "1.xml"


def test_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match=r"masks = '\{nme\}'.*a path with \{path\}, \{folder\}"):
        template(tmp_path, "{nme}")
    with pytest.raises(DataError, match=r"does not lie below .*images', so masks = "):
        template(tmp_path, "{path}.png").of(tmp_path / "other/1.png")


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("masks/{path}.png", "masks/train/2_new.png"),
        ("masks/{path}_m.png", "masks/train/2_m_m.png"),
        ("{folder}annot/{name}.png", "trainannot/2_new.png"),
    ],
)
def test_files_that_belong_to_no_image_of_any_split(tmp_path, text, stray):
    masks = template(tmp_path, text)
    touch(tmp_path, "images/train/1.jpg", "images/train/2.png", "images/val/3.png")
    own = [masks.of(tmp_path / "images" / name) for name in ("train/1.jpg", "val/3.png")]
    touch(tmp_path, *(file.relative_to(tmp_path).as_posix() for file in own), stray)
    touch(tmp_path, "masks/notes.txt", "train/annotated.png")

    assert masks.of_no_image([], (".png",)) == [tmp_path / stray]
    assert masks.of_no_image([], (".png",), below="train") == [tmp_path / stray]
    assert masks.of_no_image([], (".png",), below="val") == []
    assert masks.of_no_image([tmp_path / stray], (".png",)) == []


def test_masks_beside_their_images_are_no_strays(tmp_path):
    touch(tmp_path, "train/1.jpg", "train/1.png", "train/2.png")
    assert template(tmp_path, "{path}.png", "").of_no_image([], (".png",)) == []


def test_a_folder_of_files_that_is_not_there(tmp_path, monkeypatch):
    touch(tmp_path, "images/1.png")
    assert template(tmp_path, "masks/{path}.png").of_no_image([], (".png",)) == []
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "images/2.json")
    here = PathTemplate("annotations", "images/{path}.json", Path(), Path("images"))
    assert here.of_no_image([], (".json",)) == [Path("images/2.json")]
