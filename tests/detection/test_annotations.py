from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from aicore.detection.annotations import FORMATS, Box, Layout, clip, fault_of, read_annotations
from aicore.errors import ConfigError, DataError

SIZE = (40, 60)  # height, width


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data"


def picture(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((*SIZE, 3), np.uint8))


def write(root: Path, name: str, text: str | dict) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    text = text if isinstance(text, str) else json.dumps(text)
    (root / name).write_text(text, encoding="utf-8")


def read(kind: str, root: Path, split: str = "", **more):
    usual = FORMATS[kind]
    settings = {"images": usual.images, "annotations": usual.annotations, **more}
    return read_annotations(kind, Layout(root, split, **settings))


def boxes(annotations) -> list[list[Box]]:
    return [image.boxes for image in annotations.images]


# ---- boxes ----


@pytest.mark.parametrize(
    ("corners", "fault"),
    [
        ((1, 2, 3, 4), ""),
        ((-5, -5, 90, 90), ""),
        ((3, 2, 1, 4), "is inverted"),
        ((1, 4, 3, 2), "is inverted"),
        ((1, 2, 1, 4), "has no width or no height"),
        ((1, 2, 3, 2), "has no width or no height"),
        ((60, 0, 70, 10), "lies wholly outside"),
        ((0, 40, 10, 50), "lies wholly outside"),
        ((-9, 0, 0, 10), "lies wholly outside"),
        ((0, -9, 10, 0), "lies wholly outside"),
        ((0, 0, 121, 10), "lies far outside"),
        ((0, 0, 10, 1e12), "lies far outside"),
    ],
)
def test_what_is_wrong_with_a_box(corners, fault):
    assert fault_of(Box(1, "spot", corners), SIZE).startswith(fault)
    assert bool(fault_of(Box(1, "spot", corners), SIZE)) == bool(fault)


def test_a_box_is_cut_at_the_border():
    assert clip((-3, -1, 61, 39), SIZE) == ((0, 0, 60, 39), 3)
    assert clip((1, 2, 3, 4), SIZE) == ((1, 2, 3, 4), 0)
    assert clip((-3, -1, 61, 39), None) == ((-3, -1, 61, 39), 0)


# ---- layouts ----


def test_wrong_templates(root):
    with pytest.raises(ConfigError, match=r"images = '\{path\}': expected a path"):
        Layout(root, "train", "{path}", "labels/{path}.txt")
    with pytest.raises(ConfigError, match=r"annotations = '\{stem\}.txt': expected a path"):
        Layout(root, "train", "images", "{stem}.txt")
    with pytest.raises(ConfigError, match="coco has one file for all images"):
        read("coco", root, "train", annotations="labels/{path}.txt")


def test_images_of_a_folder(root):
    picture(root, "images/train/b.png", "images/train/sub/a.jpg", "images/val/c.png")
    picture(root, "images/train/.thumbnails/b.png")

    layout = Layout(root, "train", "images", "labels")

    assert layout.find_images() == [root / "images/train/b.png", root / "images/train/sub/a.jpg"]
    assert layout.annotation_of(root / "images/train/sub/a.jpg", ".txt") == (
        root / "labels/train/sub/a.txt"
    )


def test_a_folder_for_each_split(root):
    picture(root, "train/images/b.png")

    layout = Layout(root, "train", "{split}/images", "{split}/labels/{name}.txt")

    (image,) = layout.find_images()
    assert layout.annotation_of(image, ".txt") == root / "train/labels/b.txt"


def test_images_of_a_list(root):
    picture(root, "images/a.png", "images/sub/part.7.jpg", "images/c.png")
    write(root, "lists/train.txt", "a\n\nsub/part.7\n./images/c.png\nmissing.png\nmissing.8\n")

    layout = Layout(root, "lists/train.txt", "images", "labels/{split}/{path}.xml")

    images = layout.find_images()
    assert [image.relative_to(root).as_posix() for image in images] == [
        "images/a.png",
        "images/sub/part.7.jpg",
        "images/c.png",
        "images/missing.png",
        "images/missing.8",
    ]
    assert [layout.annotation_of(image, "").name for image in images[1::3]] == [
        "part.7.xml",
        "missing.8.xml",
    ]
    assert layout.annotation_of(images[0], "") == root / "labels/train/a.xml"


