from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from aicore.visualization import plots
from aicore.visualization.plots import (
    Panel,
    plot_confusion_matrix,
    plot_histograms,
    plot_panels,
    save_figure,
)

pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from font")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, to look into."""
    figures = []

    def keep(figure: Figure, file) -> None:
        figures.append(figure)
        save_figure(figure, file)

    monkeypatch.setattr(plots, "save_figure", keep)
    return figures


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_confusion_matrix(tmp_path, drawn):
    matrix = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 9]])
    file = tmp_path / "new" / "matrix.png"

    plot_confusion_matrix(matrix, ("good", "划痕", "spot"), file)

    picture = cv2.imread(str(file))
    assert picture is not None
    assert min(picture.shape[:2]) > 200
    (axes,) = drawn[0].axes
    assert axes.get_title() == "17 of 20 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "truth")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["good", "划痕", "spot"]
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "8", (1, 0): "2", (0, 2): "1", (2, 2): "9"}  # x is the prediction
    shares = np.asarray(axes.images[0].get_array())
    assert shares.tolist() == [[0.8, 0.2, 0], [0, 0, 0], [0.1, 0, 0.9]]


def test_counts_can_be_read_on_their_colour(tmp_path, drawn):
    plot_confusion_matrix(np.array([[9, 1], [0, 1]]), ("a", "b"), tmp_path / "m.png")

    colours = {text.get_text(): text.get_color() for text in drawn[0].axes[0].texts[:2]}
    assert colours == {"9": "white", "1": "black"}


@pytest.mark.parametrize(("count", "names", "numbers"), [(20, 20, 20), (21, 21, 0), (41, 0, 0)])
def test_many_classes(tmp_path, drawn, count, names, numbers):
    classes = [f"class {index}" for index in range(count)]

    plot_confusion_matrix(np.eye(count, dtype=int), classes, tmp_path / "m.png")

    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert len([label for label in labels if label.startswith("class")]) == names
    assert len(texts(drawn[0])) == numbers
    assert drawn[0].get_size_inches().max() <= 24


def test_no_image(tmp_path, drawn):
    plot_confusion_matrix(np.zeros((2, 2), int), ("a", "b"), tmp_path / "m.png")

    assert drawn[0].axes[0].get_title() == "0 of 0 right"
    assert (tmp_path / "m.png").stat().st_size > 0


def test_columns_of_other_names(tmp_path, drawn):
    plot_confusion_matrix(
        np.eye(2, dtype=int), ("a", "(nothing)"), tmp_path / "m.png", predicted=("a", "(missed)")
    )

    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "(missed)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "(nothing)"]


def test_limits_of_a_panel(tmp_path, drawn):
    curves = {"one": ([0.2, 0.4], [10, 20])}
    panels = [
        Panel("F1", "confidence", curves, limits=((0, 1), (0, 102))),
        Panel("loss", "epoch", {"one": ([1, 4], [10, 20])}),
    ]

    plot_panels(panels, tmp_path / "p.png")

    bounded, free = drawn[0].axes
    assert bounded.get_xlim() == (0, 1)
    assert bounded.get_ylim() == (0, 102)
    assert 0.2 in [round(tick, 6) for tick in bounded.get_xticks()]
    assert free.get_ylim()[0] > 5
    assert all(tick == round(tick) for tick in free.get_xticks())


def test_no_curve(tmp_path):
    plot_panels([Panel("F1", "confidence", {}, limits=((0, 1), (0, 102)))], tmp_path / "p.png")

    assert (tmp_path / "p.png").stat().st_size > 0


def bars(axes) -> list[tuple[float, float, float]]:
    """Returns left, right and height of the bars that are not empty."""
    boxes = [patch.get_bbox() for patch in axes.patches]
    return [(box.x0, box.x1, box.height) for box in boxes if box.height]


def test_histograms_share_their_axis(tmp_path, drawn):
    groups = {"good": [4.0, 5.0, 5.0], "划痕": [9.0, 20.0]}

    plot_histograms(groups, "distance", tmp_path / "h.png", mark=("threshold", 5.0))

    assert (tmp_path / "h.png").stat().st_size > 0
    good, bad = drawn[0].axes
    assert good.get_title(loc="left") == "good: 3"
    assert bad.get_title(loc="left") == "划痕: 2"
    assert "threshold" in good.get_title(loc="right")
    assert bad.get_xlabel() == "distance"
    assert good.get_xlim() == bad.get_xlim()
    assert good.get_xscale() == "linear"
    assert [height for *_, height in bars(good)] == [1, 2]
    assert [height for *_, height in bars(bad)] == [1, 1]
    assert bars(good)[0][1] < 5 == bars(good)[1][0]  # what is at the mark is to its right


@pytest.mark.parametrize("mark", [None, ("threshold", 7.7)])
def test_histograms_over_many_magnitudes(tmp_path, drawn, mark):
    values = np.random.default_rng(0).lognormal(2, 2, 500)

    plot_histograms({"one": values}, "distance", tmp_path / "h.png", mark)

    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert sum(height for *_, height in bars(axes)) == 500
    if mark:
        right = sum(height for left, _, height in bars(axes) if left >= 0.999 * mark[1])
        assert right == (values >= mark[1]).sum()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_histogram_of_one_value(tmp_path, drawn, value):
    plot_histograms({"one": [value] * 3, "none": []}, "x", tmp_path / "h.png")

    assert [height for *_, height in bars(drawn[0].axes[0])] == [3]
    assert bars(drawn[0].axes[1]) == []


ODD_NAMES = ("$\\bad{$", "$a$ $b", "\udcff", "\x1b[31m", "a\nb", "${x}")


def test_names_of_any_characters_are_drawn(tmp_path):
    panel = Panel("$t", "x", {name: ([1, 2], [2, 1]) for name in ODD_NAMES})

    plot_confusion_matrix(np.eye(len(ODD_NAMES), dtype=int), ODD_NAMES, tmp_path / "c.png")
    plot_panels([panel], tmp_path / "p.png")
    plot_histograms({name: [1.0, 2.0] for name in ODD_NAMES}, "x", tmp_path / "h.png")

    assert all(cv2.imread(str(tmp_path / f"{name}.png")) is not None for name in "cph")


@pytest.mark.parametrize("values", [[], [float("nan")], [float("nan"), float("inf"), 1.0]])
def test_a_histogram_of_what_is_no_number(tmp_path, drawn, values):
    plot_histograms({"a": values}, "x", tmp_path / "h.png", mark=("m", float("nan")))

    assert cv2.imread(str(tmp_path / "h.png")) is not None


@pytest.mark.parametrize("y", [[], [float("nan")] * 2, [float("inf"), 1.0]])
def test_a_curve_of_what_is_no_number(tmp_path, y):
    plot_panels([Panel("a", "x", {"c": (range(len(y)), y)})], tmp_path / "p.png")

    assert cv2.imread(str(tmp_path / "p.png")) is not None
