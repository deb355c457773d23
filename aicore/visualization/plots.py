"""Plots, written as PNG. None of them needs a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from aicore.visualization.fonts import font_families


def save_figure(figure: Figure, file: Path) -> None:
    """Writes a figure as PNG, without pyplot's global state."""
    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        text.set_fontfamily(font_families())
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120, bbox_inches="tight")


def plot_confusion_matrix(matrix: np.ndarray, classes: Sequence[str], file: Path) -> None:
    """Writes a confusion matrix: rows are the truth, colours the share of the row.

    Args:
        matrix: Counts, C x C, ``matrix[truth, prediction]``.
        classes: C class names.
        file: The PNG to write.
    """
    count = len(classes)
    size = min(max(4.0, 0.55 * count + 2), 24.0)
    figure = Figure(figsize=(size, size))
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(f"{np.trace(matrix)} of {matrix.sum()} right")
    if count <= 40:
        axes.set_xticks(range(count), classes, rotation=45, ha="right")
        axes.set_yticks(range(count), classes)
    if count <= 20:
        for row, column in np.argwhere(matrix):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, int(matrix[row, column]), ha="center", va="center", color=color)
    save_figure(figure, file)