def test_an_image_from_elsewhere(root, tmp_path):
    picture(tmp_path, "other/a.png")
    write(root, "train.txt", str(tmp_path / "other/a.png"))

    with pytest.raises(DataError, match="does not lie below"):
        read("voc", root, "train.txt")


@pytest.mark.parametrize("split", ["train", "train.txt"])
def test_no_images(root, split):
    with pytest.raises(DataError, match=r"found 0 images: .* does not exist"):
        read("voc", root, split)


# ---- COCO ----


def coco(annotations: list[dict], **more) -> dict:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]},
            {"id": 3, "file_name": "sub\\b.png"},
        ],
        "categories": [{"id": 9, "name": "spot"}, {"id": 2, "name": "scratch"}],
        "annotations": [{"id": i, "image_id": 7, **a} for i, a in enumerate(annotations, 1)],
        **more,
    }


def test_coco(root):
    picture(root, "images/train/sub/b.png")
    crowd = {"category_id": 2, "bbox": [0, 0, 5, 6], "iscrowd": 1}
    box = {"category_id": 9, "bbox": [10.5, 5, 20, 10]}
    write(root, "annotations/train.json", coco([box, crowd]))

    found = read("coco", root, "train")

    assert found.classes == ("scratch", "spot")
    assert [image.id for image in found.images] == [7, 3]
    assert [image.size for image in found.images] == [SIZE, SIZE]  # the second from its header
    assert found.images[1].path == root / "images/train/sub/b.png"
    assert boxes(found) == [
        [Box(1, "spot", (10.5, 5, 30.5, 15)), Box(2, "scratch", (0, 0, 5, 6), ignored=True)],
        [],
    ]
    assert found.place(found.images[0], found.images[0].boxes[0]) == (
        f"{root}/annotations/train.json, annotation 1 (spot)"
    )


@pytest.mark.parametrize(
    ("annotation", "fault"),
    [
        ({"category_id": 1, "bbox": [0, 0, 5, 6]}, "its category_id 1 is not among the categories"),
        ({"category_id": [2], "bbox": [0, 0, 5, 6]}, "its category_id [2] is not among"),
        ({"category_id": 2}, "has no bbox"),
        ({"category_id": 2, "bbox": [], "segmentation": []}, "has no bbox"),
        ({"category_id": 2, "segmentation": {"counts": "x"}}, "has no bbox, only run lengths"),
        ({"category_id": 2, "segmentation": [[1, 2, 3, 4]]}, "a polygon of fewer than 3 points"),
        ({"category_id": 2, "segmentation": [[1, 2, 3, 4, 5, 1e12]]}, "lies far outside"),
        ({"category_id": 2, "segmentation": [[1, 2, 3, 4, 5, 1e4]]}, "lies far outside"),
        ({"category_id": 2, "bbox": [0, 0, 5, 6], "iscrowd": "x"}, "its iscrowd is 'x', expected"),
        ({"category_id": 2, "bbox": [0, 0, 5]}, "its box is [0, 0, 5], expected four finite"),
        ({"category_id": 2, "bbox": [0, 0, 5, "x"]}, "expected four finite numbers"),
        ({"category_id": 2, "bbox": [0, 0, 5, float("nan")]}, "expected four finite numbers"),
        ({"category_id": 2, "bbox": [0, 0, float("inf"), 5]}, "expected four finite numbers"),
        ({"category_id": 2, "bbox": [9, 9, -5, 5]}, "is inverted"),
        ({"category_id": 2, "bbox": [9, 9, 0, 5]}, "has no width"),
    ],
)
def test_faulty_annotations_of_coco(root, annotation, fault):
    write(root, "annotations/train.json", coco([annotation]))

    ((box,), _) = boxes(read("coco", root, "train"))

    assert fault in fault_of(box, SIZE)


@pytest.mark.parametrize("segmentation", [[[10, 5, 30, 8, 20, 15]], [10, 5, 30, 8, 20, 15]])
@pytest.mark.parametrize("box", [{}, {"bbox": None}, {"bbox": []}])
def test_the_box_around_polygons_of_coco(root, box, segmentation):
    annotation = {"category_id": "2", "iscrowd": "1", "segmentation": segmentation, **box}
    write(root, "annotations/train.json", coco([annotation]))

    ((found,), _) = boxes(read("coco", root, "train"))

    assert found == Box(1, "scratch", (10, 5, 30, 15), ignored=True)


