from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from aicore.visualization import plots
from aicore.visualization.plots import Panel, plot_confusion_matrix, plot_panels, save_figure

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
