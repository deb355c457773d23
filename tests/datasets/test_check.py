from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from aicore.datasets.base import InspectionDataset
from aicore.datasets.check import Problem, Report, check_config, read_split
from aicore.datasets.check.pictures import Picture, look_at
from aicore.datasets.check.similarity import connected, near_pairs
from aicore.datasets.findings import NOTE, Finding
from aicore.errors import ConfigError, DataError, ImageError
from aicore.registry import DATASETS
from aicore.runtime.images import write_image

SIDE = 96  # pixels


@DATASETS.register_module()
class ListedRecords(InspectionDataset):
    """Takes its records from the config: each a path and its labels."""

    def __init__(self, records: list, classes: tuple[str, ...], pipeline: list = (), **kwargs):
        self.listed = records
        super().__init__(metainfo=dict(classes=classes), pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict]:
        return [{"img_path": str(path), "labels": labels} for path, labels in self.listed]

    def labels_of(self, record: dict) -> list[int]:
        if record["labels"] is None:
            raise ImageError(record["img_path"] + ".mask.png", "no such file")
        return list(record["labels"])


def plate(seed: int) -> np.ndarray:
    """Returns a brushed plate: all alike from afar, the texture its own. SIDE x SIDE uint8."""
    generator = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(generator.normal(0, 60, (SIDE, SIDE)), (0, 0), 2)
    hole = cv2.circle(np.full((SIDE, SIDE), 150.0), (SIDE // 2, SIDE // 2), SIDE // 4, 60, -1)
    return np.clip(hole + texture + generator.normal(0, 2, hole.shape), 0, 255).astype(np.uint8)


def save(file: Path, image: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_image(file, image)
    return file


def config_of(classes: tuple[str, ...] = ("good", "dent"), **splits: list) -> Config:
    """Returns a config whose dataloaders hold ``ListedRecords`` of these records."""
    return Config(
        {
            "default_scope": "aicore",
            **{
                f"{name}_dataloader": {
                    "dataset": {
                        "type": "aicore.ListedRecords",
                        "classes": classes,
                        "records": records,
                        "pipeline": [{"type": "no such transform"}],
                    }
                }
                for name, records in splits.items()
            },
        }
    )


def found(report, level: str) -> list[str]:
    return [f"{problem.split}: {problem.text}" for problem in report.of_level(level)]


@pytest.fixture(scope="module")
def plates(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("plates")
    return [str(save(folder / f"{seed}.png", plate(seed))) for seed in range(24)]


def test_sound_data(plates):
    train = [(path, [index % 2]) for index, path in enumerate(plates[:16])]
    val = [(path, [index % 2]) for index, path in enumerate(plates[16:])]
    report = check_config(config_of(train=train, val=val, test=val))
    assert report.problems == []
    assert list(report.splits) == ["train", "val/test"]  # one data set, checked once
    assert report.splits["train"].images == 16
    assert report.splits["train"].counts == {"good": 8, "dent": 8}
    assert report.splits["train"].unreadable == 0
    assert report.splits["train"].label_shares == {"good": 0.5, "dent": 0.5}
    assert report.splits["train"].kinds == {"8-bit grey": 16}
    (values,) = report.splits["train"].grey_values.values()
    assert 0 <= values[0] < 60 < 150 < values[1] <= 255
    assert report.splits["train"].width == [SIDE] * 3
    assert "found 0 errors, 0 warnings, 0 notes" in report.text()


def test_sizes_and_kinds(tmp_path):
    images = [
        save(tmp_path / "a.png", np.full((10, 20), 99, np.uint8)),
        save(tmp_path / "b.png", np.full((30, 20, 3), 7, np.uint8)),
        save(tmp_path / "c.png", np.full((50, 60, 3), (1, 2, 3), np.uint8)),
        save(tmp_path / "d.tif", np.full((50, 60), 999, np.uint16)),
    ]
    report = check_config(config_of(train=[(path, [0, 1]) for path in images]))
    figures = report.splits["train"]
    assert (figures.width, figures.height) == ([20, 40, 60], [10, 40, 50])
    assert figures.sizes == 3
    # Grey stored as RGB counts as grey.
    assert figures.kinds == {"8-bit grey": 2, "8-bit colour": 1, "16-bit grey": 1}
    assert "3 sizes: width 20 / 40 / 60, height 10 / 40 / 50 (min / median / max)" in report.text()
    (warning,) = found(report, "warning")
    assert warning.startswith("train: images of 3 kinds (8-bit grey, 8-bit colour, 16-bit grey)")


def test_files_that_cannot_be_read(plates, tmp_path):
    empty, text, cut = tmp_path / "empty.png", tmp_path / "text.jpg", tmp_path / "cut.png"
    empty.touch()
    text.write_text("not a picture")
    cut.write_bytes(Path(plates[0]).read_bytes()[:500])
    bad = [tmp_path / "none.png", empty, text, cut]
    report = check_config(config_of(train=[(path, [0, 1]) for path in [*plates[:4], *bad]]))
    missing, unreadable = report.of_level("error")
    assert missing.text == "image files that are missing or empty: 2 of 8"
    assert [case.split(":")[0] for case in missing.cases] == [str(bad[0]), str(empty)]
    assert unreadable.text == "image files that cannot be read: 2 of 8"
    assert [case.split(":")[0] for case in unreadable.cases] == [str(text), str(cut)]
    assert report.splits["train"].kinds == {"8-bit grey": 4}
    assert report.splits["train"].unreadable == 4
    assert ["not", "readable", "4"] in [line.split() for line in report.text().splitlines()]


def test_not_one_image_can_be_read(tmp_path):
    report = check_config(config_of(train=[(tmp_path / "none.png", [0, 1])]))
    assert len(report.of_level("error")) == 1
    assert "train: no image could be read" in report.text()


def test_faulty_annotations(plates):
    records = [(plates[0], [0, 5]), (plates[1], [-1]), (plates[2], None), (plates[3], [1])]
    (error,) = check_config(config_of(train=records)).of_level("error")
    assert error.text == "faults in the annotations: 3"
    assert error.cases[0] == f"{plates[0]}: label 5 is outside 0..1 (2 classes)"
    assert error.cases[1] == f"{plates[1]}: label -1 is outside 0..1 (2 classes)"
    assert "mask.png: no such file" in error.cases[2]


def test_counts_of_classes(plates):
    labels = [[0, 0, 0]] * 4 + [[1]] + [[]]
    report = check_config(
        config_of(("good", "dent", "rust"), train=list(zip(plates, labels, strict=False)))
    )
    assert report.splits["train"].counts == {"good": 12, "dent": 1, "rust": 0, "(no label)": 1}
    (warning,) = report.of_level("warning")
    assert (warning.text, warning.cases) == ("classes without a label: 1 of 3", ["rust"])
    assert found(report, "note") == ["train: 12 times as many labels of good (12) as of dent (1)"]


def test_a_class_that_is_not_expected_is_not_missed(plates, monkeypatch):
    monkeypatch.setattr(ListedRecords, "expected_labels", lambda self: [0])
    report = check_config(config_of(train=[(path, [0]) for path in plates[:3]]))
    assert report.problems == []


def test_data_without_labels_is_a_note_only(plates):
    report = check_config(config_of(test=[(path, []) for path in plates[:3]]))
    assert [problem.level for problem in report.problems] == ["note"]
    assert found(report, "note") == ["test: no image has a label"]


def test_same_image_in_two_splits(plates, tmp_path):
    copy = save(tmp_path / "copy.bmp", cv2.imread(plates[0]))  # grey as RGB, another format
    train = [(path, [0, 1]) for path in plates[:8]]
    val = [(copy, [0, 1]), (plates[1], [0, 1]), (plates[9], [0, 1])]
    report = check_config(config_of(train=train, val=val))
    (error,) = report.of_level("error")
    assert (error.split, len(error.cases)) == ("train, val", 2)
    assert error.cases[0] == f"{plates[0]} (dent, good) = {copy} (dent, good)"
    assert report.of_level("warning") == []


def test_same_image_in_val_and_test_is_a_warning(plates):
    val = [(path, [0, 1]) for path in plates[:4]]
    test = [(path, [0, 1]) for path in plates[3:7]]
    report = check_config(config_of(val=val, test=test))
    assert [problem.level for problem in report.problems] == ["warning"]
    assert report.problems[0].split == "val, test"


def test_train_and_val_of_one_data_set_are_an_error(plates):
    records = [(path, [0, 1]) for path in plates[:4]]
    report = check_config(config_of(train=records, val=records))
    assert found(report, "error") == [
        "train/val: are one data set, so the validation tells nothing"
    ]


def test_repetitions_in_a_split(plates):
    records = [(path, [index % 2]) for index, path in enumerate(plates[:6])]
    report = check_config(config_of(train=[*records, (plates[0], [0]), (plates[1], [0])]))
    (error,) = found(report, "error")
    (note,) = found(report, "note")
    assert error == "train: images that repeat another one, the same pixels, with another label: 1"
    assert note == "train: images that repeat another one, the same pixels, with the same label: 1"


def test_nearly_the_same_image(plates, tmp_path):
    shot = cv2.imread(plates[0], cv2.IMREAD_GRAYSCALE)
    small = save(tmp_path / "small.jpg", cv2.resize(shot, None, fx=0.5, fy=0.5))
    bright = save(tmp_path / "bright.jpg", cv2.convertScaleAbs(shot, alpha=0.9, beta=20))
    train = [(path, [0]) for path in plates[:20]]
    report = check_config(config_of(("good",), train=train, val=[(small, [0]), (bright, [0])]))
    assert report.of_level("error") == []
    (warning,) = report.of_level("warning")
    assert warning.text == "images of val that are nearly the same as one of train: 2"
    assert warning.cases == [f"{plates[0]} (good) ~ {path} (good)" for path in (small, bright)]
    (note,) = found(report, "note")
    assert note.startswith("val: images that are nearly the same as another one, with the same")


def test_a_split_with_few_images(plates):
    train = [(path, [0, 1]) for path in [*plates[:22]]]
    report = check_config(config_of(train=train, val=[(plates[22], [0, 1])]))
    (warning,) = found(report, "warning")
    assert warning.startswith("val: few images (1) beside 22 of train: one of them is worth 100.0")


def test_a_hundred_images_are_not_few_beside_any_number(plates, monkeypatch):
    monkeypatch.setattr("aicore.datasets.check.full._ENOUGH", 1)
    train = [(path, [0, 1]) for path in [*plates[:22]]]
    report = check_config(config_of(train=train, val=[(plates[22], [0, 1])]))
    assert found(report, "warning") == []


def test_a_split_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    for seed, name in enumerate(("good", "dent")):
        save(tmp_path / "train" / name / "a.png", plate(seed))
    loader = {
        "dataset": {"type": "aicore.ClassificationDataset", "data_root": str(tmp_path)},
    }
    config = Config({"default_scope": "mmpretrain", "train_dataloader": loader})
    config.val_dataloader = {"dataset": {**loader["dataset"], "split": "vall"}}
    config.train_dataloader.dataset.split = "train"
    report = check_config(config)
    (error,) = found(report, "error")
    assert error.startswith("val: cannot be read: ")
    assert "vall' does not exist" in error
    assert report.splits["train"].images == 2


def test_splits_with_other_classes_are_an_error(plates):
    config = config_of(train=[(plates[0], [0])])
    config.val_dataloader = config_of(("dent", "good"), val=[(plates[1], [0])]).val_dataloader
    (error,) = check_config(config).of_level("error")
    assert "have different classes" in error.text
    assert error.cases == ["train: good, dent", "val: dent, good"]


def test_wrapped_data_sets_are_read_once(plates):
    parts = [
        config_of(train=[(path, [0, 1])]).train_dataloader.dataset.to_dict() for path in plates[:2]
    ]
    repeated = {"type": "RepeatDataset", "times": 3, "dataset": parts[0]}
    wrapped = {"type": "ConcatDataset", "datasets": [repeated, parts[1]]}
    config = Config({"default_scope": "aicore", "train_dataloader": {"dataset": wrapped}})
    report = check_config(config)
    assert (report.splits["train"].images, report.problems) == (2, [])


def test_parts_of_a_split_with_other_classes_are_named(plates):
    parts = [
        ListedRecords([(plates[0], [0])], classes=classes)
        for classes in (("good", "dent"), ("dent", "good"))
    ]
    with pytest.raises(DataError, match="different classes: good, dent and dent, good"):
        read_split("train", SimpleNamespace(datasets=parts))


def test_a_config_without_data():
    with pytest.raises(ConfigError, match="has no data to check"):
        check_config(Config({"train_dataloader": None}))


def test_a_foreign_data_set_is_named():
    with pytest.raises(DataError, match="list is not a data set of aicore"):
        read_split("train", [])


def test_the_report_shows_five_cases_and_the_json_all(plates, tmp_path):
    records = [(path, [9]) for path in plates[:8]]
    report = check_config(config_of(train=records))
    assert report.text().count("label 9 is outside") == 5
    assert "and 3 more" in report.text()
    report.write(tmp_path / "new" / "dataset_check.json")
    content = json.loads((tmp_path / "new" / "dataset_check.json").read_text(encoding="utf-8"))
    assert content["error"] == 1
    assert content["splits"]["train"]["images"] == 8
    assert len(content["problems"][0]["cases"]) == 8
    odd = Report("caf\udce9.py", {}, [Problem("note", "train", "a name", ["caf\udce9.png"])])
    odd.write(tmp_path / "odd.json")
    content = json.loads((tmp_path / "odd.json").read_text(encoding="utf-8"))
    assert content["problems"][0]["cases"] == ["caf\udce9.png"]  # no name is too odd for it
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        report.write(tmp_path / "file" / "dataset_check.json")


def test_names_of_any_characters_are_reported(tmp_path):
    names = ["a\udcff.png", "b\n.png", "c\x1b[31m.png"]  # the first is not UTF-8
    report = check_config(config_of(train=[(tmp_path / name, [0, 1]) for name in names]))
    lines = report.text().splitlines()
    assert len([line for line in lines if ".png: no such file" in line]) == 3
    report.write(tmp_path / "check.json")
    content = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    cases = content["problems"][0]["cases"]
    assert [case.split(": ")[0] for case in cases] == [str(tmp_path / name) for name in names]


def test_thumbnail_is_normalised_and_does_not_see_brightness(tmp_path):
    dark = look_at(str(save(tmp_path / "a.png", plate(0) // 2)))
    deep = look_at(str(save(tmp_path / "b.png", (plate(0) // 2).astype(np.uint16) * 200 + 31)))
    flat = look_at(str(save(tmp_path / "c.png", np.full((SIDE, SIDE), 9, np.uint8))))
    assert isinstance(dark, Picture)
    assert isinstance(deep, Picture)
    assert isinstance(flat, Picture)
    assert dark.thumbnail.sum() == pytest.approx(0, abs=1e-4)
    assert dark.thumbnail @ dark.thumbnail == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(deep.thumbnail, dark.thumbnail, atol=1e-5)
    assert not flat.thumbnail.any()
    assert dark.digest != deep.digest


def normalised(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(axis=1, keepdims=True)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def thumbnails(images: list[np.ndarray]) -> np.ndarray:
    shape = (32, 32)
    small = [cv2.resize(i.astype(np.float32), shape, interpolation=cv2.INTER_AREA) for i in images]
    return normalised(np.stack(small).reshape(len(small), -1))


@pytest.mark.parametrize("texture", [2, 6, 20])
def test_parts_alike_in_a_fixture_are_no_pairs_but_their_copies_are(texture):
    generator = np.random.default_rng(texture)
    part = cv2.circle(np.full((256, 256), 40.0), (128, 128), 90, 160.0, -1)

    def shot() -> np.ndarray:
        grain = cv2.GaussianBlur(generator.normal(0, 1, part.shape), (0, 0), 2)
        shift = np.float32([[1, 0, *generator.uniform(-1, 1, 1)], [0, 1, generator.uniform(-1, 1)]])
        moved = cv2.warpAffine(part + texture * grain / grain.std(), shift, part.shape)
        light = 1 + generator.uniform(-0.1, 0.1) * np.linspace(-1, 1, 256)
        return np.clip(moved * light + generator.normal(0, 1, part.shape), 0, 255).astype(np.uint8)

    shots = [shot() for _ in range(60)]
    rows = thumbnails(shots)
    assert (rows @ rows.T).min() > 0.9  # a threshold on this would call them all the same
    assert near_pairs(rows) == []
    copies = [
        cv2.imdecode(cv2.imencode(".jpg", shots[0], [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 0),
        cv2.resize(shots[1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        cv2.convertScaleAbs(shots[2], alpha=0.9, beta=10),
    ]
    assert near_pairs(thumbnails(shots + copies)) == [(0, 60), (1, 61), (2, 62)]


def test_pairs_are_found_among_thousands_in_seconds():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(3000, 1024))
    rows[2990:] = rows[:10] + 0.1 * generator.normal(size=(10, 1024))
    assert near_pairs(normalised(rows)) == [(i, 2990 + i) for i in range(10)]


def test_images_without_contrast_and_tiny_sets_have_no_pairs():
    assert near_pairs(np.zeros((5, 1024), np.float32)) == []
    two = thumbnails([plate(0), plate(0)])
    assert near_pairs(two) == []


def test_connected_groups():
    assert connected(7, [(0, 3), (5, 6), (3, 2)]) == [[0, 2, 3], [5, 6]]
    assert connected(3, []) == []


def test_what_a_data_set_says_of_itself_is_reported(plates, monkeypatch):
    finding = Finding(NOTE, "6 files are no images", ("a.gif",))
    monkeypatch.setattr(ListedRecords, "findings", lambda self: [finding])
    report = check_config(config_of(train=[(plates[0], [0]), (plates[1], [1])]))
    assert "train: 6 files are no images" in found(report, "note")
    assert next(p.cases for p in report.of_level("note") if "6 files" in p.text) == ["a.gif"]
