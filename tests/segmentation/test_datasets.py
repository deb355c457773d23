from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from aicore.datasets.findings import ERROR, NOTE, WARNING, Finding
from aicore.errors import ConfigError, DataError
from aicore.segmentation import SegmentationDataset

CLASSES = ("background", "scratch", "spot")


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data"


def open_dataset(root: Path, split: str = "train", **settings) -> SegmentationDataset:
    settings = {"metainfo": dict(classes=CLASSES), **settings}
    # Packing the records collects all of python's garbage, which takes longer than a test.
    return SegmentationDataset(split, str(root), serialize_data=False, **settings)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def pairs(dataset: SegmentationDataset, root: Path) -> list[tuple[str, str]]:
    """Returns the paths of image and mask of every record, below ``root``."""
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [
        (
            Path(record["img_path"]).relative_to(root).as_posix(),
            Path(record["seg_map_path"]).relative_to(root).as_posix(),
        )
        for record in records
    ]


def write(root: Path, name: str, mask, image_size=None) -> None:
    """Writes an image of the mask's size, and its mask."""
    mask = np.asarray(mask, np.uint8)
    for folder in ("images", "masks"):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    height, width = image_size or mask.shape
    cv2.imwrite(str(root / "images" / f"{name}.png"), np.full((height, width, 3), 90, np.uint8))
    cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)


# ---- which files ----


def test_a_mask_has_its_images_path_below_masks(root):
    touch(root, "images/train/b/2.JPG", "images/train/1.png", "images/val/3.png")
    touch(root, "images/train/.thumbnails/1.png", "images/train/notes.txt")

    assert pairs(open_dataset(root), root) == [
        ("images/train/1.png", "masks/train/1.png"),
        ("images/train/b/2.JPG", "masks/train/b/2.png"),
    ]


@pytest.mark.parametrize(
    ("images", "split", "masks", "image", "mask"),
    [
        ("images", "train", "labels", "images/train/1.png", "labels/train/1.png"),
        ("", "train", "{folder}annot/{name}.png", "train/1.png", "trainannot/1.png"),
        ("raw", "", "labelled/{name}_L.png", "raw/1.png", "labelled/1_L.png"),
        ("test", "", "truth/{path}_mask.png", "test/crack/1.png", "truth/crack/1_mask.png"),
    ],
)
def test_layouts_by_a_template(root, images, split, masks, image, mask):
    touch(root, image)

    assert pairs(open_dataset(root, split, images=images, masks=masks), root) == [(image, mask)]


def test_an_image_without_a_folder(root):
    touch(root, "a.png")
    (root / "all.txt").write_text("a.png\n")

    dataset = open_dataset(root, "all.txt", images="", masks="{folder}/{name}_mask.png")

    assert pairs(dataset, root) == [("a.png", "a_mask.png")]


