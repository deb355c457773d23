from __future__ import annotations

import base64
import json
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from aicore.errors import DataError
from aicore.segmentation import SegmentationDataset
from aicore.segmentation.convert import convert_coco, convert_labelme

SIZE = (40, 60)
SQUARE = [10, 5, 20, 5, 20, 15, 10, 15]  # x from 10 to 20, y from 5 to 15


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def read(file: Path) -> np.ndarray:
    return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)


def annotation(image: int = 1, category: int = 7, segmentation=(SQUARE,), **more) -> dict:
    return {
        "id": 5,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        **more,
    }


def write_pictures(root: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(root / name), np.zeros((*SIZE, 3), np.uint8))


def write_coco(root: Path, annotations: list[dict], names=("a.jpg", "b.jpg")) -> Path:
    content = {
        "images": [
            {"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for index, name in enumerate(names, start=1)
        ],
        "categories": [{"id": 9, "name": "spot"}, {"id": 7, "name": "scratch"}],
        "annotations": annotations,
    }
    file = root.parent / "train.json"
    file.write_text(json.dumps(content))
    return file


def from_coco_into(root: Path, out: Path, annotations: list[dict], **settings):
    return convert_coco(write_coco(root, annotations), root, root, out, "train", **settings), out


def from_coco(root: Path, annotations: list[dict], **settings):
    return from_coco_into(root, root.parent / "out", annotations, **settings)


# ---- COCO ----


def test_polygons_become_masks(root):
    summary, out = from_coco(root, [annotation()])

    expected = np.zeros(SIZE, np.uint8)
    expected[5:15, 10:20] = 1
    assert np.array_equal(read(out / "masks/a.png"), expected)
    assert not read(out / "masks/b.png").any()
    assert (out / "labels.txt").read_text() == "background\nscratch\nspot\n"
    assert (out / "train.txt").read_text() == "a.jpg\nb.jpg\n"
    assert (summary.images, summary.empty, summary.areas) == (2, 1, {"scratch": 1, "spot": 0})
    assert summary.dropped == {}


def test_what_is_written_is_a_data_set(root):
    write_pictures(root)
    _, out = from_coco(root, [annotation()])

    dataset = SegmentationDataset("train.txt", str(out), images=str(root))

    records = [dataset.get_data_info(index) for index in range(2)]
    assert [dataset.labels_of(record) for record in records] == [[0, 1], [0]]
    assert dataset.metainfo["classes"] == ("background", "scratch", "spot")


@pytest.mark.parametrize("kind", ["counts", "text"])
def test_run_lengths_become_masks(root, kind):
    mask = np.zeros(SIZE, np.uint8)
    mask[3:9, 30:33] = 1
    runs = coco.encode(np.asfortranarray(mask))
    counts = runs["counts"].decode()
    if kind == "counts":
        counts = [len(list(run)) for _, run in groupby(mask.ravel(order="F"))]
    segmentation = {"size": list(SIZE), "counts": counts}

    _, out = from_coco(root, [annotation(category=9, segmentation=segmentation)])

    assert np.array_equal(read(out / "masks/a.png"), 2 * mask)


def test_a_small_area_lies_on_top_of_a_large_one(root):
    small = [12, 7, 14, 7, 14, 9, 12, 9]

    _, out = from_coco(root, [annotation(category=9, segmentation=[small]), annotation()])

    mask = read(out / "masks/a.png")
    assert (mask == 2).sum() == 4
    assert (mask == 1).sum() == 96


def test_crowds_are_ignored_pixels(root):
    write_pictures(root)
    crowds = [annotation(iscrowd=1), annotation(image=2, iscrowd="0")]

    summary, out = from_coco(root, crowds)

    assert (read(out / "masks/a.png") == 255).sum() == 100
    assert (read(out / "masks/b.png") == 1).sum() == 100
    assert summary.changed == {"called iscrowd: drawn as 255, no class": ["annotation 5 (a.jpg)"]}


def test_what_is_left_out_is_told(root):
    outside = [50, 50, 60, 50, 60, 60]
    summary, out = from_coco(
        root,
        [
            annotation(image=2),
            annotation(image=3),
            annotation(category=1),
            annotation(segmentation=[]),
            annotation(segmentation=[[1, 1, 5, 5]]),
            annotation(segmentation=[outside]),
            annotation(segmentation={"size": [1, 1], "counts": [1]}),
            annotation(category=9),
            annotation(iscrowd="maybe"),
        ],
        classes=["background", "scratch"],
    )

    assert {reason: len(places) for reason, places in summary.dropped.items()} == {
        "image_id is not among the 2 images": 1,
        "its category_id 1 is not among the categories": 1,
        "has a box, but no segmentation": 1,
        "a polygon of fewer than 3 points": 1,
        "covers no pixel of the image": 1,
        "its run lengths are of another size than the image": 1,
        "class 'spot' is not asked for": 1,
        "its iscrowd is 'maybe', expected 0 or 1": 1,
    }
    text = str(summary)
    assert text.startswith("2 images, 1 of them without any area (all background)")
    assert "left out: 8\n" in text
    assert "1 x covers no pixel of the image: annotation 5 (a.jpg)" in text
    assert not read(out / "masks/a.png").any()


FAULTY = [
    ([[1, 2, 3, 4, 5, 6, 7]], "its points are not pairs of numbers"),
    ([[1, 2, 3, 4, "x", 6]], "its points are not pairs of numbers"),
    ("abc", "its segmentation is a str, expected polygons"),
    ([[8, 8, float("nan"), 8, 28, 24]], "one of its points is no finite number"),
    ([[8, 8, float("inf"), 8, 28, 24]], "one of its points is no finite number"),
    ([[8, 8, 1e9, 8, 28, 24]], "lies far outside the image"),
    ([[8, 8, -1e12, 8, 28, 24]], "lies far outside the image"),
    (dict(size=SIZE, counts=[10, 10]), "its run lengths make 20 pixels, but the image has 2400"),
    (dict(size=SIZE, counts=[3000, -1000, 400]), "one of its run lengths is below 0"),
    (dict(size=SIZE, counts=[1200.5, 1199.5]), "its run lengths are not whole numbers"),
    (dict(size=SIZE, counts="0100"), "its run lengths make 2 pixels, but the image has 2400"),
    (dict(size=SIZE, counts="\x00é"), "its run lengths are no text of COCO"),
    (dict(size=SIZE), "its run lengths are not whole numbers"),
    (dict(counts=[2400]), "its run lengths are of another size than the image"),
    (dict(size=[200_000, 200_000], counts=[4 * 10**10]), "its run lengths are of another size"),
]


@pytest.mark.parametrize(("broken", "reason"), FAULTY)
def test_a_faulty_annotation_is_left_out(root, broken, reason):
    summary, out = from_coco(root, [annotation(segmentation=broken), annotation(image=2)])

    (told,) = summary.dropped
    assert told.startswith(reason)
    assert not read(out / "masks/a.png").any()
    assert read(out / "masks/b.png").any()


@pytest.mark.parametrize(("broken", "reason"), FAULTY[3:8])
def test_nothing_is_written_where_nothing_can_be_converted(root, broken, reason):
    with pytest.raises(DataError) as caught:
        from_coco(root, [annotation(segmentation=broken)])

    start = "nothing was converted, since all of it had to be left out: 1 x "
    assert str(caught.value) == f"{start}{reason}: annotation 5 (a.jpg)."
    assert not (root.parent / "out").exists()


def test_an_earlier_split_stays_where_nothing_can_be_converted(root):
    _, out = from_coco(root, [annotation()])
    file = write_coco(root, [annotation(segmentation=[])], names=["c.jpg", "d.jpg"])

    with pytest.raises(DataError, match="nothing was converted"):
        convert_coco(file, root, root, out, "val")
    assert sorted(path.name for path in out.iterdir()) == ["labels.txt", "masks", "train.txt"]
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["a.png", "b.png"]


def test_images_without_objects_are_no_failure(root):
    summary, out = from_coco(root, [])
    assert (summary.images, summary.empty) == (2, 2)

    summary, _ = from_coco_into(root, out.parent / "other", [annotation()], classes=["spot"])
    assert (summary.images, summary.empty) == (2, 2)


def test_one_flat_polygon(root):
    summary, out = from_coco(root, [annotation(segmentation=SQUARE)])

    assert summary.dropped == {}
    assert (read(out / "masks/a.png") == 1).sum() == 100


@pytest.mark.parametrize("stated", [SIZE, (200_000, 200_000)])
def test_a_stated_size_that_is_not_the_images(root, stated):
    """The size of the file is compared before there is an array of the stated one."""
    cv2.imwrite(str(root / "a.jpg"), np.zeros((64, 64, 3), np.uint8))
    file = write_coco(root, [annotation(), annotation(image=2)])
    content = json.loads(file.read_text())
    content["images"][0].update(height=stated[0], width=stated[1])
    file.write_text(json.dumps(content))

    summary = convert_coco(file, root, root, root.parent / "out", "train")

    (reason,) = summary.dropped
    assert f"is for an image of {stated[1]} x {stated[0]} pixels" in reason
    assert "the file has 64 x 64" in reason
    assert (root.parent / "out/train.txt").read_text() == "b.jpg\n"


def test_a_stated_size_of_no_image(root):
    file = write_coco(root, [annotation()], names=["a.jpg"])
    file.write_text(file.read_text().replace("40", "200000").replace("60", "200000"))

    with pytest.raises(DataError, match=r"nothing was converted.* 200000 x 200000 pixels, "):
        convert_coco(file, root, root, root.parent / "out", "train")


def test_two_splits_go_into_one_folder(root):
    for name in ("train", "val"):
        (root / name).mkdir()
        file = write_coco(root, [annotation()], names=["a.jpg"])
        file = file.rename(file.with_name(f"{name}.json"))
        convert_coco(file, root / name, root, root.parent / "out", name)

    out = root.parent / "out"
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "labels.txt",
        "masks/train/a.png",
        "masks/val/a.png",
        "train.txt",
        "val.txt",
    ]
    assert (out / "val.txt").read_text() == "val/a.jpg\n"


