from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from aicore.detection.annotations import FORMATS, Layout, coco, labelme
from aicore.detection.convert import convert_boxes
from aicore.detection.datasets import DetectionDataset
from aicore.errors import DataError

SIZE = (37, 61)  # height, width; no round shares
NAMES = ("b/1.jpg", "2.png", "empty.png")


@pytest.fixture
def root(tmp_path) -> Path:
    """Three images, with boxes at fractions of pixels, at the border, and one pixel wide."""
    for name in NAMES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((*SIZE, 3), np.uint8))
    generator = np.random.default_rng(0)
    corners = np.sort(generator.uniform(0, 1, (8, 2, 2)), axis=1) * SIZE[::-1]
    boxes = [[*low, *(high - low)] for low, high in corners]
    boxes += [[0, 0, 61, 37], [10, 5, 1, 20], [10.25, 5, 0.5, 0.5]]
    write_coco(tmp_path, [(number % 2, 4 + number % 3, box) for number, box in enumerate(boxes)])
    return tmp_path


def write_coco(root: Path, annotations: list[tuple], **more) -> None:
    content = {
        "images": [
            {"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for index, name in enumerate(NAMES)
        ],
        "categories": [{"id": 6 - i, "name": name} for i, name in enumerate(("spot", "a b", "裂"))],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, **more}
            for number, (image, category, box) in enumerate(annotations, start=1)
        ],
    }
    (root / "train.json").write_text(json.dumps(content))


def from_coco(root: Path, target: str, **settings):
    annotations = coco.read_file(root / "train.json", root / "images")
    out = root / f"as {target}"
    return *convert_boxes(annotations, target, root / "images", out, "train", **settings), out


def again(settings: dict[str, str], target: str, out: Path, **more):
    """Converts what a conversion wrote."""
    usual = FORMATS[settings["annotation_format"]]
    layout = Layout(
        Path(settings["data_root"]), settings["train"], settings["images"], settings["annotations"]
    )
    images = Path(settings["images"])
    return convert_boxes(usual.read(layout), target, images, out, "train", **more)


def open_result(settings: dict[str, str], **more) -> DetectionDataset:
    """Opens what a conversion wrote, by the settings that it told."""
    split = {**settings, "split": settings["train"]}
    split.pop("train")
    return DetectionDataset(**split, serialize_data=False, test_mode=True, **more)


def content(dataset: DetectionDataset) -> list[tuple]:
    """Returns path, classes and flags of each record; boxes are compared by ``corners``."""
    names = dataset.metainfo["classes"]
    return [
        (
            record["img_path"],
            (record["height"], record["width"]),
            [(names[i["bbox_label"]], i["ignore_flag"]) for i in record["instances"]],
        )
        for record in map(dataset.get_data_info, range(len(dataset)))
    ]


def corners(dataset: DetectionDataset) -> np.ndarray:
    records = map(dataset.get_data_info, range(len(dataset)))
    return np.array([i["bbox"] for record in records for i in record["instances"]])


@pytest.fixture
def original(root) -> DetectionDataset:
    settings = dict(images="images", annotations="train.json", test_mode=True)
    return DetectionDataset("train", str(root), serialize_data=False, **settings)


@pytest.mark.parametrize("target", ["voc", "yolo", "coco"])
def test_what_is_written_gives_the_same_records(root, original, target):
    summary, settings, _ = from_coco(root, target)

    result = open_result(settings)

    assert result.metainfo["classes"] == original.metainfo["classes"] == ("裂", "a b", "spot")
    assert content(result) == content(original)
    assert np.abs(corners(result) - corners(original)).max() < 1e-5
    assert (summary.images, summary.empty, sum(summary.areas.values())) == (3, 1, 11)
    assert not summary.dropped
    assert not summary.changed


@pytest.mark.parametrize("target", ["voc", "yolo"])
def test_there_and_back(root, original, target):
    _, settings, _ = from_coco(root, target)

    _, settings = again(settings, "coco", root / "back")

    result = open_result(settings)
    assert result.metainfo["classes"] == original.metainfo["classes"]
    assert content(result) == content(original)
    assert np.abs(corners(result) - corners(original)).max() < 1e-5


