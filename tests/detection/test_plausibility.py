from __future__ import annotations

from pathlib import Path

import pytest

from aicore.datasets.findings import ERROR, NOTE, WARNING
from aicore.detection.annotations import AnnotatedImage, Annotations, Box
from aicore.detection.plausibility import findings_of

SIZE = (40, 60)  # height, width
GOOD = Box(1, "spot", (10, 5, 30, 15))


def told(*boxes: Box, size=SIZE, has_widths: bool = False, **settings) -> list[tuple[str, str]]:
    """Returns level and text of what is said of the boxes of one image."""
    image = AnnotatedImage(Path("a.png"), size, Path("a.txt"), boxes=list(boxes))
    annotations = Annotations(Path("all"), (), [image], "line", has_widths=has_widths)
    found = findings_of(annotations, ("spot", "dent"), **settings)
    return [(finding.level, finding.text) for finding in found]


def warnings(*boxes: Box, **settings) -> list[tuple[str, str]]:
    return [(level, text) for level, text in told(*boxes, **settings) if level != NOTE]


def test_the_smallest_and_the_largest_box():
    boxes = GOOD, Box(2, "dent", (0, 0, 2.5, 4)), Box(3, "dent", (1, 1, 50, 31))
    text = "boxes from 2.5 x 4 to 49 x 30 pixels (width x height)"

    assert told(*boxes) == [(NOTE, text)]
    assert told(*boxes, input_size=(80, 80)) == [
        (NOTE, f"{text}; in the network's input, 80 x 80, from 3.33 x 5.33 to 65.3 x 40")
    ]
    assert told(*boxes, input_size=(80, 80), size=None) == [
        (NOTE, f"{text}; in the network's input, 80 x 80, from 2.5 x 4 to 49 x 30")
    ]
    assert told() == []


def test_a_sound_split_gives_no_warning():
    assert warnings(GOOD, Box(2, "dent", GOOD.corners), input_size=(40, 40)) == []


@pytest.mark.parametrize(("training", "level"), [(True, ERROR), (False, WARNING)])
def test_all_boxes_are_ignored(training, level):
    boxes = [GOOD._replace(number=n, ignored=True, corners=(n, 1, 20, 9)) for n in (1, 2)]

    ((found, text),) = told(*boxes, training=training)

    assert found == level
    assert text.startswith("all 2 boxes are marked to be ignored (iscrowd, difficult")


def test_the_share_of_ignored_boxes():
    ignored = Box(2, "", (1, 1, 2, 2), ignored=True)

    assert (
        NOTE,
        "boxes marked to be ignored (iscrowd, difficult, __ignore__): 1 of 2 (50%)",
    ) in told(GOOD, ignored)
    assert warnings(GOOD, ignored) == []


def test_boxes_smaller_than_a_pixel():
    small = Box(2, "dent", (0.2, 0.3, 0.7, 9))
    text = "boxes narrower or lower than a pixel: 1 of {}; are they in shares of the image?"

    ((level, some),) = warnings(GOOD, small)
    ((worse, all_of_them),) = warnings(small)

    assert (level, worse) == (WARNING, ERROR)
    assert (some, all_of_them) == (text.format(2), text.format(1))


def test_boxes_too_small_in_the_input_of_the_network():
    narrow = Box(2, "dent", (1, 1, 4, 20))

    ((level, text),) = warnings(GOOD, narrow, input_size=(20, 30))

    assert level == WARNING
    assert text.startswith("boxes narrower or lower than 2 pixels in the network's input: 1 of 2")
    assert warnings(GOOD, narrow, input_size=(40, 60)) == []


def test_boxes_that_cover_their_image():
    whole = Box(2, "dent", (-1, 0, 60, 41))

    assert warnings(GOOD, whole) == [(WARNING, "boxes that cover their image: 1 of 2")]
    others = [GOOD._replace(number=n, corners=(n, 1, n + 20, 9)) for n in range(19)]
    assert warnings(*others, whole) == []  # a note
    assert warnings(GOOD, whole._replace(ignored=True)) == []
    assert warnings(GOOD, whole._replace(corners=(0, 0, 60, 39))) == []


def test_boxes_that_stand_twice():
    again = [GOOD._replace(number=number) for number in (2, 3)]
    close = Box(4, "spot", (10, 5, 30, 15.1))

    found = warnings(GOOD, close, *again)

    assert found == [(WARNING, "boxes that stand twice or more: 1; remove the repeated ones")]
    assert warnings(GOOD, close) == []


def test_edges_in_place_of_width_and_height():
    # 30, 10, 50, 35 and 5, 5, 25, 20 as x, y, width and height
    boxes = Box(1, "spot", (30, 10, 80, 45)), Box(2, "dent", (5, 5, 30, 25))

    ((level, text),) = warnings(*boxes, has_widths=True)

    assert level == WARNING
    assert text.startswith(
        "boxes that reach beyond their image: 1 of 2; read as x1, y1, x2, y2 all"
    )
    assert warnings(*boxes) == []
    no_edges = Box(3, "dent", (30, 10, 40, 15))  # its width is less than its left edge
    assert warnings(*boxes, no_edges, has_widths=True) == []
    assert warnings(boxes[1], has_widths=True) == []


def test_faulty_boxes_and_other_classes_are_not_looked_at():
    others = (
        Box(1, "spot", fault="has no bbox"),
        Box(2, "spot", (3, 3, 1, 9)),
        Box(3, "bolt", (0.1, 0.1, 0.2, 0.2)),
    )

    assert told(*others) == []


def test_what_a_reader_passes_over():
    images = [
        AnnotatedImage(
            Path(f"{name}.png"), SIZE, Path(f"{name}.txt"), remarks=["shapes passed over"]
        )
        for name in "ab"
    ]

    (finding,) = findings_of(Annotations(Path("all"), (), images, "line"), ())

    assert finding == (NOTE, "shapes passed over: 2", ["a.txt", "b.txt"])