def test_the_list_of_the_images_is_not_that_of_the_classes(root):
    file = write_coco(root, [annotation()])

    with pytest.raises(DataError, match="cannot be called labels"):
        convert_coco(file, root, root, root.parent / "out", "labels")
    assert not (root.parent / "out").exists()


def write_categories(root: Path, *names: str) -> Path:
    file = write_coco(root, [annotation(category=len(names) - 1)])
    content = json.loads(file.read_text())
    content["categories"] = [{"id": index, "name": name} for index, name in enumerate(names)]
    file.write_text(json.dumps(content))
    return file


def test_a_category_above_a_class_of_the_same_name(root):
    file, out = write_categories(root, "dent", "dent", "spot"), root.parent / "out"

    convert_coco(file, root, root, out, "train")

    assert (out / "labels.txt").read_text() == "background\ndent\nspot\n"
    assert read(out / "masks/a.png").max() == 2


def test_more_classes_than_a_mask_holds(root):
    file = write_categories(root, *map(str, range(255)))

    with pytest.raises(DataError, match="has 255 classes: a mask holds at most 254"):
        convert_coco(file, root, root, root.parent / "out", "train")


def test_an_image_without_a_size(root):
    file = write_coco(root, [])
    file.write_text(file.read_text().replace('"height": 40, ', ""))

    with pytest.raises(DataError, match=r"states no size, and the image cannot be read: a\.jpg"):
        convert_coco(file, root, root, root.parent / "out", "train")

    cv2.imwrite(str(root / "a.jpg"), np.zeros((*SIZE, 3), np.uint8))
    convert_coco(file, root, root, root.parent / "out", "train")
    assert read(root.parent / "out/masks/a.png").shape == SIZE