def test_an_annotation_of_no_image(root):
    write(root, "annotations/train.json", coco([{"image_id": 1, "category_id": 2}]))

    ((reason, place),) = read("coco", root, "train").faults

    assert reason == "its image_id is not among the 2 images"
    assert place == f"{root}/annotations/train.json, annotation 1"


TWINS = [{"id": 1, "name": "dent"}, {"id": 2, "name": "dent"}]


def test_two_categories_of_one_name(root):
    used = [{"category_id": key, "bbox": [0, 0, 5, 5]} for key in (1, 2)]
    write(root, "annotations/train.json", coco(used, categories=TWINS))

    with pytest.raises(DataError, match="two categories called 'dent', ids 1 and 2"):
        read("coco", root, "train")


def test_a_category_that_nothing_uses_may_share_a_name(root):
    write(
        root,
        "annotations/train.json",
        coco([{"category_id": 2, "bbox": [0, 0, 5, 5]}], categories=TWINS),
    )

    found = read("coco", root, "train")

    assert found.classes == ("dent",)
    assert found.images[0].boxes[0].label == "dent"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is no JSON file"),
        ("[]", "holds a list, expected an object"),
        ({"images": []}, "is no COCO file: it has no annotations and no categories"),
        (coco([], images=[{"id": 1}]), "entry 0 of 'images' has no file_name"),
        (coco([], images=[{"id": [1], "file_name": "a"}]), r"'images' has the id \[1\]; expected"),
        (coco([], images=[{"id": 1, "file_name": n} for n in "ab"]), "two images of the id 1"),
        (coco([], categories=[{"id": 1}]), "entry 0 of 'categories' has no name"),
        (coco([], categories={}), "'categories' is a dict, expected a list"),
        ({**coco([]), "annotations": [3]}, "entry 0 of 'annotations' is 3"),
    ],
)
def test_a_file_that_is_not_coco(root, content, reason):
    write(root, "annotations/train.json", content)

    with pytest.raises(DataError, match=reason):
        read("coco", root, "train")


def test_no_coco_file(root):
    with pytest.raises(DataError, match=r"train.json' cannot be read: no such file"):
        read("coco", root, "train")


# ---- VOC ----


def voc(*objects: str, size: str = "<width>60</width><height>40</height>", name="a.png") -> str:
    return (
        f"<annotation><filename>{name}</filename><size>{size}</size>"
        f"{''.join(f'<object>{o}</object>' for o in objects)}</annotation>"
    )


