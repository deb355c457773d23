from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

from aicore.visualization import fonts
from aicore.visualization.drawing import (
    Box,
    class_color,
    draw_areas,
    draw_boxes,
    draw_caption,
    draw_heat,
    draw_heat_bar,
    draw_legend,
    enlarge,
    side_by_side,
    tile,
    to_display,
    widen,
)
from aicore.visualization.fonts import font_families, font_for, load_font

GREEN = (80, 200, 80)


BLUE = (230, 60, 10)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def strip_of(picture: np.ndarray, height: int) -> np.ndarray:
    return picture[height:]


# ---- to_display ----


def test_colour_stays(image):
    shown = to_display(image)

    assert np.array_equal(shown, image)
    assert shown is not image


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_grey_becomes_colour(shape):
    grey = np.arange(20, dtype=np.uint8).reshape(shape)

    shown = to_display(grey)

    assert shown.shape == (4, 5, 3)
    assert all(np.array_equal(shown[..., channel], grey.reshape(4, 5)) for channel in range(3))


def test_sixteen_bits_are_scaled_down():
    deep = np.array([[0, 257, 65535, 32896]], np.uint16)

    assert to_display(deep)[0, :, 0].tolist() == [0, 1, 255, 128]


def test_floats_are_rounded_and_clipped():
    values = np.array([[-5.0, 0.4, 99.6, 300.0]], np.float32)

    assert to_display(values)[0, :, 0].tolist() == [0, 0, 100, 255]


# ---- captions ----


def test_the_caption_stands_below_the_image(image):
    before = image.copy()

    picture = draw_caption(image, "scratch 0.98", GREEN)

    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (80, 3)
    assert np.array_equal(picture[:60], before)
    assert np.array_equal(image, before)
    strip = strip_of(picture, 60)
    assert tuple(strip.reshape(-1, 3).max(axis=0)) == GREEN
    assert strip[:, :2].max() == 0  # begins with a margin


def test_other_texts_give_other_strips(image):
    first, second = (draw_caption(image, text, GREEN) for text in ("good", "spot"))

    assert not np.array_equal(first, second)


def test_a_long_text_shrinks_and_is_cut_inside_the_margin(image):
    long = strip_of(draw_caption(image, "a very long name of a class " * 5, GREEN), 60)

    assert long[:, -2:].max() == 0
    assert long[:, -14:].max() > 0  # the ellipsis
    assert long.shape[0] == 15  # the smallest size


def test_a_text_shrinks_before_it_is_cut():
    wide, narrow = np.zeros((500, 600), np.uint8), np.zeros((500, 150), np.uint8)

    large = strip_of(draw_caption(wide, "scratch 0.98", GREEN), 500)
    small = strip_of(draw_caption(narrow, "scratch 0.98", GREEN), 500)

    assert large.shape[0] == 60
    assert 15 < small.shape[0] < 60
    assert small[:, -3:].max() == 0


@pytest.mark.parametrize("text", ["", "x"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 2), (3, 100)])
def test_tiny_images(shape, text):
    picture = draw_caption(np.zeros(shape, np.uint8), text, GREEN)

    assert picture.shape[1:] == (shape[1], 3)
    assert picture.shape[0] == shape[0] + 15


def test_a_chinese_name_is_drawn(image):
    strip = strip_of(draw_caption(image, "划痕", GREEN), 60)

    assert strip.max() > 100


# ---- enlarging and tiling ----


@pytest.mark.parametrize(
    ("shape", "enlarged"), [((30, 60), (100, 200)), ((300, 100), (300, 100)), ((1, 200), (1, 200))]
)
def test_enlarge(shape, enlarged):
    assert enlarge(np.zeros(shape, np.uint8), 200).shape == (*enlarged, 3)


# ---- areas ----


