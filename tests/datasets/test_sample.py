from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from aicore.datasets.sample import CLASSES, DEFECTS, draw_part, make_sample
from aicore.datasets.sample.layouts import split_indices
from aicore.datasets.sample.part import class_of
from aicore.errors import DataError

ROOT = Path(__file__).parents[2]
IMAGES = 40


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def tight_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = columns[0], rows[0]
    return [int(value) for value in (left, top, columns[-1] - left + 1, rows[-1] - top + 1)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A space in the path, since list files are split at their last blank.
    return make_sample(tmp_path_factory.mktemp("sample") / "my data", images=IMAGES, size=96)


class TestDrawPart:
    def test_same_arguments_same_picture_in_any_order(self):
        first = [draw_part(3, index, 64) for index in range(5)]
        for index in (4, 1, 3):
            again = draw_part(3, index, 64)
            np.testing.assert_array_equal(again.image, first[index].image)
            np.testing.assert_array_equal(again.masks, first[index].masks)

    def test_seed_and_index_change_the_scene(self):
        # Far more than the camera's noise of about two grey levels.
        part = draw_part(0, 0, 64, channels=1).image.astype(float)
        for other in (draw_part(1, 0, 64, channels=1), draw_part(0, 2, 64, channels=1)):
            assert np.abs(part - other.image).mean() > 3

    @pytest.mark.parametrize("size", [64, 128, 300])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_shapes(self, size, channels):
        part = draw_part(0, 1, size, channels)
        assert part.image.shape == ((size, size) if channels == 1 else (size, size, 3))
        assert part.image.dtype == part.masks.dtype == np.uint8
        assert part.masks.shape[1:] == part.mask.shape == (size, size)

    def test_grey_is_the_colour_picture_in_grey(self):
        colour, grey = draw_part(0, 1, 64, channels=3), draw_part(0, 1, 64, channels=1)
        np.testing.assert_array_equal(cv2.cvtColor(colour.image, cv2.COLOR_BGR2GRAY), grey.image)

    @pytest.mark.parametrize("label", CLASSES)
    def test_another_size_shows_the_same_scene(self, label):
        small = draw_part(0, 7, 64, channels=1, label=label)
        large = draw_part(0, 7, 512, channels=1, label=label)
        reduced = cv2.resize(large.image, (64, 64), interpolation=cv2.INTER_AREA)
        assert np.abs(reduced.astype(float) - small.image).mean() < 5
        assert len(small.masks) == len(large.masks)
        np.testing.assert_allclose(small.boxes, large.boxes / 8, atol=1.5)

    @pytest.mark.parametrize("index", range(10))
    def test_good_part_has_no_mask(self, index):
        part = draw_part(0, index, 64, label="good")
        assert part.masks.shape == (0, 64, 64)
        assert part.boxes.shape == (0, 4)
        assert part.mask.shape == (64, 64)
        assert not part.mask.any()

    @pytest.mark.parametrize("label", DEFECTS)
    def test_masks_and_boxes_agree(self, label):
        counts = []
        for index in range(40):
            part = draw_part(0, index, 64, label=label)
            assert part.label == label
            assert set(np.unique(part.masks)) == {0, 255}
            assert part.boxes.tolist() == [tight_box(mask) for mask in part.masks]
            # No pixel belongs to two defects, and together they are the mask.
            np.testing.assert_array_equal(part.masks.sum(axis=0, dtype=int), part.mask)
            counts.append(len(part.masks))
        assert set(counts) == {1, 2, 3}

    @pytest.mark.parametrize("label", DEFECTS)
    @pytest.mark.parametrize("size", [64, 128])
    def test_defect_changes_its_pixels_and_no_others(self, label, size):
        for index in range(25):
            part = draw_part(0, index, size, channels=1, label=label)
            good = draw_part(0, index, size, channels=1, label="good")
            change = cv2.absdiff(part.image, good.image)
            for mask in part.masks:
                assert change[mask > 0].mean() > 5
            # The lens blurs a defect by a fraction of a pixel, no further.
            around = cv2.dilate(part.mask, np.ones((5, 5), np.uint8))
            assert change[around == 0].max() == 0

    def test_scratches_of_another_width_lie_in_the_same_places(self):
        for index in range(10):
            thin = draw_part(0, index, 128, label="scratch")
            wide = draw_part(0, index, 128, label="scratch", scratch_width=3)
            assert len(thin.masks) == len(wide.masks)
            assert not np.any((thin.mask > 0) & (wide.mask == 0))
            assert np.count_nonzero(wide.mask) > 2 * np.count_nonzero(thin.mask)
            assert wide.boxes[:, 2:].min() >= 6

    @pytest.mark.parametrize("label", ["good", "spot", "dent"])
    def test_the_width_of_scratches_changes_nothing_else(self, label):
        usual, other = (draw_part(0, 3, 64, label=label, scratch_width=f) for f in (1, 3))
        np.testing.assert_array_equal(usual.image, other.image)

    def test_no_class_is_told_by_the_mean_brightness(self):
        means = {
            label: [draw_part(0, i, 64, channels=1, label=label).image.mean() for i in range(40)]
            for label in CLASSES
        }
        spread = np.std(means["good"])
        for label in DEFECTS:
            assert abs(np.mean(means[label]) - np.mean(means["good"])) < spread

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"seed": -1}, "seed -1"),
            ({"index": -2}, "index -2"),
            ({"size": 63}, "size 63 is out of range; give 64 to 2048"),
            ({"size": 4096}, "size 4096"),
            ({"channels": 2}, "channels is 2"),
            ({"label": "Scrach"}, "Did you mean 'scratch'"),
            ({"scratch_width": 0.1}, "scratch_width 0.1 is out of range; give 0.5 to 5.0 times"),
        ],
    )
    def test_bad_argument(self, arguments, message):
        with pytest.raises(DataError, match=message):
            draw_part(**{"seed": 0, "index": 0, **arguments})