@pytest.mark.parametrize(("first", "second"), [("voc", "yolo"), ("yolo", "voc")])
def test_between_formats_of_single_files(root, original, first, second):
    _, settings, _ = from_coco(root, first)

    _, settings = again(settings, second, root / "again")

    assert content(open_result(settings)) == content(original)
    assert np.abs(corners(open_result(settings)) - corners(original)).max() < 1e-5


def test_files_of_yolo(root):
    write_coco(root, [(0, 5, [10, 5, 20, 10])])
    _, _, out = from_coco(root, "yolo")

    index, *shares = (out / "labels/b/1.txt").read_text().split()
    assert index == "1"
    expected = [20 / 61, 10 / 37, 20 / 61, 10 / 37]
    assert [float(share) for share in shares] == pytest.approx(expected, abs=1e-9)
    assert (out / "labels/empty.txt").read_text() == ""
    assert (out / "train.txt").read_text() == "b/1.jpg\n2.png\nempty.png\n"
    names = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))["names"]
    assert names == {0: "裂", 1: "a b", 2: "spot"}


def test_files_of_voc(root):
    write_coco(root, [(0, 5, [10.5, 5, 20, 10])], iscrowd=1)
    _, _, out = from_coco(root, "voc")

    text = (out / "Annotations/b/1.xml").read_text()
    for part in ("<filename>1.jpg</filename>", "<width>61</width>", "<difficult>1</difficult>"):
        assert part in text
    assert "<xmin>10.5</xmin>" in text
    assert "<xmax>30.5</xmax>" in text
    assert (out / "ImageSets/Main/train.txt").read_text() == "b/1\n2\nempty\n"
    assert (out / "labels.txt").read_text(encoding="utf-8") == "裂\na b\nspot\n"


def test_crowds_stay_crowds_where_they_can(root, original):
    write_coco(root, [(0, 5, [10, 5, 20, 10]), (1, 4, [1, 2, 3, 4])], iscrowd=1)
    file = root / "train.json"
    file.write_text(file.read_text()[::-1].replace('1 :"dworcsi"', '0 :"dworcsi"', 1)[::-1])

    _, voc_settings, _ = from_coco(root, "voc")
    summary, settings, _ = from_coco(root, "yolo")

    assert content(open_result(voc_settings))[0][2] == [("a b", 1)]
    assert content(open_result(settings))[0][2] == []
    (reason,) = summary.dropped
    assert reason == "is to be ignored, which YOLO's files cannot say"


def test_some_classes_in_another_order(root):
    write_coco(root, [(0, 6, [1, 2, 3, 4]), (0, 5, [1, 2, 3, 4]), (1, 4, [1, 2, 3, 4])])

    summary, settings, _ = from_coco(root, "yolo", classes=["spot", "裂"])

    assert open_result(settings).metainfo["classes"] == ("spot", "裂")
    assert summary.areas == {"spot": 1, "裂": 1}
    assert summary.dropped == {
        "class 'a b' is not asked for": [f"{root}/train.json, annotation 2 (a b)"]
    }


def test_what_is_left_out_or_changed_is_told(root):
    boxes = [
        (0, 6, [1, 2, 0, 4]),
        (0, 6, [1, 2, -1, 4]),
        (0, 6, [100, 2, 5, 4]),
        (0, 6, [1, 2, 5]),
        (0, 9, [1, 2, 3, 4]),
        (8, 6, [1, 2, 3, 4]),
        (1, 6, [-5, 2, 10, 4]),
    ]
    write_coco(root, boxes)

    summary, settings, _ = from_coco(root, "voc")

    text = str(summary)
    assert text.startswith("3 images, 2 of them without any box\n  裂: 0 boxes\n")
    assert "changed: 1\n  1 x cut at the border of the image: " in text
    assert "left out: 6\n" in text
    assert f"1 x has no width or no height: {root}/train.json, annotation 1 (spot)" in text
    assert "1 x its image_id is not among the 3 images" in text
    assert corners(open_result(settings)).tolist() == [[0, 2, 5, 6]]