def test_an_image_from_elsewhere_needs_its_mask_in_the_list(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    touch(other, "a.png")
    root.mkdir(exist_ok=True)
    (root / "all.txt").write_text(f"{other / 'a.png'}\n")

    with pytest.raises(DataError, match=r"a\.png' does not lie below"):
        open_dataset(root, "all.txt")


def test_a_misspelt_place_of_masks_does_not_make_all_images_good(root):
    write(root, "train/1", np.zeros((4, 4)))
    settings = dict(masks="mask/{path}.png", mask_format=dict(missing="background"))

    with pytest.raises(DataError, match="none of its 1 images has a mask"):
        open_dataset(root, **settings)
    assert len(open_dataset(root, test_mode=True, **settings)) == 1


def test_masks_beside_their_images_are_no_images(root):
    touch(root, "a/1.jpg", "a/1.png", "a/2.jpg", "a/2.png")

    found = pairs(open_dataset(root, "", images="", masks="{path}.png"), root)

    assert found == [("a/1.jpg", "a/1.png"), ("a/2.jpg", "a/2.png")]


def test_a_list_of_images(root):
    touch(root, "images/a/1.jpg", "images/2.png", "images/3 b.png", "lists/x.txt")
    (root / "lists/x.txt").write_text("a/1.jpg\n2\n\n3 b.png\n2.png\tother/m.png\n2.png m.bmp\n")

    assert pairs(open_dataset(root, "lists/x.txt"), root) == [
        ("images/a/1.jpg", "masks/a/1.png"),
        ("images/2.png", "masks/2.png"),
        ("images/3 b.png", "masks/3 b.png"),
        ("images/2.png", "other/m.png"),
        ("images/2.png", "m.bmp"),
    ]


def test_a_list_of_names_that_are_not_there(root):
    touch(root, "images/1.png", "x.txt")
    (root / "x.txt").write_text("1\n2\n")

    assert [image for image, _ in pairs(open_dataset(root, "x.txt"), root)] == [
        "images/1.png",
        "images/2",  # the check of the data reports it
    ]


def test_a_list_for_classification(root):
    touch(root, "x.txt")
    (root / "x.txt").write_text("a/1.jpg good\n")

    with pytest.raises(DataError, match=r"x\.txt, line 1: 'a/1\.jpg good' .*split\.py --paths"):
        open_dataset(root, "x.txt")


@pytest.mark.parametrize("split", ["train", "train.txt"])
def test_nothing_there(root, split):
    with pytest.raises(DataError, match=r"found 0 images: .* does not exist"):
        open_dataset(root, split)


def test_a_wrong_template(root):
    with pytest.raises(ConfigError, match=r"masks = '\{stem\}.png': expected a path with \{path\}"):
        open_dataset(root, masks="{stem}.png")


# ---- classes ----


def test_classes_of_labels_txt(root):
    touch(root, "images/train/1.png")
    (root / "labels.txt").write_text("\ufeffgood\nbad\n", encoding="utf-8")

    assert open_dataset(root, metainfo=None).metainfo["classes"] == ("good", "bad")


def test_no_classes(root):
    touch(root, "images/train/1.png")

    with pytest.raises(DataError, match=r"labels.txt' does not exist: a data set without classes"):
        open_dataset(root, metainfo=None)


def test_a_class_twice(root):
    with pytest.raises(DataError, match="holds 'a' more than once"):
        open_dataset(root, metainfo=dict(classes=("a", "b", "a")))


# ---- what masks hold ----


def test_labels_and_pixels(root):
    write(root, "train/1", [[0, 0, 2], [0, 2, 2]])
    write(root, "train/2", [[0, 1], [255, 255]])
    dataset = open_dataset(root)
    first, second = (dataset.get_data_info(index) for index in range(2))

    assert (dataset.labels_of(first), dataset.pixels_of(first)) == ([0, 2], [3, 0, 3])
    assert (dataset.labels_of(second), dataset.pixels_of(second)) == ([0, 1], [1, 1, 0])
    assert dataset.faults_of(first) == dataset.faults_of(second) == []


def test_a_missing_mask_is_a_fault(root):
    write(root, "train/1", [[0, 1]])
    (root / "masks/train/1.png").unlink()
    dataset = open_dataset(root)
    record = dataset.get_data_info(0)

    assert dataset.faults_of(record) == [f"mask '{root}/masks/train/1.png' does not exist"]
    assert dataset.pixels_of(record) is None
    with pytest.raises(DataError, match="does not exist"):
        dataset.labels_of(record)


def test_a_missing_mask_is_background_on_request(root):
    write(root, "train/1", [[0, 1]])
    write(root, "train/2", [[0, 1, 1]])
    (root / "masks/train/2.png").unlink()
    dataset = open_dataset(root, mask_format=dict(missing="background"))
    first, second = (dataset.get_data_info(index) for index in range(2))

    assert first["seg_map_path"] is not None
    assert second["seg_map_path"] is None
    assert dataset.labels_of(second) == [0]
    assert dataset.pixels_of(second) == [3, 0, 0]
    assert dataset.faults_of(second) == []


def test_a_mask_of_another_size(root):
    write(root, "train/1", [[0, 1, 1]], image_size=(4, 5))
    dataset = open_dataset(root)

    (fault,) = dataset.faults_of(dataset.get_data_info(0))

    assert fault == (
        f"mask '{root}/masks/train/1.png' is 3 x 1 pixels (width x height), but its image "
        f"'{root}/images/train/1.png' 5 x 4: both have to agree"
    )


def test_an_image_that_is_its_own_mask(root):
    write(root, "train/1", [[0, 0], [1, 1]])
    cv2.imwrite(str(root / "images/train/1.png"), np.uint8([[0, 0], [1, 1]]))
    dataset = open_dataset(root, masks="images/{path}.png")

    (fault,) = dataset.faults_of(dataset.get_data_info(0))

    assert fault == f"mask '{root}/images/train/1.png' is the image itself: name another file"


def test_an_image_that_is_shown_turned(root):
    write(root, "train/1", np.zeros((4, 6)))
    (root / "images/train/1.png").unlink()
    turned = Image.fromarray(np.zeros((6, 4, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6  # turn right to see it
    turned.save(root / "images/train/1.jpg", exif=exif)
    dataset = open_dataset(root)

    assert dataset.faults_of(dataset.get_data_info(0)) == []


def test_a_mask_of_an_unreadable_image_is_read_all_the_same(root):
    write(root, "train/1", [[0, 1]])
    (root / "images/train/1.png").write_bytes(b"")
    dataset = open_dataset(root)

    assert dataset.labels_of(dataset.get_data_info(0)) == [0, 1]


def test_defects_marked_by_255_do_not_pass_for_ignored(root):
    write(root, "train/1", [[0, 255]])
    write(root, "train/2", [[0, 0]])
    dataset = open_dataset(root)
    first, second = (dataset.get_data_info(index) for index in range(2))

    (fault,) = dataset.faults_of(first)
    assert "if 255 means defective, set mask_format = dict(threshold=127)" in fault
    assert dataset.faults_of(second) == []


def test_ignored_pixels_beside_a_class_are_no_fault(root):
    write(root, "train/1", [[0, 255]])
    write(root, "train/2", [[0, 1]])
    dataset = open_dataset(root)

    assert dataset.faults_of(dataset.get_data_info(0)) == []


def test_masks_are_read_once(root, monkeypatch):
    write(root, "train/1", [[0, 1]])
    dataset = open_dataset(root)
    record = dataset.get_data_info(0)
    dataset.labels_of(record)
    monkeypatch.setattr(dataset.mask_format, "decode", None)

    assert dataset.labels_of(record) == [0, 1]


# ---- what masks say together ----


def found(root: Path, **settings) -> dict[str, str]:
    """Returns the level of each finding by its text."""
    return {f.text: f.level for f in open_dataset(root, **settings).findings()}


def test_sound_masks_give_no_findings(root):
    write(root, "train/1", [[0, 0, 2], [0, 1, 0]])
    write(root, "train/2", [[0, 0, 0]])

    assert found(root) == {}


def test_masks_of_two_annotators(root):
    write(root, "train/1", [[0, 1], [0, 0]])
    write(root, "train/2", [[0, 255], [0, 0]])

    share, mixed = open_dataset(root).findings()

    assert share == (NOTE, "12.5% of the pixels are ignored (255)", ())
    assert mixed.level == WARNING
    assert mixed.text.startswith("1 masks hold nothing but 0 and 255, which is ignored, while")
    assert mixed.cases == [f"{root}/masks/train/2.png"]


def test_two_annotators_with_colours(root):
    palette = dict(palette=[(0, 0, 0), (255, 0, 0), (0, 255, 0)], ignore=[(255, 255, 255)])
    write(root, "train/1", np.full((2, 2), 0))
    write(root, "train/2", [[0, 255], [255, 255]])
    Image.new("RGB", (2, 2), (255, 0, 0)).save(root / "masks/train/1.png")

    share, mixed = open_dataset(root, mask_format=palette).findings()[:2]

    assert share.text == "37.5% of the pixels are ignored ((255, 255, 255))"
    assert mixed.text.startswith("1 masks hold nothing but (0, 0, 0) and (255, 255, 255)")


def test_dark_masks_under_a_threshold(root):
    """Masks of two annotators, 0/1 and 0/255: of the first's, none would be marked."""
    write(root, "train/1", [[0, 1], [0, 0]])
    write(root, "train/2", [[0, 255], [0, 0]])
    settings = dict(metainfo=dict(classes=("good", "bad")), mask_format=dict(threshold=127))

    (finding,) = open_dataset(root, **settings).findings()

    assert finding.level == WARNING
    assert finding.text.startswith("1 of 2 masks mark nothing: they hold grey values above 0, but")
    assert finding.cases == [f"{root}/masks/train/1.png"]


@pytest.mark.parametrize("test_mode", [False, True])
def test_ignored_pixels_in_the_majority(root, test_mode):
    write(root, "train/1", [[255, 255, 255, 0, 1]])

    assert found(root, test_mode=test_mode) == {"60.0% of the pixels are ignored (255)": WARNING}

    write(root, "train/1", [[255, 255]])

    level = WARNING if test_mode else ERROR
    assert found(root, test_mode=test_mode) == {"100.0% of the pixels are ignored (255)": level}


@pytest.mark.parametrize(("value", "name"), [(0, "background"), (2, "spot")])
@pytest.mark.parametrize("test_mode", [False, True])
def test_every_pixel_of_one_class(root, value, name, test_mode):
    for number in range(2):
        write(root, f"train/{number}", np.full((2, 2), value))

    level = found(root, test_mode=test_mode)[f"every pixel of all 2 images is {name}"]

    assert level == (WARNING if test_mode else ERROR)


def test_the_background_in_the_minority(root):
    for number in range(3):
        write(root, f"train/{number}", [[1, 1, 1, 0, number]])

    (finding,) = open_dataset(root).findings()

    assert finding.level == WARNING
    assert finding.text.startswith(
        "scratch covers more than half of 3 of 3 images, and the first class, background, 26.7% of "
    )
    assert len(finding.cases) == 3


def test_a_scene_without_a_background_is_no_inversion(root):
    write(root, "train/0", [[0, 1, 1, 2, 2]])
    write(root, "train/1", [[0, 1, 2, 2, 1]])

    assert found(root) == {}


def test_the_same_mask_for_all_images(root):
    for number in range(3):
        write(root, f"train/{number}", [[0, 0, 1]])
    write(root, "train/9", [[0, 0, 0]])

    assert found(root) == {"all 3 masks that mark something are the same": NOTE}


def test_lossy_masks_of_class_ids(root):
    write(root, "train/1", np.zeros((16, 16)))
    cv2.imwrite(str(root / "masks/train/1.jpg"), np.zeros((16, 16), np.uint8))

    texts = found(root, masks="masks/{path}.jpg", test_mode=True)

    assert any(text.startswith("1 of 1 masks are stored lossily (JPEG") for text in texts)


def test_masks_with_faults_are_passed_over(root):
    write(root, "train/1", [[0, 0, 1]])
    write(root, "train/2", [[0, 7, 1]])

    assert found(root) == {}


# ---- what is not taken ----


def strays(dataset: SegmentationDataset) -> list[Finding]:
    """Returns the findings on masks that belong to no image."""
    return [finding for finding in dataset.findings() if "to no image" in finding.text]


def test_linked_folders_are_read_and_other_files_told(root):
    write(root, "store/1", [[0, 1]])
    write(root, "train/2", [[0, 1]])
    (root / "images/train/lot").symlink_to(root / "images/store")
    (root / "masks/train/lot").symlink_to(root / "masks/store")
    touch(root, "images/train/3.gif", "images/train/Thumbs.db")

    dataset = open_dataset(root)

    assert [image for image, _ in pairs(dataset, root)] == [
        *("images/train/2.png", "images/train/lot/1.png"),
    ]
    (finding,) = dataset.listing
    assert finding.text.startswith("1 file is no image (.gif 1)")
    assert finding.level == WARNING


@pytest.mark.parametrize("split", ["train", "train.txt"])
def test_masks_that_match_no_image(root, split):
    for name in ("train/1", "train/2", "val/1"):
        write(root, name, [[0, 1]])
    (root / "masks/train/2.png").rename(root / "masks/train/2_new.png")
    (root / "train.txt").write_text("train/1\ntrain/2\n")

    background = open_dataset(root, split, mask_format=dict(missing="background"))
    required = open_dataset(root, split)

    (finding,) = strays(background)
    assert finding.level == WARNING
    assert finding.text.startswith("1 mask file belongs to no image; images without one")
    assert finding.cases == [str(root / "masks/train/2_new.png")]
    assert [finding.level for finding in strays(required)] == [NOTE]
    if split == "train":
        assert strays(open_dataset(root, "val")) == []


def test_masks_of_other_splits_are_no_alarm(root):
    for name in ("1", "2"):
        write(root, name, [[0, 1]])
    (root / "train.txt").write_text("1\n")
    (root / "pairs.txt").write_text("1.png\tmasks/1.png\n")

    assert strays(open_dataset(root, "train.txt")) == []
    assert strays(open_dataset(root, "pairs.txt")) == []


def test_lists_of_windows_in_any_case(root):
    write(root, "train/1", [[0, 1]])
    (root / "TRAIN.TXT").write_bytes(b"train\\1.png \r\n.\\train\\1\tmasks\\train\\1.png\r\n")

    assert (
        pairs(open_dataset(root, "TRAIN.TXT"), root)
        == [("images/train/1.png", "masks/train/1.png")] * 2
    )
    touch(root, "images/train.csv")
    with pytest.raises(DataError, match=r"is a file but no list: lists end in \.txt"):
        open_dataset(root, "train.csv")


def test_a_split_by_its_whole_path_or_through_a_link(root, tmp_path, monkeypatch):
    write(root, "train/a", np.eye(8))
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)

    for given in ("data", "link"):
        dataset = open_dataset(Path(given), str(root / "images/train"))
        assert dataset.findings() == []
