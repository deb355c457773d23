from __future__ import annotations

import json
import logging
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmdet.datasets.transforms import PackDetInputs
from mmengine.config import Config

from aicore.config import load_config
from aicore.datasets import ClassBalancedSampler, LoadImage
from aicore.datasets.check import check_config, read_split
from aicore.detection.datasets import DetectionDataset
from aicore.detection.loading import LoadBoxes
from aicore.engine.hooks import DatasetCheckHook
from aicore.errors import ConfigError, DataError

REPOSITORY = Path(__file__).parents[2]
SIZE = (40, 60)  # height, width
REAL_DATA = os.environ.get("AICORE_REAL_DATA")


@pytest.fixture
def root(tmp_path) -> Path:
    """Three pictures in a COCO layout: two boxes, one to ignore, and none."""
    for name in "abc":
        picture(tmp_path / f"images/train/{name}.png", ord(name))
    write_coco(
        tmp_path,
        [
            annotation(1, 9, [10, 5, 20, 10]),
            annotation(1, 2, [30, 20, 10.5, 5]),
            annotation(2, 9, [0, 0, 60, 40], iscrowd=1),
        ],
    )
    return tmp_path


def picture(file: Path, grey: int = 90, size: tuple[int, int] = SIZE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((*size, 3), grey, np.uint8))


def annotation(image: int, category: int, box: list, **more) -> dict:
    return {"image_id": image, "category_id": category, "bbox": box, **more}


