from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from aicore.anomaly import transforms  # noqa: F401  (registers what the configs name)
from aicore.anomaly.datasets import AnomalyDataset
from aicore.anomaly.listing import divide
from aicore.config import load_config
from aicore.datasets.bad_images import BadImageLog
from aicore.datasets.check import check_config, read_split
from aicore.datasets.findings import NOTE, WARNING
from aicore.datasets.sample import make_sample
from aicore.errors import ConfigError, DataError
from aicore.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / "configs" / "_base_" / "datasets"
MASKS = "ground_truth/{type}/{name}_mask.png"
TILES = ("MT_Free", "MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven")


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data"


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(root: Path, name: str, pixels) -> None:
    """Writes a picture of these grey values."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / name), np.asarray(pixels, np.uint8))


def open_dataset(root: Path, split="test", test_mode: bool = True, **settings) -> AnomalyDataset:
    # Packing the records collects all of python's garbage, which takes longer than a test.
    return AnomalyDataset(split, str(root), test_mode=test_mode, serialize_data=False, **settings)


def records(dataset: AnomalyDataset) -> list[dict]:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def types(dataset: AnomalyDataset) -> dict[str, str]:
    return {record["relative_path"]: record["defect_type"] for record in records(dataset)}


def names(dataset: AnomalyDataset) -> set[str]:
    return {record["relative_path"] for record in records(dataset)}


def masks(dataset: AnomalyDataset, root: Path) -> dict[str, str | None]:
    return {
        record["relative_path"]: record["mask_path"]
        and Path(record["mask_path"]).relative_to(root).as_posix()
        for record in records(dataset)
    }


# ---- folders ----


def test_a_record(root):
    touch(root, "test/good/1.png", "test/dent/2.png", "ground_truth/dent/2_mask.png")

    defective, good = records(open_dataset(root, masks=MASKS))

    expected = {
        "img_path": str(root / "test/dent/2.png"),
        "relative_path": "test/dent/2.png",
        "defect_type": "dent",
        "gt_label": 1,
        "mask_path": str(root / "ground_truth/dent/2_mask.png"),
        "roi_path": None,
    }
    assert {key: defective[key] for key in expected} == expected
    assert (good["defect_type"], good["gt_label"], good["mask_path"]) == ("good", 0, None)
    assert open_dataset(root).metainfo["classes"] == ("ok", "ng")


def test_the_type_is_the_first_folder(root):
    touch(root, "test/OK/a/1.JPG", "test/dent/good/2.png", "test/3.png")
    touch(root, "test/.thumbnails/1.png", "test/dent/._2.png", "test/notes.txt")

    assert types(open_dataset(root)) == {
        "test/OK/a/1.JPG": "good",
        "test/dent/good/2.png": "dent",
        "test/3.png": "test",
    }


def test_folders_of_good_and_of_bad_images(root):
    touch(root, "good/monday/1.png", "good/2.png", "bad/3.png", "bad/scratch/4.png")

    assert types(open_dataset(root, ["good", "bad"])) == {
        "good/2.png": "good",
        "good/monday/1.png": "good",
        "bad/3.png": "bad",
        "bad/scratch/4.png": "scratch",
    }


def test_the_data_root_itself(root):
    touch(root, "Normal/1.png", "dent/2.png")

    assert types(open_dataset(root, ".")) == {"Normal/1.png": "good", "dent/2.png": "dent"}


def test_an_image_in_two_splits_counts_once(root):
    touch(root, "good/1.png", "dent/2.png")

    assert len(open_dataset(root, [".", "good"])) == 2


@pytest.mark.parametrize("good", ["flawless", ("Flawless", "fine")])
def test_names_of_good_types(root, good):
    touch(root, "test/flawless/1.png", "test/normal/2.png")
    labels = [record["gt_label"] for record in records(open_dataset(root, good=good))]

    assert labels == [0, 1]


def test_a_type_from_the_path(root):
    touch(root, "MT_Free/Imgs/1.jpg", "MT_Crack/Imgs/2.jpg")
    settings = dict(type_from="^MT_([^/]+)/", good=("free",))

    found = types(open_dataset(root, ["MT_Free", "MT_Crack"], **settings))

    assert found == {"MT_Free/Imgs/1.jpg": "good", "MT_Crack/Imgs/2.jpg": "Crack"}


# ---- lists ----


def test_a_list_with_types(root):
    touch(root, "a/1.png", "a/2.jpg", "a/my part.png", "a/b c.png")
    (root / "x.txt").write_text(
        "a/1.png good\na/2 dent\n\na/my part.png\tdeep dent\na/my part 2.png good\na/b c\tok\n"
    )

    assert types(open_dataset(root, "x.txt")) == {
        "a/1.png": "good",
        "a/2.jpg": "dent",
        "a/my part.png": "deep dent",
        "a/my part 2.png": "good",
        "a/b c.png": "good",
    }


def test_a_list_without_types(root):
    touch(root, "good/monday/1.png", "test/dent/2.png", "test/dent/3 b.png")
    (root / "x.txt").write_text("good/monday/1.png\ntest/dent/2\ntest/dent/3 b\n")

    assert types(open_dataset(root, "x.txt")) == {
        "good/monday/1.png": "good",
        "test/dent/2.png": "dent",
        "test/dent/3 b.png": "dent",
    }


def test_a_list_with_types_from_the_path(root):
    touch(root, "MT_Free/Imgs/1.jpg")
    (root / "x.txt").write_text("MT_Free/Imgs/1.jpg\n")

    settings = dict(good="MT_Free", type_from="^([^/]+)/")
    assert types(open_dataset(root, "x.txt", **settings)) == {"MT_Free/Imgs/1.jpg": "good"}


def test_images_from_elsewhere(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "good"
    touch(other, "1.png")
    touch(root, "x.txt")
    (root / "x.txt").write_text(f"{other / '1.png'}\n")

    assert types(open_dataset(root, "x.txt")) == {(other / "1.png").as_posix(): "good"}
    with pytest.raises(DataError, match=r"1\.png' does not lie below .*masks = "):
        open_dataset(root, "x.txt", masks=MASKS)


def test_a_list_of_names_without_a_type(root):
    touch(root, "1.png")
    (root / "x.txt").write_text("1.png\n")

    with pytest.raises(DataError, match=r"'1\.png' lies in no folder that says its type: write"):
        open_dataset(root, "x.txt")


@pytest.mark.parametrize("split", ["test", "test.txt", ["good", "tset"], "test.csv"])
def test_nothing_there(root, split):
    touch(root, "good/1.png")

    with pytest.raises(DataError, match="does not exist"):
        open_dataset(root, split)


# ---- csv ----


@pytest.fixture
def table(root) -> Path:
    root.mkdir()
    (root / "all.csv").write_text(
        "object,split,label,image,mask\n"
        "candle,train,normal,candle/0.JPG,\n"
        "candle,test,normal,candle/1.JPG,\n"
        "candle,test,anomaly,candle/2.JPG,masks/2.png\n"
        "pcb,test,anomaly,pcb/3.JPG,masks/3.png\n"
    )
    return root


def test_a_csv_file(table):
    dataset = open_dataset(table, "all.csv", rows=dict(object="candle", split="test"))

    assert types(dataset) == {"candle/1.JPG": "good", "candle/2.JPG": "anomaly"}
    assert masks(dataset, table) == {"candle/1.JPG": None, "candle/2.JPG": "masks/2.png"}
    assert len(open_dataset(table, "all.csv")) == 4


def test_masks_of_a_csv_file_may_be_missing_on_request(table):
    dataset = open_dataset(table, "all.csv", rows=dict(object="pcb"), masks_required=False)

    assert masks(dataset, table) == {"pcb/3.JPG": None}


def test_a_csv_file_of_another_form(table):
    with pytest.raises(DataError, match=r"no column 'objct'\. Did you mean 'object'\?"):
        open_dataset(table, "all.csv", rows=dict(objct="candle"))
    with pytest.raises(DataError, match=r"none of its 4 rows\. What is there: object: candle, pcb"):
        open_dataset(table, "all.csv", rows=dict(object="candel"))
    (table / "all.csv").write_text("image;label\n1.png;good\n")
    with pytest.raises(DataError, match=r"no column 'image'.* It has: image;label"):
        open_dataset(table, "all.csv")
    (table / "all.csv").write_text("image,label\n1.png,\n")
    with pytest.raises(DataError, match=r"a row without image or label: .*1\.png"):
        open_dataset(table, "all.csv")


# ---- masks and ROIs ----


@pytest.mark.parametrize(
    ("template", "mask"),
    [
        (MASKS, "ground_truth/dent/1_mask.png"),
        ("ground_truth/{type}/{name}.png", "ground_truth/dent/1.bmp"),
        ("masks/{path}.png", "masks/test/dent/1.png"),
        ("{folder}/{name}_m.png", "test/dent/1_m.png"),
        ("{folder}/{name}_m.png", "test/dent/1_m.bmp"),
        ("{path}.png", "test/dent/1.png"),
    ],
)
def test_places_of_masks(root, template, mask):
    touch(root, "test/dent/1.jpg", "test/good/2.jpg", mask)

    found = masks(open_dataset(root, masks=template), root)

    assert found == {"test/dent/1.jpg": mask, "test/good/2.jpg": None}


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_masks_beside_their_images_are_no_images(root, suffix):
    pictures = [f"{folder}/{name}.jpg" for folder in ("good", "dent") for name in "ab"]
    touch(root, *pictures, *[f"{Path(p).with_suffix('')}_m.{suffix}" for p in pictures])

    assert sorted(names(open_dataset(root, ".", masks="{path}_m.png"))) == sorted(pictures)


def test_images_with_the_suffix_of_their_masks_are_kept(root):
    touch(root, "dent/1.png", "dent/2.jpg", "dent/2.png")

    dataset = open_dataset(root, "dent", masks="{path}.png", masks_required=False)

    assert masks(dataset, root) == {"dent/1.png": None, "dent/2.jpg": "dent/2.png"}


@pytest.mark.parametrize("template", ["masks", "masks/{stem}.png", "masks/{name", "{0}.png"])
def test_a_wrong_template(root, template):
    touch(root, "test/good/1.png")

    with pytest.raises(ConfigError, match=r"masks = .*: expected a path with \{path\}"):
        open_dataset(root, masks=template)


def test_an_roi_for_all_images_or_for_each(root):
    touch(root, "test/good/1.png", "roi.png", "test/good/1_roi.png")

    (for_all,) = records(open_dataset(root, roi="roi.png", masks="{path}_roi.png"))
    (for_each,) = records(open_dataset(root, roi="{path}_roi.png"))

    assert for_all["roi_path"] == str(root / "roi.png")
    assert for_each["roi_path"] == str(root / "test/good/1_roi.png")


def test_the_roi_is_no_image(root):
    touch(root, "good/1.png", "roi.png")

    assert names(open_dataset(root, ".", roi="roi.png")) == {"good/1.png"}


def test_a_missing_roi(root):
    touch(root, "test/good/1.png")

    with pytest.raises(DataError, match=r"roi '.*/roi\.png' does not exist: set roi"):
        open_dataset(root, roi="roi.png")


# ---- what is held out ----


def test_the_shares():
    files = [f"{index:03d}.png" for index in range(952)]

    parts = divide(files, test_share=0.2, held_out=0.1, seed=0)

    assert Counter(parts.values()) == {"fit": 686, "held_out": 76, "test": 190}
    assert parts == divide(files[::-1], 0.2, 0.1, 0)
    assert parts != divide(files, 0.2, 0.1, 1)
    # What is held out leaves the test as it is.
    without = divide(files, 0.2, 0.0, 0)
    assert {n for n in files if without[n] == "test"} == {n for n in files if parts[n] == "test"}


def test_few_images_change_their_part_when_others_are_added():
    files = [f"{index:03d}.png" for index in range(400)]

    before, after = divide(files[:360], 0.0, 0.25, 0), divide(files, 0.0, 0.25, 0)

    assert sum(before[name] != after[name] for name in before) < 12


@pytest.mark.parametrize(("count", "held_out"), [(1, 0), (2, 1), (5, 1), (14, 1), (16, 2)])
def test_shares_of_few_images(count, held_out):
    parts = divide([str(index) for index in range(count)], 0.0, 0.1, 0)

    assert Counter(parts.values())["held_out"] == held_out


def test_parts_of_a_split(root):
    touch(root, *(f"good/{index}.png" for index in range(20)), "bad/1.png", "bad/2.png")
    shares = dict(test_share=0.25, held_out=0.2, seed=3)

    fit = names(open_dataset(root, "good", test_mode=False, part="fit", **shares))
    held_out = names(open_dataset(root, "good", part="held_out", **shares))
    test = names(open_dataset(root, ["bad", "good"], part="test", **shares))
    good = {name for name in test if name.startswith("good")}

    assert (len(fit), len(held_out), len(good)) == (12, 3, 5)
    assert len(fit | held_out | good) == 20
    assert test - good == {"bad/1.png", "bad/2.png"}
    assert names(open_dataset(root, ".", part="held_out", **shares)) == held_out
    assert len(open_dataset(root, ".", **shares)) == 22


def test_too_few_images_to_divide(root):
    touch(root, "good/1.png")

    with pytest.raises(DataError, match=r"part = 'held_out' of good .* holds 1 good images, too"):
        open_dataset(root, "good", part="held_out", held_out=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(part="fitt"), r"part = 'fitt': expected one of all, fit, .* mean 'fit'"),
        (dict(part="held_out"), "part = 'held_out' with held_out = 0: .* Set held_out"),
        (dict(part="test"), "part = 'test' with test_share = 0: .* Set test_share"),
        (dict(held_out=1), "held_out = 1: expected a share from 0 to below 1"),
        (dict(test_share=True), "test_share = True: expected a share"),
        (dict(mask_threshold=255), "mask_threshold = 255: expected a grey value, 0 to 254"),
        (dict(good=()), r"good = \(\): expected the names of the good types"),
        (dict(type_from="MT_"), "type_from = 'MT_': expected a group around the type"),
        (dict(type_from="("), r"type_from = '\(': expected a regular expression"),
        (dict(split=[]), r"split = \[\]: expected a folder"),
    ],
)
def test_wrong_settings(root, settings, message):
    with pytest.raises(ConfigError, match=message):
        open_dataset(root, **settings)


# ---- training ----


def test_training_takes_good_images_only(root):
    touch(root, "train/good/1.png", "train/dent/2.png", "train/dent/3.png")

    with pytest.raises(DataError) as caught:
        open_dataset(root, "train", test_mode=False)

    assert str(caught.value) == (
        f"2 of the 3 images to train on are of a defective type: '{root}/train/dent/2.png' (dent), "
        f"'{root}/train/dent/3.png' (dent). Fit on good images only: take them out of train, or "
        "if they are good, add their type to good = ('good', 'ok', 'normal') in the config."
    )


def test_a_type_that_is_not_found(root):
    touch(root, "train/good/1.png")

    with pytest.raises(DataError, match=r"type_from = '\^MT_\(\.\*\)' finds no type in 'train/"):
        open_dataset(root, "train", type_from="^MT_(.*)")


def test_an_unreadable_image_is_left_out_of_training(root):
    write(root, "train/good/1.png", np.full((8, 8), 90))
    touch(root, "train/good/2.png")
    pipeline = [dict(type="aicore.LoadImage"), dict(type="aicore.PackAnomaly")]
    dataset = open_dataset(root, "train", test_mode=False, pipeline=pipeline)
    dataset.bad_images = BadImageLog(root / "bad.txt", "train", 2, 0.5)

    samples = [dataset[index]["data_samples"] for index in range(2)]

    assert [sample.get("not_inspected") is None for sample in samples] == [True, False]
    assert list(dataset.bad_images.paths()) == [str(root / "train/good/2.png")]


# ---- checks ----


def faults(dataset: AnomalyDataset) -> list[str]:
    return [fault for record in records(dataset) for fault in dataset.faults_of(record)]


def notes(dataset: AnomalyDataset) -> list[str]:
    return [note for record in records(dataset) for note in dataset.notes_of(record)]


@pytest.fixture
def parts(root) -> Path:
    """A good and a defective image of 4 x 6 pixels; soft edges around two defective ones."""
    write(root, "test/good/1.png", np.full((4, 6), 90))
    write(root, "test/dent/2.png", np.full((4, 6), 90))
    mask = np.zeros((4, 6))
    mask[1, 1:5] = 100, 255, 255, 100
    write(root, "ground_truth/dent/2_mask.png", mask)
    return root


def test_labels_and_pixels(parts):
    dataset = open_dataset(parts, masks=MASKS, mask_threshold=127)
    defective, good = records(dataset)

    assert (dataset.labels_of(defective), dataset.pixels_of(defective)) == ([1], [22, 2])
    assert (dataset.labels_of(good), dataset.pixels_of(good)) == ([0], [24, 0])
    assert faults(dataset) == notes(dataset) == []
    soft = open_dataset(parts, masks=MASKS)
    assert soft.pixels_of(records(soft)[0]) == [20, 4]


def test_pixels_inside_the_roi(parts):
    roi = np.zeros((4, 6))
    roi[:, :3] = 255
    write(parts, "roi.png", roi)
    dataset = open_dataset(parts, masks=MASKS, roi="roi.png")

    assert [dataset.pixels_of(record) for record in records(dataset)] == [[10, 2], [12, 0]]


def test_without_masks_no_pixels_are_known(parts):
    dataset = open_dataset(parts)

    assert [dataset.pixels_of(record) for record in records(dataset)] == [None, None]
    assert faults(dataset) == []


def test_a_missing_mask_is_a_fault(parts):
    (parts / "ground_truth/dent/2_mask.png").unlink()

    assert faults(open_dataset(parts, masks=MASKS)) == [
        f"mask '{parts}/ground_truth/dent/2_mask.png' does not exist: look at masks = {MASKS!r}, "
        "or set masks_required = False"
    ]
    dataset = open_dataset(parts, masks=MASKS, masks_required=False)
    assert faults(dataset) == []
    assert dataset.pixels_of(records(dataset)[0]) is None


def test_a_missing_mask_of_a_csv_file(table):
    dataset = open_dataset(table, "all.csv", rows=dict(object="pcb"))

    (fault,) = faults(dataset)
    assert fault.startswith(f"mask '{table}/masks/3.png' does not exist, but the csv file names it")


def test_a_mask_that_cannot_be_read(parts):
    (parts / "ground_truth/dent/2_mask.png").write_text("no picture")

    (fault,) = faults(open_dataset(parts, masks=MASKS))
    assert fault.startswith(
        f"mask '{parts}/ground_truth/dent/2_mask.png' cannot be read: it is not"
    )


def test_an_image_that_is_its_own_mask(root):
    write(root, "1.png", np.full((4, 6), 90))
    (root / "all.csv").write_text("image,label,mask\n1.png,dent,1.png\n")

    assert f"mask '{root}/1.png' is the image itself: name another file" in faults(
        open_dataset(root, "all.csv")
    )


def test_a_mask_of_another_size(parts):
    write(parts, "ground_truth/dent/2_mask.png", np.ones((3, 5)))

    assert faults(open_dataset(parts, masks=MASKS)) == [
        f"mask '{parts}/ground_truth/dent/2_mask.png' is 5 x 3 pixels (width x height), but its "
        f"image '{parts}/test/dent/2.png' 6 x 4: both have to agree"
    ]


def test_a_mask_that_marks_nothing_among_others(parts):
    write(parts, "test/dent/3.png", np.full((4, 6), 90))
    write(parts, "ground_truth/dent/3_mask.png", np.ones((4, 6)))
    sentence = (
        f"mask '{parts}/ground_truth/dent/3_mask.png' has no pixel above 127 (mask_threshold), but "
        "the image is of the defective type dent"
    )
    dataset = open_dataset(parts, masks=MASKS, mask_threshold=127)

    assert (faults(dataset), notes(dataset)) == ([], [sentence])


def test_a_threshold_that_no_mask_reaches(parts):
    write(parts, "ground_truth/dent/2_mask.png", np.ones((4, 6)))
    dataset = open_dataset(parts, masks=MASKS, mask_threshold=127)

    (fault,) = faults(dataset)
    assert "has no pixel above 127 (mask_threshold)" in fault
    assert notes(dataset) == []


def test_a_defect_outside_the_roi(parts):
    roi = np.zeros((4, 6))
    roi[2:] = 1
    write(parts, "roi.png", roi)
    dataset = open_dataset(parts, masks=MASKS, roi="roi.png")

    assert faults(dataset) == []
    (note,) = notes(dataset)
    assert note.endswith(f"lies outside the ROI '{parts}/roi.png', so that it cannot be found")


def test_faults_of_rois(parts):
    write(parts, "roi/good/1.png", np.ones((4, 5)))
    write(parts, "roi/dent/2.png", np.zeros((4, 6)))
    settings = dict(split="test/dent", roi="roi/dent/{name}.png")

    assert faults(open_dataset(parts, **settings)) == [
        f"roi '{parts}/roi/dent/2.png' has no pixel above 0 (127 in a file with soft "
        "edges): nothing would count"
    ]
    assert "6 x 4: both have to agree" in faults(open_dataset(parts, roi="roi/good/1.png"))[0]
    assert faults(open_dataset(parts, "test/good", roi="roi/{name}.png")) == [
        f"roi '{parts}/roi/1.png' does not exist: look at roi = 'roi/{{name}}.png'"
    ]


def levels(dataset: AnomalyDataset) -> dict[str, str]:
    """Returns the level of each finding by its text."""
    return {finding.text: finding.level for finding in dataset.findings()}


def write_lossily(root: Path, name: str, pixels: np.ndarray) -> None:
    cv2.imwrite(str(root / name), np.uint8(pixels), [cv2.IMWRITE_JPEG_QUALITY, 60])


@pytest.fixture
def squares(root) -> Path:
    """Three defective images of 64 x 64 pixels, each with another square of 14 x 14."""
    for number in range(3):
        write(root, f"test/dent/{number}.png", np.full((64, 64), 90))
        mask = np.zeros((64, 64))
        mask[25:39, 10 * number : 10 * number + 14] = 255
        write(root, f"ground_truth/dent/{number}_mask.png", mask)
    return root


def test_sound_masks_give_no_findings(squares):
    assert levels(open_dataset(squares, masks=MASKS)) == {}


def test_lossy_masks_are_cut_at_half_of_white(squares):
    for file in (squares / "ground_truth/dent").iterdir():
        write_lossily(file.parent, f"{file.stem}.jpg", cv2.imread(str(file), 0))
        file.unlink()
    masks = "ground_truth/{type}/{name}_mask.jpg"
    dataset = open_dataset(squares, masks=masks)

    for record in records(dataset):
        assert dataset.pixels_of(record)[1] == pytest.approx(14**2, rel=0.05)
        assert open_dataset(squares, masks=masks, mask_threshold=0).pixels_of(record)[1] > 220
    (lossy, *_) = [text for text, level in levels(dataset).items() if level == WARNING]
    assert lossy.startswith("3 of 3 masks are stored lossily (JPEG")


def test_soft_edges_are_cut_at_half_of_white(squares):
    file = squares / "ground_truth/dent/1_mask.png"
    cv2.imwrite(str(file), cv2.GaussianBlur(cv2.imread(str(file), 0), (0, 0), 1))
    dataset = open_dataset(squares, masks=MASKS)

    (finding,) = dataset.findings()
    assert finding.level == WARNING
    assert finding.text.startswith("1 of 3 masks have soft edges: what is brighter than 127")
    assert finding.cases == [str(file)]
    assert dataset.pixels_of(records(dataset)[1])[1] == pytest.approx(14**2, rel=0.05)


def test_masks_of_black_and_white_the_wrong_way_round(squares):
    for file in (squares / "ground_truth/dent").iterdir():
        cv2.imwrite(str(file), 255 - cv2.imread(str(file), 0))

    (finding,) = open_dataset(squares, masks=MASKS).findings()

    assert finding.level == WARNING
    assert finding.text.startswith("3 of 3 masks mark more than half of their image")


def test_a_photograph_as_mask(squares):
    file = squares / "ground_truth/dent/1_mask.png"
    cv2.imwrite(str(file), np.tile(np.uint8(np.arange(60, 188, 2)), (64, 1)))

    found = levels(open_dataset(squares, masks=MASKS))

    assert any(text.startswith("1 of 3 masks look like photographs") for text in found)


def test_the_same_mask_for_all_images(squares):
    for file in (squares / "ground_truth/dent").iterdir():
        cv2.imwrite(str(file), np.eye(64, dtype=np.uint8))

    found = levels(open_dataset(squares, masks=MASKS))

    assert found == {"all 3 masks that mark something are the same": NOTE}


def test_an_roi_the_wrong_way_round(squares):
    roi = np.zeros((64, 64))
    roi[:20] = 255
    write(squares, "roi.png", roi)

    assert levels(open_dataset(squares, masks=MASKS, roi="roi.png")) == {
        "31.2% of the pixels lie inside the ROI, and count": NOTE,
        "not one of the defective pixels lies inside the ROI: are black and white the wrong way "
        "round in it?": WARNING,
    }


def test_an_roi_stored_lossily(squares):
    roi = np.zeros((64, 64))
    roi[21:43, 5:60] = 255
    write_lossily(squares, "roi.jpg", roi)
    dataset = open_dataset(squares, masks=MASKS, roi="roi.jpg")

    assert sum(dataset.pixels_of(records(dataset)[0])) == pytest.approx(22 * 55, rel=0.05)
    assert any(text.startswith("1 of 1 rois are stored lossily") for text in levels(dataset))


def test_defects_are_not_missed_where_only_good_images_belong(parts):
    touch(parts, "test/good/3.png")
    good = open_dataset(parts, "test/good", test_mode=False)
    held_out = open_dataset(parts, part="held_out", held_out=0.5)
    test = open_dataset(parts, "test/good")

    assert read_split("train", good).missing_classes() == []
    assert read_split("val", held_out).missing_classes() == []
    assert read_split("test", test).missing_classes() == ["ng"]


# ---- configs ----


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample") / "data", images=60, size=64)


def build(config, name: str, **settings) -> AnomalyDataset:
    return DATASETS.build({**config[f"{name}_dataloader"].dataset, **settings})


def open_config(name: str, **options):
    return load_config(CONFIGS / f"{name}.py", options)


def test_the_sample(sample):
    options = dict(data_root=str(sample / "anomaly"), image_size=[48, 40], held_out=0.25)
    config = open_config("anomaly_sample", **options)
    train, val, test = (build(config, name) for name in ("train", "val", "test"))

    assert (len(train), len(val)) == (15, 5)
    assert Counter(types(test).values()) == {"good": 4, "scratch": 12, "spot": 12, "dent": 12}
    assert names(train).isdisjoint(names(val))
    assert train[0]["inputs"].shape == (3, 48, 40)
    data = next(test[i] for i, r in enumerate(records(test)) if r["defect_type"] == "spot")
    assert data["data_samples"].gt_mask.data.shape == (1, 64, 64)
    assert data["data_samples"].ori_shape == (64, 64)
    assert val[0]["data_samples"].gt_label == 0


def test_the_sample_passes_the_check(sample):
    config = open_config("anomaly_sample", data_root=str(sample / "anomaly"))

    report = check_config(config)

    assert report.of_level("error") == []
    assert [p.text for p in report.of_level("warning") if "without a label" in p.text] == []
    assert report.splits["val"].counts == {"ok": 2, "ng": 0}
    assert 0 < report.splits["test"].pixel_shares["ng"] < 0.2


def test_tiles_leave_the_size_as_it_is(sample):
    config = open_config("anomaly_sample", data_root=str(sample / "anomaly"), tile_size=32)

    assert build(config, "train")[0]["inputs"].shape == (3, 64, 64)
    assert config.train_dataloader.batch_size == config.test_dataloader.batch_size == 1


def test_a_validation_of_its_own(root):
    touch(root, "train/good/1.png", "train/good/2.png", "val/good/3.png", "val/dent/4.png")
    config = open_config("anomaly", data_root=str(root), val="val", masks=None)

    assert len(build(config, "train")) == 2
    assert types(build(config, "val")) == {"val/good/3.png": "good", "val/dent/4.png": "dent"}


def test_good_and_bad_folders(root):
    touch(root, *(f"good/{index}.png" for index in range(10)), "bad/1.png")
    options = dict(train="good", test=["good", "bad"], test_share=0.3, masks=None, held_out=0.3)
    config = open_config("anomaly", data_root=str(root), **options)
    found = [names(build(config, name)) for name in ("train", "val", "test")]

    assert [len(part) for part in found] == [5, 2, 4]
    assert len(set.union(*found)) == 11


def test_an_roi_in_a_config(parts):
    write(parts, "roi.png", np.eye(4, 6))
    touch(parts, "train/good/1.png")
    config = open_config("anomaly", data_root=str(parts), roi="roi.png")

    data = build(config, "test")[0]["data_samples"]

    assert data.roi.data.sum() == 4
    assert Counter(data.gt_mask.data.flatten().tolist()) == {255: 20, 0: 3, 1: 1}


def test_btad(root):
    touch(root, "train/ok/1.bmp", "test/ok/2.bmp", "test/ko/3.bmp", "ground_truth/ko/3.bmp")
    config = open_config("btad", data_root=str(root))

    assert types(build(config, "train")) == {"train/ok/1.bmp": "good"}
    assert masks(build(config, "test"), root) == {
        "test/ko/3.bmp": "ground_truth/ko/3.bmp",
        "test/ok/2.bmp": None,
    }


def test_mvtec(root):
    touch(root, "train/good/1.png", "train/good/2.png", "test/good/2.png", "test/hole/3.png")
    touch(root, "ground_truth/hole/3_mask.png")
    config = open_config("mvtec", data_root=str(root))

    assert len(build(config, "train")) == len(build(config, "val")) == 1
    assert masks(build(config, "test"), root)["test/hole/3.png"] == "ground_truth/hole/3_mask.png"


def test_visa(root):
    (root / "split_csv").mkdir(parents=True)
    rows = [f"pcb1,train,normal,pcb1/Data/Images/Normal/{i}.JPG," for i in range(4)]
    rows += ["pcb1,test,anomaly,pcb1/Data/Images/Anomaly/0.JPG,pcb1/Data/Masks/Anomaly/0.png"]
    rows += ["candle,test,normal,candle/Data/Images/Normal/9.JPG,"]
    text = "\n".join(["object,split,label,image,mask", *rows])
    (root / "split_csv/1cls.csv").write_text(text)
    config = open_config("visa", data_root=str(root), category="pcb1")

    assert (len(build(config, "train")), len(build(config, "val"))) == (3, 1)
    (record,) = records(build(config, "test"))
    assert record["mask_path"] == str(root / "pcb1/Data/Masks/Anomaly/0.png")


def test_magnetic_tiles(root):
    for folder in TILES:
        for index in range(10):
            touch(root, f"{folder}/Imgs/{index}.jpg", f"{folder}/Imgs/{index}.png")
    found = {}
    for seed in (0, 1):
        config = open_config("magnetic_tile_anomaly", data_root=str(root), split_seed=seed)
        found[seed] = [build(config, name) for name in ("train", "val", "test")]

    train, val, test = found[0]
    assert (len(train), len(val)) == (7, 1)
    assert Counter(types(test).values())["good"] == 2
    assert Counter(types(test).values())["Crack"] == 10
    assert len(names(train) | names(val) | names(test)) == 60
    assert names(found[1][2]) != names(test)


@pytest.mark.skipif("AICORE_REAL_DATA" not in os.environ, reason="AICORE_REAL_DATA is not set")
def test_real_magnetic_tiles():
    folder = Path(os.environ["AICORE_REAL_DATA"]) / "magnetic_tile"
    config = open_config("magnetic_tile_anomaly", data_root=str(folder))
    train, val, test = (build(config, name) for name in ("train", "val", "test"))

    assert len(train) + len(val) == 762  # of 952, 80 %
    assert Counter(types(test).values()) == {
        "good": 190,
        "Blowhole": 115,
        "Uneven": 103,
        "Break": 85,
        "Crack": 57,
        "Fray": 32,
    }
    assert faults(test) == []
    assert len(notes(test)) == 4  # masks that mark nothing
    sample = test[next(i for i, r in enumerate(records(test)) if r["gt_label"])]["data_samples"]
    assert tuple(sample.gt_mask.data.shape[1:]) == sample.ori_shape


# ---- what is not taken, and what is odd ----


def findings(dataset: AnomalyDataset) -> dict[str, str]:
    """Returns the texts of the findings with their levels."""
    return {finding.text: finding.level for finding in dataset.findings()}


def test_linked_folders_are_read(root):
    touch(root, "store/s/1.png", "store/g/2.png", "test/dent/3.png", "train/good/4.png")
    touch(root, "ground_truth/scratch/1_mask.png", "ground_truth/dent/3_mask.png")
    (root / "test/scratch").symlink_to(root / "store/s")
    (root / "test/good").symlink_to("../store/g")

    dataset = open_dataset(root, masks=MASKS)

    assert types(dataset) == {
        "test/dent/3.png": "dent",
        "test/good/2.png": "good",
        "test/scratch/1.png": "scratch",
    }
    assert findings(dataset) == {}
    (root / "good").symlink_to(root / "store/g")
    assert names(open_dataset(root, "good")) == {"good/2.png"}


def test_other_files_are_told(root):
    touch(root, "test/good/1.png", "test/good/2.gif", "test/dent/3.jfif", "test/readme.md")

    dataset = open_dataset(root)

    assert names(dataset) == {"test/good/1.png", "test/dent/3.jfif"}
    ((text, level),) = findings(dataset).items()
    assert text.startswith("1 file is no image (.gif 1)")
    assert level == "warning"


def test_masks_that_match_no_image(root):
    touch(root, "test/good/1.png", "test/dent/2.png", "test/dent/3.png", "val/dent/9.png")
    touch(root, "ground_truth/dent/2_mask.png", "ground_truth/dent/3.png_mask.png")
    touch(root, "ground_truth/dent/9_mask.png", "ground_truth/readme.txt")

    free = open_dataset(root, masks=MASKS, masks_required=False)

    (finding,) = free.findings()
    assert finding.level == "warning"
    assert finding.text.startswith("1 mask file belongs to no image; images without one")
    assert finding.cases == [str(root / "ground_truth/dent/3.png_mask.png")]
    assert list(findings(open_dataset(root, masks=MASKS)).values()) == ["note"]
    assert findings(open_dataset(root)) == {}


def test_images_that_are_listed_again_are_told(root):
    touch(root, "a/1.png", "a/2.png")
    (root / "x.txt").write_text("a/1.png good\na/2.png good\na/1.png dent\n")

    dataset = open_dataset(root, "x.txt")

    assert types(dataset) == {"a/1.png": "good", "a/2.png": "good"}
    (finding,) = dataset.listing
    assert finding.text == "images that are listed again, and count once, as listed first: 1"
    assert finding.cases == [f"{root / 'a/1.png'} (dent, good)"]


def test_few_good_images_are_told(root):
    touch(root, *(f"train/good/{index}.png" for index in range(12)))

    assert findings(open_dataset(root, "train", test_mode=False)) == {}
    for index in range(9):
        (root / f"train/good/{index}.png").unlink()
    ((text, level),) = findings(open_dataset(root, "train", test_mode=False)).items()
    assert text.startswith("3 good images are few to fit on")
    assert level == "warning"
    assert findings(open_dataset(root, "train")) == {}


def test_lists_of_windows_in_any_case(root):
    touch(root, "test/good/1.png", "test/dent/2.png")
    (root / "TEST.TXT").write_bytes(
        b"test\\good\\1.png\r\ntest\\dent\\2 \r\ntest\\dent\\2.png dent\r\n"
    )
    (root / "test.csv").write_text("image,label\ntest\\dent\\2.png,dent\n")

    assert types(open_dataset(root, "TEST.TXT")) == {
        "test/good/1.png": "good",
        "test/dent/2.png": "dent",
    }
    assert types(open_dataset(root, "test.csv")) == {"test/dent/2.png": "dent"}
    touch(root, "test.xlsx")
    with pytest.raises(DataError, match=r"is a file but no list: lists end in \.txt"):
        open_dataset(root, "test.xlsx")