class TestSplit:
    def test_stratified(self):
        splits = split_indices(400, 0.2)
        labels = {
            split: [class_of(index) for index in indices] for split, indices in splits.items()
        }
        assert {label: labels["val"].count(label) for label in CLASSES} == {
            "good": 32,
            "scratch": 16,
            "spot": 16,
            "dent": 16,
        }
        assert labels["train"].count("good") == 128
        assert sorted(splits["train"] + splits["val"]) == list(range(400))

    def test_more_images_move_none(self):
        few, many = split_indices(60, 0.3), split_indices(200, 0.3)
        for split in few:
            assert few[split] == [index for index in many[split] if index < 60]

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 7.0, float("nan")])
    def test_share_out_of_range(self, share):
        with pytest.raises(DataError, match="val_share is"):
            split_indices(400, share)

    @pytest.mark.parametrize(("images", "share"), [(0, 0.2), (-5, 0.2), (10, 0.2), (40, 0.05)])
    def test_too_few_images(self, images, share):
        with pytest.raises(DataError, match=r"leave no picture of .* in (train|val)"):
            split_indices(images, share)


class TestLayouts:
    def test_classification_folders_and_lists(self, sample):
        root = sample / "classification"
        assert (root / "labels.txt").read_text().split() == list(CLASSES)
        seen = set()
        for split in ("train", "val"):
            lines = (root / f"{split}.txt").read_text().splitlines()
            listed = dict(line.rsplit(maxsplit=1) for line in lines)
            on_disk = {
                path.relative_to(root).as_posix(): path.parent.name
                for path in (root / split).rglob("*.png")
            }
            assert listed == on_disk
            assert set(listed.values()) == set(CLASSES)
            for path, label in listed.items():
                part = draw_part(0, index_of(path), 96)
                assert part.label == label
                np.testing.assert_array_equal(read(root / path), part.image)
            seen |= {Path(path).name for path in listed}
        assert len(seen) == IMAGES

    def test_train_and_val_share_no_picture(self, sample):
        for root in (sample / "classification", sample / "detection/images"):
            contents = [
                {path.read_bytes() for path in (root / split).rglob("*.png")}
                for split in ("train", "val")
            ]
            assert sum(map(len, contents)) == IMAGES
            assert not contents[0] & contents[1]

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_coco(self, sample, split):
        root = sample / "detection"
        coco = json.loads((root / f"annotations/{split}.json").read_text())
        assert [item["name"] for item in coco["categories"]] == list(DEFECTS)
        assert [item["id"] for item in coco["categories"]] == [1, 2, 3]
        names = {path.name for path in (root / "images" / split).iterdir()}
        assert {image["file_name"] for image in coco["images"]} == names
        ids = [item["id"] for item in coco["annotations"]]
        assert ids == list(range(1, len(ids) + 1))
        for image in coco["images"]:
            assert (image["width"], image["height"]) == (96, 96)
            part = draw_part(0, index_of(image["file_name"]), 96)
            found = [item for item in coco["annotations"] if item["image_id"] == image["id"]]
            assert [item["bbox"] for item in found] == [tight_box(mask) for mask in part.masks]
            assert [item["area"] for item in found] == [int((m > 0).sum()) for m in part.masks]
            assert all(item["iscrowd"] == 0 for item in found)
            assert all(DEFECTS[item["category_id"] - 1] == part.label for item in found)

    def test_coco_as_pycocotools_reads_it(self, sample):
        coco_module = pytest.importorskip("pycocotools.coco")
        coco = coco_module.COCO(str(sample / "detection/annotations/val.json"))
        for image in coco.loadImgs(coco.getImgIds()):
            part = draw_part(0, index_of(image["file_name"]), 96)
            annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
            assert len(annotations) == len(part.masks)
            for annotation, mask in zip(annotations, part.masks, strict=True):
                np.testing.assert_array_equal(coco.annToMask(annotation), mask > 0)

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_segmentation_masks_hold_class_ids(self, sample, split):
        root = sample / "segmentation"
        labels = (root / "labels.txt").read_text().split()
        assert labels == ["background", *DEFECTS]
        pictures = sorted((root / "images" / split).iterdir())
        masks = sorted((root / "masks" / split).iterdir())
        assert [path.name for path in pictures] == [path.name for path in masks]
        for picture, mask in zip(pictures, masks, strict=True):
            part = draw_part(0, index_of(picture.name), 96)
            np.testing.assert_array_equal(read(picture), part.image)
            number = 0 if part.label == "good" else labels.index(part.label)
            np.testing.assert_array_equal(read(mask), (part.mask > 0) * number)

    def test_anomaly(self, sample):
        root = sample / "anomaly/machined_part"
        assert [path.name for path in (root / "train").iterdir()] == ["good"]
        assert {path.name for path in (root / "test").iterdir()} == set(CLASSES)
        assert {path.name for path in (root / "ground_truth").iterdir()} == set(DEFECTS)
        good = [path.name for path in root.glob("*/good/*.png")]
        assert len(good) == len(set(good)) == IMAGES * 2 // 5
        for label in DEFECTS:
            pictures = sorted((root / "test" / label).iterdir())
            assert len(pictures) == IMAGES // 5
            for picture in pictures:
                mask = read(root / "ground_truth" / label / f"{picture.stem}_mask.png")
                part = draw_part(0, index_of(picture.name), 96)
                np.testing.assert_array_equal(mask, part.mask)
                np.testing.assert_array_equal(read(picture), part.image)