def write_coco(root: Path, annotations: list[dict], split: str = "train", **more) -> None:
    content = {
        "images": [
            {"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
            for number, name in enumerate("abc", start=1)
        ],
        "categories": [{"id": 9, "name": "spot"}, {"id": 2, "name": "scratch"}],
        "annotations": [{"id": i, **a} for i, a in enumerate(annotations, start=11)],
        **more,
    }
    file = root / f"annotations/{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def write_yolo(root: Path, **labels: str) -> None:
    """Writes ``labels/train/<name>.txt`` for the pictures of ``root``, and the classes."""
    (root / "labels/train").mkdir(parents=True, exist_ok=True)
    (root / "labels.txt").write_text("scratch\nspot\n")
    for name, text in labels.items():
        (root / f"labels/train/{name}.txt").write_text(text)


def open_dataset(root: Path, split: str = "train", **settings) -> DetectionDataset:
    # Packing the records collects all of python's garbage, which takes longer than a test.
    return DetectionDataset(split, str(root), **{"serialize_data": False, **settings})


def records(dataset: DetectionDataset) -> list[dict]:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def told(dataset: DetectionDataset, method: str) -> list[str]:
    """Returns the faults or notes of all records."""
    return [text for record in records(dataset) for text in getattr(dataset, method)(record)]


def config_of(root: Path, **settings) -> Config:
    dataset = dict(type="aicore.DetectionDataset", split="train", data_root=str(root), **settings)
    dataset["pipeline"] = []
    loader = {"dataset": dataset}
    return Config({"default_scope": "mmdet", "train_dataloader": loader})


# ---- records ----


def test_records(root):
    dataset = open_dataset(root, test_mode=True)

    assert dataset.metainfo["classes"] == ("scratch", "spot")  # by the ids, with a gap
    first, second, third = records(dataset)
    assert first == {
        "img_path": str(root / "images/train/a.png"),
        "img_id": 1,
        "height": 40,
        "width": 60,
        "instances": [
            {"bbox": [10, 5, 30, 15], "bbox_label": 1, "ignore_flag": 0},
            {"bbox": [30, 20, 40.5, 25], "bbox_label": 0, "ignore_flag": 0},
        ],
        "sample_idx": 0,
    }
    assert second["instances"] == [{"bbox": [0, 0, 60, 40], "bbox_label": 1, "ignore_flag": 1}]
    assert third["instances"] == []
    assert [dataset.labels_of(record) for record in (first, second, third)] == [[1, 0], [], []]
    assert told(dataset, "faults_of") == told(dataset, "notes_of") == []


def test_order_of_the_classes_that_are_asked_for(root):
    dataset = open_dataset(root, metainfo=dict(classes=("spot", "scratch")))

    assert dataset.labels_of(dataset.get_data_info(0)) == [0, 1]


def test_classes_alone(root):
    assert open_dataset(root, lazy_init=True).metainfo["classes"] == ("scratch", "spot")


def test_workers_get_packed_records(root):
    dataset = pickle.loads(pickle.dumps(open_dataset(root, serialize_data=True)))

    assert not dataset.data_list
    assert dataset.labels_of(dataset.get_data_info(0)) == [1, 0]
    assert len(dataset.get_subset([0, 1])) == 2


def test_samples(root):
    pipeline = [LoadImage(), LoadBoxes(), PackDetInputs(meta_keys=("img_id",))]
    dataset = open_dataset(root, pipeline=pipeline)

    boxes = [dataset[index]["data_samples"].gt_instances.bboxes for index in range(3)]

    assert boxes[0].tolist() == [[10, 5, 30, 15], [30, 20, 40.5, 25]]
    assert [len(found) for found in boxes] == [2, 0, 0]
    assert len(dataset[1]["data_samples"].ignored_instances) == 1


def test_the_sampler_balances_classes(root):
    sampler = ClassBalancedSampler(open_dataset(root), balance=1.0)

    assert sampler.weights.tolist() == [3, 1, 1]


def test_a_list_of_yolo(root):
    write_yolo(root, a="1 0.5 0.5 0.5 0.5\n", b="")
    (root / "all.txt").write_text("train/a\nimages/train/b.png\n")

    dataset = open_dataset(root, "all.txt", annotation_format="yolo", test_mode=True)

    first, second = records(dataset)
    assert first["instances"] == [{"bbox": [15, 10, 45, 30], "bbox_label": 1, "ignore_flag": 0}]
    assert (second["img_path"], second["instances"]) == (str(root / "images/train/b.png"), [])
    assert (first["img_id"], second["img_id"]) == (0, 1)


def test_an_image_without_a_file_of_its_own_is_noted(root):
    write_yolo(root, a="1 0.5 0.5 0.5 0.5\n", b="")

    dataset = open_dataset(root, annotation_format="yolo")

    assert told(dataset, "faults_of") == []
    assert told(dataset, "notes_of") == [
        f"no annotation file {root}/labels/train/c.txt: taken for an image without objects"
    ]


def test_data_yaml_and_another_order_of_classes(root):
    write_yolo(root, a="0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.2 0.2\n", b="", c="")

    dataset = open_dataset(
        root, annotation_format="yolo", metainfo=dict(classes=("spot", "scratch"))
    )

    assert dataset.labels_of(dataset.get_data_info(0)) == [1, 0]


# ---- mixing of samples ----


@pytest.mark.parametrize(
    ("epochs", "epoch", "mixed"), [(None, 99, True), (3, 2, True), (3, 3, False), (0, 0, False)]
)
def test_another_image_while_samples_are_mixed(root, epochs, epoch, mixed):
    dataset = open_dataset(root)
    dataset.mosaic_epochs, dataset.epoch = epochs, epoch

    assert ("draw_another" in dataset.get_data_info(0)) == mixed


def test_another_image_is_drawn_at_random_by_the_seed(root):
    dataset = open_dataset(root)
    draw = dataset.get_data_info(0)["draw_another"]

    def paths() -> list[str]:
        np.random.seed(0)
        return [Path(draw()["img_path"]).name for _ in range(20)]

    assert set(paths()) == {"a.png", "b.png", "c.png"}
    assert paths() == paths()
    assert "draw_another" not in draw()


def test_no_other_image_in_a_test(root):
    assert "draw_another" not in open_dataset(root, test_mode=True).get_data_info(0)


# ---- faults ----

FAULTS = [
    ([10, 5, 0, 10], "has no width or no height (x1 10, y1 5, x2 10, y2 15; image 60 x 40)"),
    ([10, 5, -4, 10], "is inverted: its right or bottom edge comes before its left or top one (x1"),
    ([70, 5, 4, 10], "lies wholly outside the image (x1 70"),
    ([10, 5, float("nan"), 10], "its box is [10, 5, nan, 10], expected four finite numbers"),
]


@pytest.mark.parametrize(("box", "fault"), FAULTS)
def test_a_faulty_box_stops(root, box, fault):
    write_coco(root, [annotation(1, 9, [10, 5, 20, 10]), annotation(2, 2, box)])
    dataset = open_dataset(root, pipeline=[LoadBoxes()])

    (found,) = told(dataset, "faults_of")

    place = f"{root}/annotations/train.json, annotation 12 (scratch): "
    assert found.startswith(place + fault)
    assert 'faults = "drop" in the config leaves such boxes out' in found
    assert dataset.labels_of(dataset.get_data_info(1)) == []
    with pytest.raises(DataError, match=r"annotation 12 \(scratch\): "):
        dataset[1]  # nor is it left out in silence where nobody checks


@pytest.mark.parametrize(("box", "fault"), FAULTS)
def test_a_faulty_box_is_dropped(root, box, fault):
    write_coco(root, [annotation(1, 9, [10, 5, 20, 10]), annotation(2, 2, box)])
    dataset = open_dataset(root, faults="drop", pipeline=[LoadBoxes()])

    (note,) = told(dataset, "notes_of")

    assert f"annotation 12 (scratch): {fault}" in note
    assert note.endswith("; left out")
    assert told(dataset, "faults_of") == []
    assert len(dataset[1]["gt_bboxes"]) == 0


def test_unknown_names(root):
    dataset = open_dataset(root, metainfo=dict(classes=("spot", "scratches")))

    (fault,) = told(dataset, "faults_of")

    assert "annotation 12 (scratch): class 'scratch' is not one of the classes spot, " in fault
    assert "Did you mean 'scratches'" in fault


def test_a_class_may_be_left_out(root):
    dataset = open_dataset(root, metainfo=dict(classes=("spot",)), faults="drop")

    assert [dataset.labels_of(record) for record in records(dataset)] == [[0], [], []]
    (note,) = told(dataset, "notes_of")
    assert note.endswith("class 'scratch' is not one of the classes spot; left out")


@pytest.mark.parametrize("test_mode", [False, True])
@pytest.mark.parametrize("faults", ["stop", "drop"])
def test_no_name_is_known(root, faults, test_mode):
    with pytest.raises(DataError) as caught:
        open_dataset(
            root, metainfo=dict(classes=("bolt", "nut")), faults=faults, test_mode=test_mode
        )

    assert "classes asked for, bolt, nut: the annotations have scratch, spot." in str(caught.value)


@pytest.mark.parametrize(
    ("outside", "noted"), [([-0.5, 0, 10, 10], False), ([-3, 0, 10, 10], True)]
)
def test_a_box_is_clipped(root, outside, noted):
    write_coco(root, [annotation(1, 9, outside)])
    dataset = open_dataset(root)

    (instance,) = dataset.get_data_info(0)["instances"]
    assert instance["bbox"] == [0, 0, outside[0] + 10, 10]
    assert told(dataset, "faults_of") == []
    notes = told(dataset, "notes_of")
    assert bool(notes) == noted
    if noted:
        assert "annotation 11 (spot): clipped, it reaches 3 pixels beyond the image" in notes[0]


def test_an_annotation_of_no_image(root):
    write_coco(root, [annotation(1, 9, [1, 2, 3, 4]), annotation(8, 9, [1, 2, 3, 4])])

    (fault,) = told(open_dataset(root), "faults_of")
    (note,) = told(open_dataset(root, faults="drop"), "notes_of")

    for text in (fault, note):
        assert "train.json, annotation 12: its image_id is not among the 3 images" in text


def test_a_file_that_cannot_be_read(root):
    write_yolo(root, a="1 0.5 0.5 0.5 0.5\n", b="", c="")
    (root / "labels/train/b.txt").write_bytes(b"\xff\xfe")

    (fault,) = told(open_dataset(root, annotation_format="yolo"), "faults_of")
    dropping = open_dataset(root, annotation_format="yolo", faults="drop")

    assert "labels/train/b.txt' is not a text file in UTF-8: " in fault
    assert [Path(record["img_path"]).name for record in records(dropping)] == ["a.png", "c.png"]
    (note,) = told(dropping, "notes_of")
    assert f"{root}/images/train/b.png: '{root}/labels/train/b.txt' is not a text file in" in note


@pytest.mark.parametrize("faults", ["stop", "drop"])
def test_an_image_of_another_size_than_annotated(root, faults):
    picture(root / "images/train/b.png", size=(20, 30))
    dataset = open_dataset(root, faults=faults)
    asked, other = ("faults_of", "notes_of") if faults == "stop" else ("notes_of", "faults_of")

    (found,) = told(dataset, asked)

    assert "for an image of 60 x 40 pixels (width x height), but the file has 30 x 20" in found
    assert told(dataset, other) == []


# ---- never a silent zero ----


def test_a_training_without_any_annotation(root):
    write_coco(root, [])

    with pytest.raises(DataError, match=r"train\.json: none of its 3 images has an annotation"):
        open_dataset(root)
    assert len(open_dataset(root, test_mode=True)) == 3


def test_all_boxes_are_dropped(root):
    write_coco(root, [annotation(1, 9, [1, 2, 0, 4])])

    with pytest.raises(DataError, match=r"all boxes were left out, .*annotation 11 \(spot\): has"):
        open_dataset(root, faults="drop")


def test_a_misspelt_place_of_annotations(root):
    write_yolo(root, a="")
    settings = dict(annotation_format="yolo", annotations="label/{path}.txt")

    for test_mode in (False, True):
        with pytest.raises(DataError, match=r"annotation file, e\.g\. '.*label/train/a\.txt' does"):
            open_dataset(root, test_mode=test_mode, **settings)


def test_good_images_alone_may_be_tested(root):
    write_yolo(root)

    assert len(open_dataset(root, annotation_format="yolo", test_mode=True)) == 3
    with pytest.raises(DataError, match="none of its 3 images has an annotation file"):
        open_dataset(root, annotation_format="yolo")


def test_no_images(root):
    write_coco(root, [], images=[])

    with pytest.raises(DataError, match="found 0 images"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"annotation_format": "ylo"}, "annotation_format is 'ylo'; .* Did you mean 'yolo'"),
        ({"faults": "ignore"}, "faults is 'ignore'; expected one of stop, drop"),
        ({"images": "{path}"}, r"images = '\{path\}': expected a path"),
    ],
)
def test_wrong_arguments(root, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        open_dataset(root, **settings)


# ---- checks ----


def check(dataset: DetectionDataset) -> None:
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset),
        val_loop=None,
        logger=logging.getLogger("detection check"),
    )
    DatasetCheckHook().before_train(runner)