def test_nothing_is_overwritten(root):
    _, out = from_coco(root, [annotation()])
    before = (out / "masks/a.png").read_bytes()

    with pytest.raises(DataError, match=r"a\.png' is there already: give another --out"):
        from_coco(root, [])
    assert (out / "masks/a.png").read_bytes() == before


def test_classes_of_an_earlier_conversion_stay(root):
    out = root.parent / "out"
    out.mkdir()
    (out / "labels.txt").write_text("background\nother\n")

    with pytest.raises(DataError, match=r"labels.txt' holds other lines"):
        from_coco(root, [annotation()])
    assert not (out / "masks").exists()


def test_images_that_are_not_there_are_told(root):
    summary, _ = from_coco(root, [annotation()])

    assert summary.changed == {
        "the image file does not exist (see --images)": ["a.jpg", "b.jpg"],
    }


def test_two_images_with_one_mask(root):
    file = write_coco(root, [], names=["a.jpg", "a.png"])

    with pytest.raises(DataError, match="differ in their suffix only"):
        convert_coco(file, root, root, root.parent / "out", "train")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is no JSON file"),
        ("[]", "holds a list, expected an object"),
        ('{"images": []}', "no COCO file: it has no annotations and no categories"),
    ],
)
def test_a_file_that_is_not_coco(root, content, reason):
    file = root / "x.json"
    file.write_text(content)

    with pytest.raises(DataError, match=reason):
        convert_coco(file, root, root, root.parent / "out", "train")