def voc_object(name: str, *edges: object, more: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<name>{name}</name>{more}<bndbox>{inner}</bndbox>"


def test_voc(root):
    picture(root, "JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png")
    # The head of a person lies in a part, which is no object of its own.
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    first = voc_object("spot", 10, 5.5, 30, 15, more=part)
    second = voc_object("dent", 1, 2, 3, 4, more="<difficult>1</difficult>")
    write(root, "Annotations/a.xml", voc(first, second, name="raw\\a.png"))
    write(root, "Annotations/b.xml", voc(size="", name="c.png"))

    found = read("voc", root)

    assert found.classes == ("dent", "spot")
    # As they stand: xmax - xmin is the width.
    assert boxes(found) == [
        [Box(1, "spot", (10, 5.5, 30, 15)), Box(2, "dent", (1, 2, 3, 4), ignored=True)],
        [],
        [],
    ]
    assert [image.size for image in found.images] == [SIZE] * 3
    assert [image.missing for image in found.images] == [False, False, True]
    (note,) = found.images[1].notes
    assert note.endswith("Annotations/b.xml: its <filename> is 'c.png', but its image is 'b.png'")
    assert not found.images[0].notes


@pytest.mark.parametrize(
    "change",
    [
        ("<annotation>", '<annotation xmlns="http://example.org/voc">'),
        ("<annotation>", '<annotation xmlns:v="http://example.org/voc">', "object>", "v:object>"),
        ("object>", "Object>", "bndbox>", "BndBox>"),
        ("<object>", "<objects><object>", "</object>", "</object></objects>"),
        ("<object>", "<object><object>", "</object>", "</object></object>"),
        ("<annotation>", "<set><annotation>", "</annotation>", "</annotation></set>"),
    ],
)
def test_voc_in_another_dress(root, change):
    picture(root, "JPEGImages/a.png")
    text = voc(voc_object("spot", 10, 5, 30, 15, more="<difficult>True</difficult>"))
    for old, new in zip(change[::2], change[1::2], strict=True):
        text = text.replace(old, new).replace(f"</{new[1:]}", f"</{old[1:]}")
    write(root, "Annotations/a.xml", text)

    (image,) = read("voc", root).images

    assert image.boxes == [Box(1, "spot", (10, 5, 30, 15), ignored=True)]
    assert (image.size, image.fault, image.notes) == (SIZE, "", [])


@pytest.mark.parametrize(
    ("content", "tags"),
    [
        ("<annotation><obj><name>a</name></obj></annotation>", "<obj>"),
        ('<annotation><box x="1"/><defect>1 2 3 4</defect></annotation>', "<box>, <defect>"),
        ("<doc><outputs><item><name>a</name></item></outputs></doc>", "<doc>"),
    ],
)
def test_a_voc_file_in_which_nothing_is_known(root, content, tags):
    picture(root, "JPEGImages/a.png")
    write(root, "Annotations/a.xml", content)

    (image,) = read("voc", root).images

    assert image.fault == (
        f"nothing in '{root}/Annotations/a.xml' is known, which holds {tags}: expected <object> "
        "with <name> and <bndbox>"
    )


@pytest.mark.parametrize("content", ["<annotation/>", voc(), voc().replace("</a", "<objects/></a")])
def test_a_voc_file_without_objects(root, content):
    picture(root, "JPEGImages/a.png")
    write(root, "Annotations/a.xml", content)

    (image,) = read("voc", root).images

    assert (image.boxes, image.fault, image.size) == ([], "", SIZE)


def test_what_is_passed_over_beside_the_objects_of_voc(root):
    picture(root, "JPEGImages/a.png")
    text = voc(voc_object("spot", 1, 2, 3, 4))
    write(root, "Annotations/a.xml", text.replace("</size>", "</size><obj><name>a</name></obj>"))

    (image,) = read("voc", root).images

    assert image.notes == [f"{root}/Annotations/a.xml: not read are <obj>"]


@pytest.mark.parametrize("objects", [(), (voc_object("spot", 1, 2, 3, 4),)])
def test_what_else_tools_write_into_voc_files_is_a_note(root, objects):
    picture(root, "JPEGImages/a.png")
    text = voc(*objects, "<object/>", name="a")  # without the suffix
    write(root, "Annotations/a.xml", text.replace("</size>", "</size><time>2026-11-30 9:00</time>"))

    (image,) = read("voc", root).images

    assert (image.fault, image.notes) == ("", [])
    assert image.remarks == ["<time>, which is not known"]
    assert [box.fault for box in image.boxes] == [""] * len(objects)


def test_difficult_that_is_not_specified(root):
    picture(root, "JPEGImages/a.png")
    more = "<difficult>Unspecified</difficult>"
    write(root, "Annotations/a.xml", voc(voc_object("spot", 1, 2, 3, 4, more=more)))

    (image,) = read("voc", root).images

    assert image.boxes == [Box(1, "spot", (1, 2, 3, 4))]


def test_names_of_labelme_in_a_list_of_classes(root):
    picture(root, "JPEGImages/a.png")
    write(root, "Annotations/a.xml", voc(voc_object("spot", 1, 2, 3, 4)))
    write(root, "labels.txt", "__ignore__\n_background_\nspot\n")

    assert read("voc", root).classes == ("spot",)


def test_voc_classes_of_labels_txt(root):
    picture(root, "JPEGImages/a.png")
    write(root, "Annotations/a.xml", voc(voc_object("spot", 1, 2, 3, 4)))
    write(root, "labels.txt", "spot\ndent\n")

    assert read("voc", root).classes == ("spot", "dent")


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("<name>a</name>", "has no <bndbox>"),
        ("<name>a</name><polygon><x1>1</x1></polygon>", "has no <bndbox>, only <polygon>"),
        ("<name>a</name><robndbox><cx>1</cx></robndbox>", "has no <bndbox>, only <robndbox>"),
        (voc_object("a", 1, 2, 3, 4) + "<bndbox/>", "has 2 <bndbox>"),
        (voc_object("a", 1, 2, 3, 4, more="<name>b</name>"), "has 2 <name>"),
        (
            voc_object("a", 1, 2, 3, 4, more="<difficult>hard</difficult>"),
            "its <difficult> is 'hard', expected 0 or 1",
        ),
        (voc_object("a", 1, 2, 3, "1e12"), "lies far outside"),
        (voc_object("", 1, 2, 3, 4), "has no <name>"),
        (voc_object("a", 1, 2, 3, "x"), "expected four finite numbers"),
        (voc_object("a", 1, 2, 3, "inf"), "expected four finite numbers"),
        ("<name>a</name><bndbox><xmin>1</xmin></bndbox>", "['1', None, None, None], expected four"),
        (voc_object("a", 10, 2, 10, 8), "has no width"),
        (voc_object("a", 10, 2, 9, 8), "is inverted"),
        (voc_object("a", 100, 2, 110, 8), "lies wholly outside"),
    ],
)
def test_faulty_objects_of_voc(root, item, fault):
    picture(root, "JPEGImages/a.png")
    write(root, "Annotations/a.xml", voc(item))

    ((box,),) = boxes(read("voc", root))

    assert fault in fault_of(box, SIZE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<annotation><object>", "is no XML file that can be read"),
        (b"", "is no XML file that can be read"),
        (
            '<?xml version="1.0" encoding="GBK"?><a>\u88c2</a>'.encode("gbk"),
            "is not a text file in UTF-8",
        ),
        (
            "<annotation><object>\u88c2</object></annotation>".encode("gbk"),
            "is not a text file in UTF-8",
        ),
        (b'<?xml version="1.0" encoding="GBK"?><annotation/>', "is no XML file that can be read"),
        (
            b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>',
            "declares entities of its own, which are not read",
        ),
        ('<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>'.encode("utf-16"), "declares entities"),
    ],
)
def test_a_broken_xml_file(root, content, reason):
    picture(root, "JPEGImages/a.png")
    write(root, "Annotations/a.xml", "")
    (root / "Annotations/a.xml").write_bytes(content)

    (image,) = read("voc", root).images

    assert image.fault.startswith(f"'{root}/Annotations/a.xml' {reason}")