def test_the_quick_check_stops_at_faults(root):
    write_coco(root, [annotation(1, 9, [1, 2, 0, 4]), annotation(1, 9, [1, 2, 3, 4])])

    with pytest.raises(DataError, match=r"Faults .* train \(1\): .*a\.png: .*annotation 11"):
        check(open_dataset(root))


def test_the_quick_check_warns_of_what_is_left_out(root, caplog):
    caplog.set_level(logging.INFO)
    write_coco(root, [annotation(1, 9, [1, 2, 0, 4]), annotation(1, 9, [1, 2, 3, 4])])

    check(open_dataset(root, faults="drop"))

    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "train: 3 images, scratch 0, spot 1, (no label) 2"
    assert "annotations of train, left out, clipped or odd (1): " in messages[1]
    assert "annotation 11 (spot): has no width" in messages[1]


def test_the_full_check_lists_what_is_left_out(root):
    write_coco(root, [annotation(1, 9, [1, 2, 0, 4]), annotation(1, 9, [1, 2, 3, 4])])

    stopping, dropping = (check_config(config_of(root, faults=f)) for f in ("stop", "drop"))

    (error,) = stopping.of_level("error")
    assert (error.text, len(error.cases)) == ("faults in the annotations: 1", 1)
    assert not dropping.of_level("error")
    warning = dropping.of_level("warning")[0]
    assert warning.text == "left out of the annotations, clipped, or odd: 1"
    assert "annotation 11 (spot): has no width" in warning.cases[0]