def index_of(path: str) -> int:
    return int(Path(path).stem.removeprefix("part_"))


class TestMakeSample:
    def test_same_bytes_twice(self, tmp_path):
        first = files_of(make_sample(tmp_path / "a", images=25, size=64, channels=1))
        assert files_of(make_sample(tmp_path / "b", images=25, size=64, channels=1)) == first
        picture = read(tmp_path / "a/classification/train/good/part_00000.png")
        assert picture.shape == (64, 64)

    def test_done_already(self, tmp_path, capsys):
        make_sample(tmp_path / "a", images=25, size=64)
        picture = tmp_path / "a/classification/train/good/part_00000.png"
        picture.write_bytes(b"mine")
        capsys.readouterr()
        assert make_sample(tmp_path / "a", images=25, size=64) == tmp_path / "a"
        assert "already holds this sample" in capsys.readouterr().out
        assert picture.read_bytes() == b"mine"

    def test_other_settings(self, tmp_path):
        make_sample(tmp_path / "a", images=25, size=64)
        before = files_of(tmp_path / "a")
        with pytest.raises(DataError, match=r"other settings .*size: 64, asked 96"):
            make_sample(tmp_path / "a", images=25, size=96)
        with pytest.raises(DataError, match=r"other settings .*scratch_width: 1.0, asked 2"):
            make_sample(tmp_path / "a", images=25, size=64, scratch_width=2)
        assert files_of(tmp_path / "a") == before

    def test_settings_of_an_older_version_are_completed(self, tmp_path, capsys):
        file = make_sample(tmp_path / "a", images=25, size=64) / "sample.json"
        settings = json.loads(file.read_text())
        del settings["scratch_width"]
        file.write_text(json.dumps(settings))
        make_sample(tmp_path / "a", images=25, size=64)
        assert "already holds this sample" in capsys.readouterr().out

    def test_foreign_folder(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(DataError, match=r"holds other files and no sample\.json"):
            make_sample(tmp_path, images=25, size=64)
        assert files_of(tmp_path) == {"notes.txt": b"mine"}

    @pytest.mark.parametrize("content", ["no json", "[1]"])
    def test_foreign_settings_file(self, tmp_path, content):
        (tmp_path / "sample.json").write_text(content)
        with pytest.raises(DataError, match="not a settings file of the sample data"):
            make_sample(tmp_path, images=25, size=64)

    def test_file_in_the_way(self, tmp_path):
        (tmp_path / "a").write_text("mine")
        with pytest.raises(DataError, match="is a file"):
            make_sample(tmp_path / "a", images=25, size=64)
        with pytest.raises(DataError, match="Cannot write the sample data"):
            make_sample(tmp_path / "a" / "b", images=25, size=64)

    def test_interrupted_run_is_written_anew(self, tmp_path, monkeypatch):
        drawn = []

        def draw_ten(*arguments, **settings):
            drawn.append(arguments)
            if len(drawn) > 10:
                raise KeyboardInterrupt
            return draw_part(*arguments, **settings)

        with monkeypatch.context() as patch:
            patch.setattr("aicore.datasets.sample.layouts.draw_part", draw_ten)
            with pytest.raises(KeyboardInterrupt):
                make_sample(tmp_path / "a", images=25, size=64)
        assert not (tmp_path / "a/sample.json").exists()
        with pytest.raises(DataError, match="other settings"):
            make_sample(tmp_path / "a", images=30, size=64)
        make_sample(tmp_path / "a", images=25, size=64)
        make_sample(tmp_path / "b", images=25, size=64)
        assert files_of(tmp_path / "a") == files_of(tmp_path / "b")

    def test_two_processes_at_once(self, tmp_path):
        fork = multiprocessing.get_context("fork")
        settings = dict(images=25, size=64)
        processes = [
            fork.Process(target=make_sample, args=(tmp_path / "a",), kwargs=settings)
            for _ in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        assert files_of(tmp_path / "a") == files_of(make_sample(tmp_path / "b", **settings))

    def test_bad_setting_leaves_no_folder(self, tmp_path):
        wrong = ({"size": 10}, {"channels": 4}, {"val_share": 2.0}, {"images": 3})
        for settings in (*wrong, {"scratch_width": 9}):
            with pytest.raises(DataError, match=next(iter(settings))):
                make_sample(tmp_path / "a", **settings)
        assert not (tmp_path / "a").exists()


class TestCommand:
    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = str(ROOT / "tools/data/make_sample.py")
        return subprocess.run(
            [sys.executable, script, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_writes(self, tmp_path):
        out = tmp_path / "out"
        done = self.command(str(out), "--images", "25", "--size", "64", "--channels", "1")
        assert done.returncode == 0, done.stderr
        assert str(out) in done.stdout
        assert done.stderr == ""
        settings = json.loads((out / "sample.json").read_text())
        assert settings["images"] == 25
        assert settings["channels"] == 1
        assert len(list((out / "classification").rglob("*.png"))) == 25

    def test_mistake_is_one_sentence(self, tmp_path):
        done = self.command(str(tmp_path / "out"), "--size", "10")
        assert done.returncode == 1
        assert "size 10 is out of range" in done.stderr
        assert "Traceback" not in done.stderr