@pytest.mark.parametrize("kind", ["voc", "yolo", "labelme"])
def test_an_annotation_file_that_is_no_file(root, kind):
    usual = FORMATS[kind]
    suffix = {"voc": ".xml", "yolo": ".txt", "labelme": ".json"}[kind]
    picture(root, *(f"{usual.images}/{name}.png".lstrip("/") for name in "abc"))
    write(root, "labels.txt", "spot")
    folder = (root / usual.annotations.format(path="a", split="")).parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"a{suffix}").mkdir()
    (folder / f"b{suffix}").symlink_to("nothing")

    a, b, c = read(kind, root).images

    assert a.fault == f"{folder}/a{suffix} is no file that can be read: a folder"
    assert b.fault == f"{folder}/b{suffix} is no file that can be read: a link to nothing"
    assert [image.missing for image in (a, b, c)] == [False, False, True]


# ---- YOLO ----


def test_yolo(root):
    picture(root, "images/train/a.png", "images/train/b.png")
    write(root, "data.yaml", "names: {0: spot, 1: dent}\n")
    write(
        root,
        "labels/train/a.txt",
        "1 0.5 0.5 0.5 0.25\n\n0.0 0.1 0.2 0.4 0.3 0.2 0.6\n",
    )

    found = read("yolo", root, "train")

    assert found.classes == ("spot", "dent")
    first, second = found.images[0].boxes
    assert first == Box(1, "dent", (15, 15, 45, 25))
    assert (second.number, second.label) == (3, "spot")
    assert second.corners == pytest.approx((6, 8, 24, 24))  # around the polygon
    assert (found.images[1].missing, found.images[1].size) == (True, SIZE)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", "names: [spot, dent]"),
        ("data.yml", "names:\n  1: dent\n  0: spot\n"),
        ("labels.txt", "spot\ndent\n"),
        ("classes.txt", "spot\ndent\n"),
        ("labels/train/classes.txt", "spot\ndent\n"),
        ("labels/classes.txt", "spot\ndent\n"),
    ],
)
def test_where_yolo_has_its_classes(root, file, text):
    picture(root, "images/train/a.png")
    write(root, file, text)

    assert read("yolo", root, "train").classes == ("spot", "dent")