def test_images_that_are_not_there(root):
    (root / "images/train/b.png").unlink()

    split = read_split("train", open_dataset(root))

    assert list(split.missing_files()) == [str(root / "images/train/b.png")]


# ---- plausibility ----


def write_each(root: Path, kind: str, boxes: list[list[float]], **more) -> dict[str, str]:
    """Writes boxes (class, x1, y1, x2, y2) for a.png in a format; returns the settings for it.

    Args:
        root: Of the pictures in ``images/train``.
        kind: The format.
        boxes: Of the first picture; the others have none.
        **more: ``difficult`` marks the boxes as to be ignored.
    """
    ignored = more.get("difficult", 0)
    (root / "labels.txt").write_text("scratch\nspot\n")
    if kind == "coco":
        ids = {0: 2, 1: 9}
        annotations = [
            annotation(1, ids[label], [x1, y1, x2 - x1, y2 - y1], iscrowd=ignored)
            for label, x1, y1, x2, y2 in boxes
        ]
        write_coco(root, annotations)
        return {}
    names = ("scratch", "spot")
    for name in "abc":
        items = boxes if name == "a" else []
        file = root / f"notes/{name}"
        file.parent.mkdir(exist_ok=True)
        if kind == "yolo":
            lines = [
                f"{c} {(x1 + x2) / 120} {(y1 + y2) / 80} {(x2 - x1) / 60} {(y2 - y1) / 40}\n"
                for c, x1, y1, x2, y2 in items
            ]
            file.with_suffix(".txt").write_text("".join(lines))
        elif kind == "voc":
            objects = [
                f"<object><name>{names[c]}</name><difficult>{ignored}</difficult><bndbox>"
                f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
                "</object>"
                for c, x1, y1, x2, y2 in items
            ]
            file.with_suffix(".xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
        else:
            shapes = [
                {"label": "__ignore__" if ignored else names[c], "points": [[x1, y1], [x2, y2]]}
                for c, x1, y1, x2, y2 in items
            ]
            content = {"imagePath": f"{name}.png", "shapes": shapes}
            file.with_suffix(".json").write_text(json.dumps(content))
    suffix = {"yolo": "txt", "voc": "xml", "labelme": "json"}[kind]
    return dict(annotation_format=kind, images="images", annotations=f"notes/{{name}}.{suffix}")


def texts(dataset: DetectionDataset, level: str) -> list[str]:
    return [finding.text for finding in dataset.findings() if finding.level == level]


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "labelme"])
def test_what_is_implausible_in_every_format(root, kind):
    box = [1, 10, 5, 30, 15]
    settings = write_each(root, kind, [box, box, [0, 0, 0, 60, 40], [0, 3, 3, 3.5, 20]])

    dataset = open_dataset(root, input_size=(80, 120), **settings)

    assert told(dataset, "faults_of") == []
    first, second, third = texts(dataset, "warning")
    assert first.startswith("boxes narrower or lower than a pixel: 1 of 4")
    assert second == "boxes that cover their image: 1 of 4"
    assert third.startswith("boxes that stand twice or more: 1; remove")
    (note,) = texts(dataset, "note")
    assert note.endswith("in the network's input, 120 x 80, from 1 x 34 to 120 x 80")