def test_a_file_that_is_not_there(root):
    with pytest.raises(DataError, match="cannot be read: no such file"):
        convert_coco(root / "x.json", root, root, root.parent / "out", "train")


def test_a_class_that_is_not_there(root):
    with pytest.raises(DataError, match=r"has no class 'scatch'. Did you mean 'scratch'\?"):
        from_coco(root, [annotation()], classes=["scatch"])


def test_an_image_outside_the_root(root):
    file = write_coco(root, [])

    with pytest.raises(DataError, match="does not lie below"):
        convert_coco(file, root, root / "train", root.parent / "out", "train")


# ---- labelme ----


def shape(kind: str | None, points: list, label: str = "spot", **more) -> dict:
    return {"label": label, "shape_type": kind, "points": points, **more}


def write_labelme(file: Path, shapes: list[dict], **more) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "imagePath": f"{file.stem}.jpg",
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        "shapes": shapes,
        **more,
    }
    file.write_text(json.dumps(content))


def picture(mask: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", mask)[1].tobytes()).decode()


def from_labelme(root: Path, **settings):
    out = root.parent / "out"
    return convert_labelme(root, root, out, "images", **settings), out


SQUARE_POINTS = [[10, 5], [20, 5], [20, 15], [10, 15]]


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("polygon", SQUARE_POINTS),
        (None, SQUARE_POINTS),
        ("rectangle", [[10, 5], [20, 15]]),
        ("rectangle", [[20, 5], [10, 15]]),
    ],
)
def test_shapes_become_masks(root, kind, points):
    write_labelme(root / "a.json", [shape(kind, points)])

    summary, out = from_labelme(root)

    expected = np.zeros(SIZE, np.uint8)
    expected[5:15, 10:20] = 1
    assert np.array_equal(read(out / "masks/a.png"), expected)
    assert summary.areas == {"spot": 1}
    assert (out / "images.txt").read_text() == "a.jpg\n"


def test_a_circle(root):
    write_labelme(root / "a.json", [shape("circle", [[30, 20], [30, 30]])])

    _, out = from_labelme(root)

    rows, columns = np.nonzero(read(out / "masks/a.png"))
    assert len(rows) == pytest.approx(np.pi * 100, rel=0.03)
    assert (rows.mean(), columns.mean()) == pytest.approx((19.5, 29.5), abs=0.1)


@pytest.mark.parametrize("corner", [(50, 35), (-2, -3)])
def test_a_mask_is_put_at_its_place_and_cut_at_the_border(root, corner):
    part = np.full((8, 12), 255, np.uint8)
    part[0, 0] = 0
    left, top = corner
    points = [[left, top], [left + 11, top + 7]]
    write_labelme(root / "a.json", [shape("mask", points, mask=picture(part))])

    _, out = from_labelme(root)

    large = np.zeros((SIZE[0] + 40, SIZE[1] + 40), np.uint8)
    large[20 + top : 28 + top, 20 + left : 32 + left] = part > 0
    assert np.array_equal(read(out / "masks/a.png"), large[20:-20, 20:-20])


def test_folders_and_foreign_separators(root):
    write_labelme(root / "json/a.json", [], imagePath="..\\raw\\a.jpg")
    write_labelme(root / "raw/b.json", [shape("polygon", SQUARE_POINTS)])

    _, out = from_labelme(root)

    assert (out / "images.txt").read_text() == "raw/a.jpg\nraw/b.jpg\n"
    assert read(out / "masks/raw/b.png").any()


