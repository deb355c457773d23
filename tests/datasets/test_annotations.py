from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aicore.datasets.annotations import (
    agreed_size,
    as_bool,
    as_id,
    check_points,
    coco_polygons,
    read_coco,
    read_json,
    read_labelme,
    stated_size,
)
from aicore.errors import DataError

SIZE = (40, 60)  # height, width
FAULTY_POINTS = [
    ([(1, 2), (float("nan"), 3)], "no finite number"),
    ([(1, 2), (3, float("inf"))], "no finite number"),
    ([1, 2, None, 4], "no finite number"),
    ([(1, 2), (1e12, 3)], "lies far outside the image"),
    ([(1, 2), (3, -61)], "lies far outside the image"),
    ([(1, 2), (121, 3)], "lies far outside the image"),
    ([(1, 2, 3)], "not pairs of numbers"),
    ([(1, 2), (3,)], "not pairs of numbers"),
    ([1, 2, 3], "not pairs of numbers"),
    ([1, "x"], "not pairs of numbers"),
    ([1, 10**400], "not pairs of numbers"),
    ([[[1, 2]]], "not pairs of numbers"),
    ({"x": 1}, "not pairs of numbers"),
    (None, "not pairs of numbers"),
]


# ---- values ----


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "1.0", "true", "True", " YES "])
def test_what_is_true(value):
    assert as_bool(value) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "0", "false", "False", "no", "", None])
def test_what_is_false(value):
    assert as_bool(value) is False


@pytest.mark.parametrize("value", [2, -1, float("nan"), "maybe", [0], {}])
def test_what_is_no_truth_value(value):
    with pytest.raises(ValueError, match=r"^is .*, expected 0 or 1$"):
        as_bool(value)


def test_ids():
    assert [as_id(value) for value in (1, "1", 1.0, " 1 ", "-1", "a1", "")] == [
        *[1] * 4,
        *[-1, "a1", ""],
    ]
    assert as_id("9" * 5000) == "9" * 5000  # python turns no such text into a number
    for value in (True, None, 10**400, 1e300, 1.5, float("nan"), float("inf"), [1], {}):
        with pytest.raises(ValueError, match="expected a whole number"):
            as_id(value)


def test_sizes_that_are_stated():
    assert stated_size(40, 60) == stated_size("40", 60.0) == SIZE
    for height in (0, -3, 10**400, 1e300, 40.5, float("nan"), None, "x", True, [40]):
        assert stated_size(height, 60) is None


def test_the_size_of_the_file_and_the_stated_one():
    assert agreed_size(SIZE, SIZE) == agreed_size(None, SIZE) == agreed_size(SIZE, None) == SIZE
    with pytest.raises(ValueError, match=r"60 x 40 pixels .*, but the file has 30 x 20: "):
        agreed_size(SIZE, (20, 30))
    with pytest.raises(ValueError, match="states no size, and the image cannot be read"):
        agreed_size(None, None)
    with pytest.raises(ValueError, match="a size of 200000 x 200000 pixels, more than any image"):
        agreed_size((200_000, 200_000), None)


def test_points():
    expected = [[-60, 40.5], [120, 100]]

    for points in (expected, np.array(expected), [-60, 40.5, "120", 100]):
        found = check_points(points, SIZE)
        assert (found.dtype, found.tolist()) == (np.float64, expected)
    assert check_points([], SIZE).shape == (0, 2)


@pytest.mark.parametrize(("points", "reason"), FAULTY_POINTS)
def test_faulty_points(points, reason):
    with pytest.raises(ValueError, match=reason):
        check_points(points, SIZE)


def test_points_of_an_image_of_unknown_size():
    assert len(check_points([(9999, 3)], None)) == 1
    with pytest.raises(ValueError, match="far outside"):
        check_points([(1e12, 3)], None)