def test_names_in_data_yaml_are_text(root):
    picture(root, "images/a.png")
    write(root, "data.yaml", "names: {'0': no, 1: 1, 2: 1e3, 3: ~, 4: \"\\u88c2\"}\nnc: 5\n")

    assert read("yolo", root).classes == ("no", "1", "1e3", "~", "裂")


def test_yolo_classes_that_are_asked_for(root):
    picture(root, "images/a.png")

    assert read("yolo", root, classes=("x", "y")).classes == ("x", "y")
    with pytest.raises(DataError, match=r"has no names of the classes: expected data\.yaml"):
        read("yolo", root)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nc: 3", "names is None"),
        ("names: {1: a}", "names is {'1': 'a'}"),
        ("names: {0: a, 00: b}", "names is {'0': 'a', '00': 'b'}"),
        ("names: [a, [b]]", r"names is \['a', \['b'\]\]"),
        ("names: [a, ]\nnames: [b]", r"data\.yaml' holds the key 'names' twice in one object"),
        ("names:\n- a\n-\n", r"names is \['a', ''\]"),
        ("names: [a, b, a]", r"data\.yaml': names holds 'a' more than once"),
        ("names: [a, b]\nnc: 3", "nc is 3, but names holds 2: both have to agree"),
        ("a: [", "no YAML file"),
        ("\0", "is not a text file in UTF-8: it holds null bytes"),
        ("? [a]\n: b", "no YAML file"),
        ("[" * 500, "no YAML file"),
        (BOMB, r"no YAML file: it holds an alias \(\*name\), which is not read"),
        ("names: [a]\nkpt_shape: 4", "kpt_shape is '4'; expected the number of key points and"),
        ("names: [a]\nkpt_shape: [4, x]", r"kpt_shape is \['4', 'x'\]; expected"),
    ],
)
def test_a_wrong_data_yaml(root, text, reason):
    picture(root, "images/a.png")
    write(root, "data.yaml", text)

    with pytest.raises(DataError, match=reason):
        read("yolo", root)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("0 0.5 0.5", "has 3 columns, expected 5"),
        ("0 0.5 0.5 0.1 0.1 0.9", "polygon; is the sixth a confidence?"),
        ("0 0.5 0.5 0.1 0.1 0.9 0.9 0.9", "has 8 columns, expected 5"),
        ("0 0.5 0.5 0.1 x", "expected four finite numbers"),
        ("0 0.5 0.5 0.1 nan", "expected four finite numbers"),
        ("0 0.5 0.5 0.1 0.1 0.5 inf", "no finite number"),
        ("0 0.5 0.5 0.1 0.1 0.5 x", "its points are not pairs of numbers"),
        ("2 0.5 0.5 0.1 0.1", "class index 2 is not among 0..1 (2 classes)"),
        ("-1 0.5 0.5 0.1 0.1", "class index -1 is not among"),
        ("0.5 0.5 0.5 0.1 0.1", "class index 0.5 is not among"),
        ("spot 0.5 0.5 0.1 0.1", "begins with 'spot', expected the index of a class"),
        ("0 0.5 0.5 0 0.1", "has no width"),
        ("0 0.5 0.5 -0.1 0.1", "is inverted"),
        ("0 30 20 10 10", "lies far outside"),  # pixels in place of shares
    ],
)
def test_faulty_lines_of_yolo(root, line, fault):
    picture(root, "images/a.png")
    write(root, "labels.txt", "spot\ndent\n")
    write(root, "labels/a.txt", line)

    ((box,),) = boxes(read("yolo", root))

    assert fault in fault_of(box, SIZE)