def test_an_image_of_unknown_size(root):
    file = root / "train.json"
    file.write_text(file.read_text().replace('"height": 37, ', ""))
    (root / "images/2.png").unlink()

    summary, settings, _ = from_coco(root, "yolo")

    assert len(open_result(settings)) == 2  # sizes from the headers
    assert summary.dropped == {
        "the annotation states no size, and the image cannot be read": [f"{root}/images/2.png"]
    }


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_what_is_implausible_is_told(root, target):
    write_coco(root, [(0, 4, [30, 10, 50, 35]), (0, 4, [30, 10, 50, 35]), (1, 4, [5, 5, 20, 25])])

    summary, _, _ = from_coco(root, target)

    twice, edges = summary.warnings
    assert twice.startswith("boxes that stand twice or more: 1;")
    assert edges.startswith("boxes that reach beyond their image: 2 of 3; read as x1, y1, x2, y2")
    assert f"\nwarning: {twice}\nwarning: {edges}" in str(summary)


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_no_box_is_left(root, target):
    write_coco(root, [(0, 4, [1, 2, 0, 4]), (0, 4, [1, 2, 3, float("nan")])])

    with pytest.raises(DataError, match=r"nothing was converted, since .*: 1 x has no width"):
        from_coco(root, target)
    assert not (root / f"as {target}").exists()


def test_a_file_without_images(root):
    (root / "train.json").write_text(json.dumps(dict(images=[], annotations=[], categories=[])))

    with pytest.raises(DataError, match=r"train\.json' names no image"):
        from_coco(root, "yolo")


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_images_without_boxes_alone(root, target):
    write_coco(root, [])

    summary, settings, _ = from_coco(root, target)

    assert (summary.images, summary.empty) == (3, 3)
    assert len(open_result(settings)) == 3


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_an_image_of_another_size_than_stated(root, target):
    cv2.imwrite(str(root / "images/2.png"), np.zeros((20, 30, 3), np.uint8))

    summary, settings, _ = from_coco(root, target)

    ((reason, places),) = summary.dropped.items()
    assert "for an image of 61 x 37 pixels (width x height), but the file has 30 x 20" in reason
    assert places == [f"{root}/images/2.png"]
    assert len(open_result(settings)) == 2


def test_a_size_that_no_image_has(root):
    file = root / "train.json"
    file.write_text(file.read_text().replace('"height": 37', '"height": 3700000000'))
    for name in NAMES:
        (root / "images" / name).unlink()

    with pytest.raises(DataError, match="size of 61 x 3700000000 pixels, more than any image that"):
        from_coco(root, "voc")


def test_no_image_is_left(root):
    file = root / "train.json"
    file.write_text(file.read_text().replace('"height": 37, ', ""))
    for name in NAMES:
        (root / "images" / name).unlink()

    with pytest.raises(
        DataError, match="nothing was converted, since all of it had to be left out: 3 x the ann"
    ):
        from_coco(root, "yolo")


def test_a_yolo_image_without_a_file(root):
    _, settings, out = from_coco(root, "yolo")
    (out / "labels/empty.txt").unlink()

    summary, settings = again(settings, "voc", root / "again")

    assert summary.changed == {
        "no annotation file: taken for an image without objects": [f"{root}/images/empty.png"]
    }
    assert len(open_result(settings)) == 3


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_nothing_is_overwritten(root, target):
    _, _, out = from_coco(root, target)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}

    with pytest.raises(DataError, match="is there already: give another --out"):
        from_coco(root, target)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("target", ["voc", "yolo"])
def test_classes_of_an_earlier_conversion_stay(root, target):
    from_coco(root, target)
    annotations = coco.read_file(root / "train.json", root / "images")
    annotations.images = annotations.images[:1]
    annotations.images[0].path = root / "images/b/3.jpg"

    with pytest.raises(DataError, match=r"holds other lines .*the same --classes"):
        convert_boxes(annotations, target, root / "images", root / f"as {target}", "val", ["spot"])


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_an_image_that_is_listed_twice(root, target):
    annotations = coco.read_file(root / "train.json", root / "images")
    annotations.images.append(annotations.images[1])

    with pytest.raises(DataError, match=r"2\.png is listed twice"):
        convert_boxes(annotations, target, root / "images", root / "out", "train")


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
@pytest.mark.parametrize("name", ["a\nb", "a\tb", " a", "a\x1b[0m", "a\u2028b", "\udcb2", ""])
def test_a_class_that_cannot_stand_in_a_list(root, target, name):
    file = root / "train.json"
    file.write_text(file.read_text().replace('"a b"', json.dumps(name)))

    with pytest.raises(DataError, match=r"the class .* cannot stand in labels\.txt, one name a"):
        from_coco(root, target)
    from_coco(root, target, classes=["spot"])