@pytest.mark.parametrize("kind", ["coco", "voc", "labelme"])
def test_all_boxes_are_ignored(root, kind):
    settings = write_each(root, kind, [[1, 10, 5, 30, 15]], difficult="1")

    dataset = open_dataset(root, **settings)

    assert read_split("train", dataset).counts() == {"scratch": 0, "spot": 0, "(no label)": 3}
    (error,) = texts(dataset, "error")
    assert error.startswith("all 1 boxes are marked to be ignored")
    with pytest.raises(DataError, match="train: all 1 boxes are marked to be ignored"):
        check(dataset)
    (warning,) = texts(open_dataset(root, test_mode=True, **settings), "warning")
    assert warning.startswith("all 1 boxes are marked to be ignored")


def test_what_labelme_ignores_is_ignored_in_every_class(root):
    settings = write_each(root, "labelme", [[1, 10, 5, 30, 15]], difficult="1")

    instances = open_dataset(root, **settings).get_data_info(0)["instances"]

    assert [(i["bbox_label"], i["ignore_flag"]) for i in instances] == [(0, 1), (1, 1)]


@pytest.mark.parametrize("kind", ["coco", "voc", "labelme"])
def test_boxes_in_shares_of_the_image(root, kind):
    settings = write_each(root, kind, [[1, 0.2, 0.1, 0.5, 0.4], [0, 0.3, 0.3, 0.9, 0.8]])

    with pytest.raises(DataError, match=r"boxes narrower or lower than a pixel: 2 of 2; are they"):
        check(open_dataset(root, **settings))