# ---- files ----


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            '{"label": "裂纹"}'.encode("gbk"),
            r"is not a text file in UTF-8: .* reads as GBK",
        ),
        (
            '{"label": "a"}'.encode("utf-16"),
            r"is not a text file in UTF-8: .* reads as UTF-16",
        ),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "holds the key 'c' twice in one object"),
        (b"[" * 100_000, "is no JSON file"),
        (b"", "is no JSON file"),
        (b"3", "holds a int, expected an object"),
    ],
)
def test_a_json_file_that_cannot_be_used(tmp_path, data, reason):
    (tmp_path / "a.json").write_bytes(data)

    with pytest.raises(DataError, match=r"a\.json' " + reason):
        read_json(tmp_path / "a.json")


def coco_file(folder: Path, **more) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": "2", "file_name": "sub\\b.png"}],
        "categories": [{"id": "9", "name": "spot"}, {"id": 2.0, "name": "dent"}],
        "annotations": [],
        **more,
    }
    file = folder / "ann.json"
    file.write_text(json.dumps(content))
    return file


def test_ids_of_coco_as_numbers_or_text(tmp_path):
    ids = [("1", 9), (1.0, "9"), (2, 2), ("2", "2"), (3, 2), (None, 2)]
    annotations = [{"image_id": i, "category_id": c} for i, c in ids]

    coco = read_coco(coco_file(tmp_path, annotations=annotations))

    assert coco.categories == {2: "dent", 9: "spot"}
    assert [image.file_name for image in coco.images] == ["a.png", "sub/b.png"]
    labels = [[coco.label_of(a) for a in image.annotations] for image in coco.images]
    assert labels == [["spot", "spot"], ["dent", "dent"]]
    assert coco.strays == annotations[4:]
    for category in (3, None, [2], float("nan")):
        with pytest.raises(ValueError, match="is not among the categories"):
            coco.label_of({"category_id": category})


def test_a_category_of_coco_that_stands_twice_alike(tmp_path):
    file = tmp_path / "a.json"
    categories = [{"id": 1, "name": "dent"}, {"id": 2, "name": "spot"}, {"id": 1, "name": "dent"}]
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))

    assert read_coco(file).categories == {1: "dent", 2: "spot"}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"categories": [{"id": 1, "name": "dent"}, {"id": "1", "name": "scratch"}]},
            "holds two categories of the id 1: 'dent' and 'scratch'. Each needs its own",
        ),
        (
            {"images": [{"id": 1, "file_name": "a.png"}, {"id": 1.0, "file_name": "b.png"}]},
            "holds two images of the id 1: 'a.png' and 'b.png'",
        ),
        (
            {"images": [{"id": i, "file_name": name} for i, name in enumerate(["s/a", "./s\\a"])]},
            "s/a is listed twice",
        ),
        (
            {"categories": [{"id": True, "name": "dent"}]},
            "entry 0 of 'categories' has the id True; expected a whole number",
        ),
    ],
)
def test_a_coco_file_of_ambiguous_entries(tmp_path, more, reason):
    with pytest.raises(DataError, match=reason):
        read_coco(coco_file(tmp_path, **more))


def test_polygons_of_coco():
    flat, pairs = [1, 2, 3, 4, 5, 6.5], [[1, 2], [3, 4], [5, 6.5]]

    for segmentation in (flat, [flat], [pairs], [[], flat, [1, 2]]):
        (polygon,) = coco_polygons(segmentation, SIZE)
        assert polygon.tolist() == pairs
    assert len(coco_polygons([flat, flat], SIZE)) == 2


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"counts": [1]}, "its segmentation is a dict, expected polygons"),
        ([[1, 2, 3, 4]], "a polygon of fewer than 3 points"),
        ([[1, 2, 3, 4, 5]], "not pairs of numbers"),
        ([[1, 2, 3, 4, 5, 1e12]], "lies far outside"),
        ([{}], "not pairs of numbers"),
    ],
)
def test_what_are_no_polygons(segmentation, reason):
    with pytest.raises(ValueError, match=reason):
        coco_polygons(segmentation, SIZE)


@pytest.mark.parametrize("path", [{}, {"imagePath": None}, {"imagePath": ""}, {"imagePath": 3}])
def test_a_file_of_labelme_that_names_no_image(tmp_path, path):
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [], **path}))

    with pytest.raises(DataError, match=r"its imagePath is .*, expected the path of its image"):
        read_labelme(tmp_path / "a.json")