# A box of 24 x 16 pixels around the middle, and the corners of one of half its size.
IN_TWO = "0 0.5 0.5 0.4 0.4 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6\n"
IN_THREE = "0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 1 0 0 0 0.5 0.5 2\n"


@pytest.mark.parametrize(
    ("line", "shape"),
    [(IN_TWO, "[4, 2]"), (IN_THREE, "[4, 3]"), ("0 0.5 0.5 0.4 0.4 0.5 0.6\n", "[1, 2]")],
)
def test_key_points_of_yolo(root, line, shape):
    picture(root, "images/a.png")
    write(root, "data.yaml", f"names: [spot]\nkpt_shape: {shape}\n")
    write(root, "labels/a.txt", line + "0 0.5 0.5 0.4 0.4\n0 0.5 0.5 0.4 0.4 1\n")

    (image,) = read("yolo", root).images

    assert [box.corners for box in image.boxes[:2]] == [pytest.approx((18, 12, 42, 28))] * 2
    assert "has 6 columns, expected" in image.boxes[2].fault
    assert image.remarks == ["lines with key points, which are passed over"]


@pytest.mark.parametrize(
    ("line", "shape"),
    [(IN_TWO, "[4, 2]"), ("0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 1\n", "[2, 3]")],
)
def test_what_may_be_key_points_or_a_polygon_of_yolo(root, line, shape):
    picture(root, "images/a.png")
    write(root, "data.yaml", "names: [spot]")
    write(root, "labels/a.txt", f"{line}0 0.5 0.5 0.1 0.1\n{line}")

    with pytest.raises(DataError) as caught:
        read("yolo", root)

    count = len(line.split())
    assert f"a.txt', line 1: its {count} columns may be a box and key points or" in str(
        caught.value
    )
    assert f"key points kpt_shape: {shape}, for polygons kpt_shape: [0, 0]." in str(caught.value)
    write(root, "data.yaml", "names: [spot]\nkpt_shape: [0, 0]")
    polygon = read("yolo", root).images[0].boxes[0]
    assert polygon.corners[:2] == pytest.approx((24, 16))


@pytest.mark.parametrize(
    "lines",
    [
        # turned boxes, small and large: their first corner is no centre
        "0 0.4 0.4 0.42 0.4 0.42 0.42 0.4 0.42",
        "0 0.1 0.5 0.5 0.1 0.9 0.5 0.5 0.9",
        "0 0.2 0.2 0.8 0.2 0.8 0.8 0.2 0.8",
        # polygons, one of which may be key points, of different lengths
        f"{IN_TWO}0 0.5 0.5 0.4 0.4 0.4 0.4 0.6 0.6",
    ],
)
def test_what_can_only_be_polygons_of_yolo(root, lines):
    picture(root, "images/a.png")
    write(root, "labels.txt", "spot\n")
    write(root, "labels/a.txt", lines)

    (image,) = read("yolo", root).images

    for line, box in zip(lines.splitlines(), image.boxes, strict=True):
        xs, ys = ([float(x) for x in line.split()[first::2]] for first in (1, 2))
        edges = min(xs) * 60, min(ys) * 40, max(xs) * 60, max(ys) * 40
        assert box.corners == pytest.approx(edges)


def test_a_yolo_file_that_is_no_text(root):
    picture(root, "images/a.png")
    write(root, "labels.txt", "spot\n")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_bytes(b"0 \xff\xfe")

    (image,) = read("yolo", root).images

    assert image.fault.startswith(f"'{root}/labels/a.txt' is not a text file in UTF-8")


def test_yolo_boxes_of_an_unreadable_image_are_counted(root):
    write(root, "train.txt", "a.png")
    write(root, "labels.txt", "spot\n")
    write(root, "labels/a.txt", "0 0.5 0.5 0.1 0.1")

    (image,) = read("yolo", root, "train.txt").images

    assert (image.size, len(image.boxes), fault_of(image.boxes[0], None)) == (None, 1, "")


# ---- labelme ----


def labelme(*shapes: dict, **more) -> dict:
    return {
        "imagePath": "a.png",
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        "shapes": list(shapes),
        **more,
    }


def shape(kind: str | None, *points, label: str = "spot") -> dict:
    return {"label": label, "shape_type": kind, "points": points}