@pytest.mark.parametrize("target", ["voc", "yolo"])
@pytest.mark.parametrize("name", ["a\nb.png", "a\tb.png", "\udcb2.png"])
def test_an_image_that_cannot_stand_in_a_list(root, target, name):
    (root / "images/2.png").rename(root / "images" / name)
    file = root / "train.json"
    file.write_text(file.read_text().replace('"2.png"', json.dumps(name)))

    with pytest.raises(DataError, match=r"the image .* cannot stand in a list, one name a line"):
        from_coco(root, target)
    assert not (root / f"as {target}").exists()


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_a_conversion_writes_all_or_nothing(root, target, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    name = "write" if target == "coco" else "write_lines"
    module = "aicore.detection.annotations.coco" if target == "coco" else "aicore.detection.convert"
    monkeypatch.setattr(f"{module}.{name}", full)

    with pytest.raises(OSError, match="No space left"):
        from_coco(root, target)
    assert not (root / f"as {target}").exists()


def test_what_is_ignored_in_every_class(root):
    shapes = [
        {"label": label, "shape_type": "rectangle", "points": [[1, 2], [9, 4]]}
        for label in ("dent", "spot", "__ignore__", "_background_")
    ]
    file = {"imagePath": "2.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": shapes}
    (root / "images/2.json").write_text(json.dumps(file))
    annotations = labelme.read_folder(root / "images")

    summary, settings = convert_boxes(annotations, "coco", root / "images", root / "out", "train")

    expected = [("dent", 0), ("spot", 0), ("dent", 1), ("spot", 1)]
    assert content(open_result(settings)) == [(f"{root}/images/2.png", SIZE, expected)]
    assert summary.dropped == {
        "shapes called _background_, which are no objects": [f"{root}/images/2.json"]
    }


def test_two_images_with_one_file(root):
    file = root / "train.json"
    file.write_text(file.read_text().replace("empty.png", "2.jpg"))

    with pytest.raises(DataError, match="their annotations would be one file"):
        from_coco(root, "yolo")


def test_the_list_of_the_images_is_not_that_of_the_classes(root):
    annotations = coco.read_file(root / "train.json", root / "images")

    with pytest.raises(DataError, match="cannot be called classes"):
        convert_boxes(annotations, "yolo", root / "images", root / "out", "classes")


def test_an_image_outside_the_root(root):
    annotations = coco.read_file(root / "train.json", root / "images")

    with pytest.raises(DataError, match=r"does not lie below .* --root"):
        convert_boxes(annotations, "yolo", root / "images/b", root / "out", "train")


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_labelme(root, target):
    shapes = [
        {"label": "dent", "shape_type": "polygon", "points": [[1, 2], [9, 4], [5, 8]]},
        {"label": "dent", "shape_type": "point", "points": [[1, 2]]},
    ]
    file = {"imagePath": "2.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": shapes}
    (root / "images/2.json").write_text(json.dumps(file))
    (root / "images/other.json").write_text("{}")

    annotations = labelme.read_folder(root / "images")
    summary, settings = convert_boxes(annotations, target, root / "images", root / "out", "train")

    result = open_result(settings)
    assert content(result) == [(f"{root}/images/2.png", SIZE, [("dent", 0)])]
    assert corners(result)[0] == pytest.approx([1, 2, 9, 8])
    assert summary.dropped == {
        "is no file of labelme": [f"{root}/images/other.json"],
        "a point has no box": [f"{root}/images/2.json, shape 1 (dent)"],
    }


def test_no_labelme_files(root):
    with pytest.raises(DataError, match=r"holds no \.json file of labelme"):
        labelme.read_folder(root / "images")
