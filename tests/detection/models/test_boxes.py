from __future__ import annotations

import pytest
import torch
from mmengine.structures import InstanceData

from aicore.detection.models.boxes import best_classes, join_tiles, suppress, to_original
from aicore.runtime.tiling import Window

SIZE = (64, 224)  # height, width of an image
LEFT, RIGHT = Window(0, 0, 64, 128), Window(0, 96, 64, 224)  # 32 pixels overlap


def objects(*items) -> InstanceData:
    """Objects of (x1, y1, x2, y2, score, label)."""
    table = torch.tensor(items, dtype=torch.float32).reshape(-1, 6)
    return InstanceData(bboxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].long())


def joined(left, right) -> list[tuple[float, ...]]:
    found = join_tiles([objects(*left), objects(*right)], [LEFT, RIGHT], SIZE)
    return [tuple(box) for box in found.bboxes.tolist()]


# ---- one image ----


def test_a_box_has_its_best_class_alone():
    output = torch.tensor([[0, 0, 9, 9, 0.2, 0.7], [1, 1, 5, 5, 0.1, 0.05], [2, 2, 8, 8, 0.3, 0.3]])

    found = best_classes(output, 0.3)

    assert found.bboxes.tolist() == [[0, 0, 9, 9], [2, 2, 8, 8]]
    assert found.scores.tolist() == pytest.approx([0.7, 0.3])
    assert found.labels.tolist() == [1, 0]


def test_nothing_scores_enough():
    assert len(suppress(best_classes(torch.zeros(5, 7), 0.1), 0.65, 10)) == 0


def test_suppression_is_within_a_class_and_best_first():
    found = objects(
        (0, 0, 10, 10, 0.6, 0),
        (0, 0, 10, 9, 0.8, 0),  # IoU 0.9 with the first
        (0, 0, 10, 10, 0.7, 1),
        (0, 0, 10, 5, 0.5, 0),  # IoU 5/9 with the second
    )

    kept = suppress(found, 0.65, 10)

    assert kept.scores.tolist() == pytest.approx([0.8, 0.7, 0.5])
    assert suppress(found, 0.65, 2).scores.tolist() == pytest.approx([0.8, 0.7])


def test_the_original_size():
    found = objects((10, 20, 60, 40, 0.9, 3), (-8, -8, 400, 400, 0.8, 1), (300, 0, 320, 8, 0.7, 0))

    moved = to_original(found, (2.0, 4.0), (50, 100))

    assert moved.bboxes.tolist() == [[5, 5, 30, 10], [0, 0, 100, 50]]
    assert moved.labels.tolist() == [3, 1]
    assert found.bboxes[0].tolist() == [10, 20, 60, 40]


# ---- tiles ----


def test_a_part_of_what_the_other_tile_has_whole_is_left_out():
    assert joined([(104, 8, 128, 40, 0.9, 0)], [(104, 8, 160, 40, 0.8, 0)]) == [(104, 8, 160, 40)]
    assert joined([(70, 8, 120, 40, 0.5, 0)], [(96, 8, 120, 40, 0.9, 0)]) == [(70, 8, 120, 40)]


def test_a_predicted_box_is_not_quite_at_the_border_or_beyond_it():
    for x2 in (124, 127.5, 140):
        found = joined([(104, 8, x2, 40, 0.9, 0)], [(103, 9, 160, 41, 0.8, 0)])
        assert found == [(103, 9, 160, 41)]


def test_what_two_tiles_see_whole_is_left_to_suppression():
    found = join_tiles(
        [objects((105, 8, 118, 40, 0.9, 0)), objects((106, 8, 118, 40, 0.8, 0))],
        [LEFT, RIGHT],
        SIZE,
    )

    assert len(found) == 2
    assert suppress(found, 0.65, 10).scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ((104, 8, 128, 40, 0.9, 1), (104, 8, 160, 40, 0.8, 0)),  # another class
        ((104, 8, 128, 40, 0.9, 0), (120, 8, 160, 40, 0.8, 0)),  # mostly beside it
        ((104, 8, 128, 40, 0.9, 0), (104, 8, 160, 40, 0.1, 0)),  # hardly believed
        ((104, 8, 112, 40, 0.9, 0), (104, 8, 160, 40, 0.8, 0)),  # ends within the tile
    ],
)
def test_a_box_that_is_no_part_is_kept(part, whole):
    assert joined([part], [whole]) == [part[:4], whole[:4]]


def test_what_ends_at_the_edge_of_the_image_is_whole():
    left, right = (0, 0, 60, 64, 0.9, 0), (170, 0, 224, 64, 0.9, 0)

    assert joined([left], [right]) == [left[:4], right[:4]]


def test_an_object_larger_than_the_overlap_is_found_once_if_one_tile_has_most_of_it():
    """Both tiles cut it; the larger part stays."""
    assert joined([(90, 8, 128, 40, 0.8, 0)], [(96, 8, 180, 40, 0.8, 0)]) == [(96, 8, 180, 40)]


def test_a_part_in_the_corner_of_four_tiles():
    tiles = [Window(y, x, y + 64, x + 64) for y in (0, 48) for x in (0, 48)]
    seen = (48, 48, 64, 64, 0.9, 0)  # of (44, 44, 70, 64): whole in none but (0, 0)'s rows
    found = join_tiles(
        [
            objects((40, 44, 64, 60, 0.8, 0)),  # cut at the right
            objects((48, 44, 70, 60, 0.8, 0)),  # cut at the left
            objects((40, 48, 64, 60, 0.7, 0)),
            objects(),
        ],
        tiles,
        (112, 112),
    )

    assert seen[:4] not in [tuple(box) for box in found.bboxes.tolist()]
    assert [tuple(box) for box in found.bboxes.tolist()] == [(40, 44, 64, 60)]


def test_no_objects_at_all():
    assert joined([], []) == []
    assert joined([], [(104, 8, 160, 40, 0.8, 0)]) == [(104, 8, 160, 40)]