@pytest.mark.parametrize(
    ("item", "corners"),
    [
        (shape("rectangle", (30, 5), (10, 15)), (10, 5, 30, 15)),
        (shape("polygon", (10, 5), (30, 8), (20, 15)), (10, 5, 30, 15)),
        (shape(None, (10, 5), (30, 8), (20, 15)), (10, 5, 30, 15)),
        (shape("line", (10, 5), (30, 15)), (10, 5, 30, 15)),
        (shape("linestrip", (10, 5), (30, 15), (20, 20)), (10, 5, 30, 20)),
        (shape("circle", (20, 20), (20, 25)), (15, 15, 25, 25)),
        (shape("mask", (10, 5), (29, 14)), (10, 5, 30, 15)),
    ],
)
def test_shapes_of_labelme(root, item, corners):
    picture(root, "sub/a.png")
    write(root, "sub/a.json", labelme(item))

    ((box,),) = boxes(read("labelme", root))

    assert box == Box(0, "spot", corners)


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (shape("point", (1, 2)), "a point has no box"),
        (shape("line", (1, 2), (1, 9)), "has no width"),
        (shape("polygon"), "has no points"),
        (shape("polygon", (1, 2, 3)), "its points are not pairs of numbers"),
        (shape("polygon", (1, "x"), (1, 2)), "its points are not pairs of numbers"),
        (shape("polygon", (1, float("nan")), (1, 2)), "one of its points is no finite number"),
        (shape("polygon", (1, float("inf")), (1, 2)), "one of its points is no finite number"),
        (shape("polygon", (1, 1e12), (1, 2)), "lies far outside the image"),
        (shape("polygon", (9, 1e4), (1, 2)), "lies far outside the image"),
        (shape("circle", (1, 2), (1, 1e4)), "lies far outside the image"),
        ({"label": "spot"}, "its points are not pairs of numbers"),
        (shape("line", (1, 2), (3, 4), label=None), "has no label"),
        (shape("line", (1, 2), (3, 4), label=" "), "has no label"),
        (3, "has no label"),
    ],
)
def test_faulty_shapes_of_labelme(root, item, fault):
    picture(root, "a.png")
    write(root, "a.json", labelme(item))

    ((box,),) = boxes(read("labelme", root))

    assert fault in fault_of(box, SIZE)


def test_files_of_labelme(root):
    picture(root, "a.png", "b.png", "c.png", "d.png")
    write(root, "a.json", labelme(shape("line", (1, 2), (3, 4)), imagePath="..\\raw\\b.png"))
    write(root, "b.json", "{}")
    write(root, "c.json", "{")

    found = read("labelme", root)

    assert found.classes == ("spot",)
    assert found.images[0].notes == [
        f"{root}/a.json: its imagePath is 'b.png', but its image is 'a.png'"
    ]
    assert found.images[1].fault == f"{root}/b.json is no file of labelme"
    assert "is no JSON file" in found.images[2].fault
    assert found.images[3].missing
    assert [image.missing for image in found.images[:3]] == [False] * 3


def test_names_of_its_own_of_labelme(root):
    picture(root, "a.png")
    names = ("__ignore__", "_background_", " spot", "dent")
    shapes = [shape("line", (1, 2), (3, 4), label=name) for name in names]
    write(root, "a.json", labelme(*shapes))

    found = read("labelme", root)

    assert found.classes == ("dent", "spot")
    ignored, *others = found.images[0].boxes
    assert ignored == Box(0, "", (1, 2, 3, 4), ignored=True)
    assert ignored.labels(found.classes) == ("dent", "spot")
    assert [box.labels(found.classes) for box in others] == [["spot"], ["dent"]]
    assert found.images[0].remarks == ["shapes called _background_, which are no objects"]
    write(root, "labels.txt", "__ignore__\n_background_\nspot\ndent\n")
    assert read("labelme", root).classes == ("spot", "dent")


@pytest.mark.parametrize("path", [{"imagePath": None}, {"imagePath": 3}])
def test_a_file_of_labelme_that_names_no_image(root, path):
    picture(root, "a.png")
    write(root, "a.json", labelme(shape("line", (1, 2), (3, 4)), **path))

    (image,) = read("labelme", root).images

    assert "a.json': its imagePath is " in image.fault