def test_an_area_is_tinted_within_its_contour(image):
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:50] = True

    picture = draw_areas(image, [(mask, GREEN)], opacity=0.5)

    assert np.array_equal(picture[~mask], image[~mask])
    assert np.all(picture[10, 20:50] == GREEN)
    inside = np.round(0.5 * image[11:29, 21:49] + 0.5 * np.array(GREEN))
    assert np.array_equal(picture[11:29, 21:49], inside)


def test_a_mask_of_another_size_is_scaled_to_the_image(image):
    mask = np.zeros((6, 8), bool)
    mask[1:3, 2:5] = True

    found = draw_areas(image, [(mask, GREEN)], opacity=1.0)

    assert np.all(found[10:30, 20:50] == GREEN)
    assert np.array_equal(found[30:], image[30:])


def test_the_legend_has_a_square_of_each_colour(image):
    picture = draw_legend(image, [("scratch", GREEN), ("dent", BLUE)])

    strip = strip_of(picture, 60)
    assert np.array_equal(picture[:60], image)
    assert all((strip == color).all(axis=2).sum() > 50 for color in (GREEN, BLUE))


def test_a_legend_goes_on_in_the_next_line(image):
    short, long = (draw_legend(image, [("scratch", GREEN)] * count) for count in (1, 4))

    assert (len(long) - 60) == 4 * (len(short) - 60)


def test_a_legends_text_on_a_narrow_image_is_cut_inside_it(image):
    picture = draw_legend(image[:, :50], [("a very long name of a class", GREEN)])

    strip = strip_of(picture, 60)
    assert strip.any()
    assert not strip[:, -4:].any()


def test_an_entry_without_a_colour_is_text_alone(image):
    strip = strip_of(draw_legend(image, [("truth", None)]), 60)

    assert strip.max() == 255
    assert np.array_equal(strip[..., 0], strip[..., 1])  # white on black


def test_no_legend(image):
    assert np.array_equal(draw_legend(image, []), image)


def test_colours_of_classes_differ():
    colors = np.array([class_color(index) for index in range(12)], float)

    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2)
    assert distances[~np.eye(12, dtype=bool)].min() > 40


def test_side_by_side(image):
    picture = side_by_side([image, image[:30]])

    assert picture.shape == (60, 2 * 80 + 4, 3)
    assert np.array_equal(picture[:, :80], image)
    assert np.array_equal(picture[:30, 84:], image[:30])


def test_a_narrow_image_is_widened(image):
    wide = widen(image, 101)

    assert wide.shape == (60, 101, 3)
    assert np.array_equal(wide[:, 10:90], image)
    assert (wide[:, :10] == 40).all()
    assert np.array_equal(widen(image, 70), image)