@pytest.mark.parametrize("kind", ["voc", "labelme"])
def test_the_fault_of_a_file_is_told_and_not_its_consequence(root, kind):
    settings = write_each(root, kind, [])
    (root / "labels.txt").unlink()
    file = next((root / "notes").glob("a.*"))
    file.write_bytes(file.read_bytes() + "裂纹".encode("gbk"))

    with pytest.raises(DataError) as caught:
        open_dataset(root, **settings)

    assert (
        f"train: 1 of its 3 annotation files cannot be read: '{file}' is not a text file in"
        in str(caught.value)
    )


def test_objects_without_a_name_are_told(root):
    settings = write_each(root, "voc", [[1, 10, 5, 30, 15]])
    (root / "labels.txt").unlink()
    file = root / "notes/a.xml"
    file.write_text(file.read_text().replace("<name>spot</name>", ""))

    with pytest.raises(DataError, match=r"no annotation names a class; .*object 1: has no <name>"):
        open_dataset(root, **settings)


# ---- configs ----


@pytest.mark.parametrize(
    ("base", "files"),
    [
        ("detection", {}),
        (
            "voc_detection",
            {
                "labels.txt": "scratch\nspot\n",
                "ImageSets/Main/train.txt": "a\n",
                "JPEGImages/a.png": None,
                "Annotations/a.xml": "<annotation><object><name>spot</name><bndbox><xmin>1</xmin>"
                "<ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>",
            },
        ),
        (
            "yolo_detection",
            {"data.yaml": "names: [scratch, spot]", "labels/train/a.txt": "1 0.5 0.5 0.1 0.1\n"},
        ),
        (
            "labelme_detection",
            {
                "labels.txt": "scratch\nspot\n",
                "train/a.png": None,
                "train/a.json": json.dumps(
                    {
                        "imagePath": "a.png",
                        "shapes": [{"label": "spot", "points": [[1, 2], [3, 4]]}],
                    }
                ),
            },
        ),
    ],
)
def test_configs_of_own_data(root, tmp_path, base, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            picture(root / name)
        else:
            (root / name).write_text(text)
    file = tmp_path / "own.py"
    path = REPOSITORY / f"configs/_base_/datasets/{base}.py"
    of_the_model = "mosaic_scale = (0.5, 1.5)\nmixup = 0.0\n"
    lines = f"_base_ = {path.as_posix()!r}\ndata_root = {root.as_posix()!r}\n{of_the_model}"
    file.write_text(lines)

    config = load_config(file)

    assert config.classes == ("scratch", "spot")
    settings = config.train_dataloader.dataset
    for key in ("type", "pipeline"):
        settings.pop(key)
    dataset = DetectionDataset(**settings)
    assert dataset.labels_of(dataset.get_data_info(0))[0] == 1


# ---- real data ----


@pytest.mark.skipif(not REAL_DATA, reason="AICORE_REAL_DATA is not set")
def test_neu_det():
    dataset = open_dataset(
        Path(REAL_DATA) / "neu_det",
        "images",
        images="{split}",
        annotations="annotations/{path}.xml",
        annotation_format="voc",
    )
    split = read_split("train", dataset)

    # Without the 81 that are difficult.
    assert split.counts() == {
        "crazing": 689,
        "inclusion": 981,
        "patches": 875,
        "pitted_surface": 430,
        "rolled-in_scale": 608,
        "scratches": 525,
        "(no label)": 4,
    }
    assert not split.faulty()
    assert not split.missing_files()
    assert split.noted() == []  # 174 files name their image without its suffix


# ---- what is not taken ----

LABELLED = {
    "yolo": ("images", "labels/{path}.txt", "0 .5 .5 .2 .2\n"),
    "voc": (
        "JPEGImages",
        "Annotations/{path}.xml",
        "<annotation><object><name>spot</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>",
    ),
    "labelme": (
        "images",
        "images/{path}.json",
        json.dumps(
            {
                "imagePath": "1.png",
                "shapes": [
                    {"label": "spot", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
                ],
            }
        ),
    ),
}


def write_labelled(root: Path, kind: str, *names: str) -> dict:
    """Writes pictures with an annotation each; returns the settings that read them."""
    images, annotations, text = LABELLED[kind]
    for name in names:
        picture(root / images / f"{name}.png")
        file = root / annotations.format(path=name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "labels.txt").write_text("spot\n")
    return dict(annotation_format=kind, images=images, annotations=annotations)


def read_folder(root: Path, settings: dict, split: str = "train") -> DetectionDataset:
    return DetectionDataset(split, str(root), serialize_data=False, pipeline=[], **settings)


@pytest.mark.parametrize("kind", LABELLED)
def test_linked_folders_are_read_and_files_without_image_told(tmp_path, kind):
    settings = write_labelled(tmp_path, kind, "store/1", "train/2", "train/3", "val/4")
    images = tmp_path / settings["images"]
    (images / "train/lot").symlink_to(images / "store")
    annotations = tmp_path / settings["annotations"].format(path="train")
    folder = annotations.with_suffix("")
    if kind != "labelme":
        (folder / "lot").symlink_to(folder.parent / "store")
    (folder / f"3{annotations.suffix}").rename(folder / f"3_new{annotations.suffix}")
    (images / "train/5.gif").touch()

    dataset = read_folder(tmp_path, settings)

    names = [Path(dataset.get_data_info(i)["img_path"]).name for i in range(len(dataset))]
    assert names == ["2.png", "3.png", "1.png"]
    others, strays = dataset.findings()[:2]
    assert others.text.startswith("1 file is no image (.gif 1)")
    assert strays.level == "warning"
    assert strays.text.startswith("1 annotation file belongs to no image; images without one")
    assert strays.cases == [str(folder / f"3_new{annotations.suffix}")]
    texts = [finding.text for finding in read_folder(tmp_path, settings, "val").findings()]
    assert not any("no image" in text for text in texts)


@pytest.mark.parametrize("kind", LABELLED)
def test_lists_of_windows_in_any_case(tmp_path, kind):
    settings = write_labelled(tmp_path, kind, "train/1", "train/2")
    lines = f"{settings['images']}\\train\\1.png\r\n\r\ntrain\\2.png \r\n.\\train\\2\r\n"
    (tmp_path / "TRAIN.TXT").write_bytes(lines.encode())

    dataset = read_folder(tmp_path, settings, "TRAIN.TXT")

    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [Path(record["img_path"]).name for record in records] == ["1.png", "2.png", "2.png"]
    assert all(len(record["instances"]) == 1 for record in records)
    texts = [finding.text for finding in dataset.findings()]
    assert "images that are there twice, with the same label: 1" in texts


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("C:\\data\\1.png", r"train\.txt, line 1: .* is a path of another machine"),
        ("train/1.png\tspot", r"train\.txt, line 1: .* holds a tab"),
    ],
)
def test_a_line_that_names_no_image_of_this_machine(tmp_path, line, sentence):
    settings = write_labelled(tmp_path, "yolo", "train/1")
    (tmp_path / "train.txt").write_text(line)
    with pytest.raises(DataError, match=sentence):
        read_folder(tmp_path, settings, "train.txt")
    (tmp_path / "images/train.csv").touch()
    with pytest.raises(DataError, match=r"is a file but no list: lists end in \.txt"):
        read_folder(tmp_path, settings, "train.csv")


def test_images_that_the_annotations_do_not_name_are_told(root):
    picture(root / "images/train/d.png")
    (root / "images/train/e.gif").touch()

    pictures, unnamed = DetectionDataset("train", str(root), serialize_data=False).findings()[:2]

    assert pictures.text.startswith("1 file is no image (.gif 1)")
    assert (unnamed.level, unnamed.cases) == ("note", [str(root / "images/train/d.png")])
    assert unnamed.text == "images of the folder that the annotations do not name, left out: 1"