def test_what_labelme_files_are_left_out(root):
    broken = shape("mask", [[1, 1], [2, 2]], mask="no base64!")
    no_picture = shape("mask", [[1, 1], [2, 2]], mask=base64.b64encode(b"x").decode())
    write_labelme(
        root / "a.json",
        [
            shape("line", [[1, 1], [5, 5]]),
            shape("point", [[1, 1]]),
            broken,
            no_picture,
            shape("polygon", SQUARE_POINTS, label="dust"),
            shape("polygon", SQUARE_POINTS, label=None),
            shape("circle", [[1, 1], [1e12, 1]]),
            shape("circle", [[1, 1], [float("nan"), 1]]),
            shape("mask", [[1, 1]], mask=picture(np.ones((41, 5), np.uint8))),
            shape("mask", [[1, 1]], mask=picture(np.eye(40, 60, dtype=np.uint8))[:80]),
            shape("polygon", [[1, 1], [2, 2]]),
        ],
    )
    write_labelme(root / "b.json", [shape("polygon", SQUARE_POINTS)])
    (root / "other.json").write_text("{}")

    summary, _ = from_labelme(root, classes=["spot"])

    assert summary.dropped == {
        "is no file of labelme": ["other.json"],
        "class 'dust' is not asked for": ["a.json, shape 4 (a.jpg)"],
        "a line of 2 point(s) has no area": ["a.json, shape 0 (a.jpg)"],
        "a point of 1 point(s) has no area": ["a.json, shape 1 (a.jpg)"],
        "its mask is no base64 text": ["a.json, shape 2 (a.jpg)"],
        "its mask is no picture, or a damaged one": [
            "a.json, shape 3 (a.jpg)",
            "a.json, shape 9 (a.jpg)",
        ],
        "has no label": ["a.json, shape 5 (a.jpg)"],
        "lies far outside the image": ["a.json, shape 6 (a.jpg)"],
        "one of its points is no finite number": ["a.json, shape 7 (a.jpg)"],
        "its mask is larger than the image": ["a.json, shape 8 (a.jpg)"],
        "a polygon of fewer than 3 points": ["a.json, shape 10 (a.jpg)"],
    }


def test_two_labelme_files_of_one_image(root):
    write_labelme(root / "a.json", [shape("polygon", SQUARE_POINTS)])
    write_labelme(root / "copy.json", [], imagePath="a.jpg")

    with pytest.raises(DataError, match=r"a\.jpg is listed twice"):
        from_labelme(root)


def test_no_labelme_files(root):
    with pytest.raises(DataError, match=r"holds no \.json file of labelme"):
        from_labelme(root)


def test_a_labelme_file_without_a_size(root):
    write_labelme(root / "a.json", [], imageHeight=None)

    with pytest.raises(DataError, match=r"states no size, and the image cannot be read: a\.jpg"):
        from_labelme(root)


def test_names_of_labelme_that_are_no_class(root):
    inner = [[12, 7], [16, 7], [16, 11], [12, 11]]
    corner = [[0, 0], [4, 0], [4, 4], [0, 4]]
    everything = [[0, 0], [60, 0], [60, 40], [0, 40]]
    shapes = [
        shape("polygon", everything, "_background_"),
        shape("polygon", SQUARE_POINTS),
        shape("polygon", inner, "_background_"),
        shape("polygon", corner, "__ignore__"),
    ]
    write_labelme(root / "a.json", shapes)
    write_pictures(root)

    summary, out = from_labelme(root)

    expected = np.zeros(SIZE, np.uint8)
    expected[5:15, 10:20] = 1
    expected[7:11, 12:16] = 0
    expected[:4, :4] = 255
    assert np.array_equal(read(out / "masks/a.png"), expected)
    assert (out / "labels.txt").read_text() == "background\nspot\n"
    assert summary.areas == {"spot": 1}
    assert summary.changed == {
        "called _background_: drawn as 0, no class": [
            "a.json, shape 0 (a.jpg)",
            "a.json, shape 2 (a.jpg)",
        ],
        "called __ignore__: drawn as 255, no class": ["a.json, shape 3 (a.jpg)"],
    }


def test_a_category_of_coco_for_the_background_cuts_holes(root):
    file = write_categories(root, "dent", "_background_", "spot")
    content = json.loads(file.read_text())
    inner = [12, 7, 16, 7, 16, 11, 12, 11]
    content["annotations"].append(annotation(category=1, segmentation=[inner]))
    file.write_text(json.dumps(content))

    convert_coco(file, root, root, root.parent / "out", "train")

    assert (root.parent / "out/labels.txt").read_text() == "background\ndent\nspot\n"
    assert np.array_equal(np.unique(read(root.parent / "out/masks/a.png")), [0, 2])
    assert (read(root.parent / "out/masks/a.png") == 2).sum() == 100 - 16