def test_tiles_stand_in_rows():
    colours = [np.full((10, 10), 50 * (index + 1), np.uint8) for index in range(5)]

    grid = tile(colours, columns=3, cell=20)

    assert grid.shape == (48, 72, 3)
    centres = [grid[12 + 24 * (index // 3), 12 + 24 * (index % 3), 0] for index in range(6)]
    assert centres == [50, 100, 150, 200, 250, 40]  # the last cell is empty
    assert grid[0, 0].tolist() == [40, 40, 40]  # the gap


def test_a_tile_keeps_its_shape():
    wide, high = np.full((40, 80), 255, np.uint8), np.full((80, 40), 200, np.uint8)

    grid = tile([wide, high], columns=2, cell=20)

    rows, columns = np.nonzero(grid[..., 0] == 255)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (10, 20)
    assert rows.min() == 2 + 5
    assert columns.min() == 2


def test_rows_of_wide_images_leave_no_empty_bands():
    grid = tile([np.full((40, 80), 255, np.uint8)] * 2, columns=1, cell=20)

    assert grid.shape == (2 * (10 + 4), 24, 3)


@pytest.mark.parametrize(("shape", "height"), [((5000, 3), 64), ((3, 5000), 1), ((1, 1), 64)])
def test_a_tile_of_a_line_scan(shape, height):
    grid = tile([np.full(shape, 255, np.uint8)], columns=1, cell=64)

    assert grid.shape == (height + 4, 68, 3)
    assert (grid == 255).any()


def test_no_tiles():
    assert tile([], columns=3, cell=20).shape == (0, 72, 3)


# ---- boxes ----

RED = (60, 60, 230)


def colored(image: np.ndarray, color) -> np.ndarray:
    """Returns where pixels of a colour lie: top, left, bottom, right."""
    rows, columns = np.nonzero((image == color).all(axis=2))
    return np.array([rows.min(), columns.min(), rows.max(), columns.max()])


def test_a_box_and_its_label():
    black = np.zeros((200, 300, 3), np.uint8)

    drawn = draw_boxes(black, [Box((100, 80, 180, 150), "spot 0.87", RED)])

    assert not black.any()
    assert drawn.shape == black.shape
    for x, y in ((100, 110), (180, 110), (140, 80), (140, 150)):
        assert tuple(drawn[y, x]) == RED
    assert not drawn[85:145, 105:175].any()
    label = drawn[60:79, 100:180]
    assert tuple(label[-1, 0]) == RED  # it stands on the box
    assert (label == 255).all(axis=2).any()  # white on red


@pytest.mark.parametrize(
    "corners",
    [
        (0, 0, 60, 40),
        (250, 0, 299, 40),
        (0, 170, 40, 199),
        (280, 180, 299, 199),
        (0, 0, 299, 199),
        (-30, -30, 20, 20),
        (280, 150, 400, 300),
    ],
)
def test_labels_stay_inside(corners):
    black = np.zeros((200, 300, 3), np.uint8)
    box = Box(corners, "a long name 0.87", RED)

    plain = draw_boxes(black, [Box(corners, "", RED)])
    labelled = draw_boxes(black, [box])

    top, left, bottom, right = colored(np.where(plain == labelled, 0, labelled), RED)
    assert right - left > 90  # all of it
    assert bottom - top > 10


def test_labels_do_not_hide_each_other():
    black = np.zeros((200, 300, 3), np.uint8)
    corners = (100, 80, 200, 150)
    boxes = [Box(corners, "spot 0.87", RED), Box(corners, "spot 0.87", GREEN)]

    drawn = draw_boxes(black, boxes)

    labels = [(drawn == color).all(axis=2).sum() for color in (RED, GREEN)]
    assert labels[0] > 500  # the first one's edges are on top
    assert labels[1] > 500
    many = draw_boxes(black, [*boxes * 4, Box(corners, "spot 0.87", BLUE)])
    assert not (many == BLUE).all(axis=2).any()  # no room is left for it


def test_a_dashed_box():
    black = np.zeros((200, 300, 3), np.uint8)

    drawn = draw_boxes(black, [Box((100, 80, 180, 150), "", RED, dashed=True)])

    for edge in (drawn[80, 100:181], drawn[150, 100:181], drawn[80:151, 100], drawn[80:151, 180]):
        share = (edge == RED).all(axis=1).mean()
        assert 0.3 < share < 0.9
    assert not drawn[85:145, 105:175].any()


@pytest.mark.parametrize(("color", "text"), [((0, 240, 255), 0), ((200, 30, 30), 255)])
def test_labels_can_be_read_on_their_colour(color, text):
    gray = np.full((200, 300, 3), 90, np.uint8)

    drawn = draw_boxes(gray, [Box((100, 80, 180, 150), "spot", color)])

    assert (drawn == text).all(axis=2).any()
    assert not (drawn == 255 - text).all(axis=2).any()


def test_no_box(image):
    assert np.array_equal(draw_boxes(image, []), image)


# ---- heat ----


def test_heat_covers_the_image_the_more_the_hotter_it_is(image):
    heat = np.linspace(0, 1, 80)[None].repeat(60, axis=0)

    drawn = draw_heat(image, heat)

    assert drawn.shape == image.shape
    assert np.array_equal(drawn[:, 0], image[:, 0])
    left = [drawn[:, x, 0].std() / image[:, x, 0].std() for x in (0, 30, 60, 79)]
    assert left == sorted(left, reverse=True)
    red = draw_heat(np.full((60, 80), 90), heat)[0, :, 2].astype(int)
    assert red[70] - red[5] > 100


def test_heat_of_another_size_is_scaled_and_clipped(image):
    heat = np.array([[0.0, 7.0]])

    drawn = draw_heat(image, heat)

    assert np.array_equal(drawn[:, :20], image[:, :20])
    assert np.array_equal(drawn[:, 60:], draw_heat(image, np.ones((60, 80)))[:, 60:])


@pytest.mark.parametrize("width", [200, 320, 1000])
def test_the_bar_of_the_heat(width):
    black = np.zeros((100, width, 3), np.uint8)
    ticks = [(0.0, "score 0", RED), (0.5, "a half", GREEN), (1.0, "1", BLUE)]

    drawn = draw_heat_bar(black, ticks)

    assert drawn.shape[1] == width
    assert not drawn[:100].any()
    strip = drawn[100:]
    spans = [colored(strip, color)[[1, 3]] for color in (RED, GREEN, BLUE)]
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert spans[0][0] >= 3
    assert spans[2][1] <= width - 3
    assert spans[1].mean() == pytest.approx(width / 2, abs=4)
    quarter = draw_heat(np.full((1, 1), 128), np.full((1, 1), 0.25))[0, 0].astype(int)
    assert np.abs(strip[:, width // 4] - quarter).max(axis=1).min() < 12


def test_a_bar_that_is_too_narrow_for_its_texts():
    drawn = draw_heat_bar(np.zeros((5, 4), np.uint8), [(0.0, "long", RED), (1.0, "long", RED)])

    assert drawn.shape[1] == 4


# ---- fonts ----


def test_plain_text_has_matplotlibs_own_font():
    font = font_for("scratch", 20)

    assert font.size == 20
    assert font.getname()[0] == "DejaVu Sans"
    assert font_for("scratch", 20) is font


def test_families_begin_with_matplotlibs_own():
    families = font_families()

    assert families[0] == "DejaVu Sans"
    assert len(families) <= 2
    installed = {entry.name for entry in matplotlib.font_manager.fontManager.ttflist}
    assert set(families) <= installed


def test_an_installed_cjk_font_is_found(monkeypatch):
    entries = [SimpleNamespace(name="Any", fname="a"), SimpleNamespace(name="SimHei", fname="b")]
    monkeypatch.setattr(fonts.fontManager, "ttflist", entries)

    assert fonts._cjk_font.__wrapped__() == ("SimHei", "b")
    monkeypatch.setattr(fonts.fontManager, "ttflist", entries[:1])
    assert fonts._cjk_font.__wrapped__() is None


def test_chinese_text_has_the_cjk_font_where_there_is_one():
    families = font_families()

    assert font_for("划痕 3", 20).getname()[0] == families[-1]
    assert load_font(20, cjk=True) is font_for("划痕", 20)


@pytest.mark.parametrize(
    "text", ["a\nb", "\t", "\x1b[2J", "\udcff", "\u202eb", "零\U0001f600", "$x"]
)
def test_a_name_of_any_characters_is_drawn(image, text):
    assert draw_caption(image, text, (0, 0, 255)).shape[0] > image.shape[0]
    assert draw_boxes(image, [Box((1, 1, 9, 9), text, (0, 0, 255))]).shape == image.shape


@pytest.mark.parametrize("dashed", [False, True])
@pytest.mark.parametrize("value", [1e12, float("inf")])
def test_a_box_far_outside_is_drawn_where_it_is_seen(image, value, dashed):
    drawn = draw_boxes(image, [Box((-value, 5, value, value), "", (0, 0, 255), dashed)])

    assert np.any(drawn[5] != image[5])
    assert np.array_equal(drawn[-1], image[-1])
