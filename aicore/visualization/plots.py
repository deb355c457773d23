"""Plots, written as PNG. None of them needs a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)

from aicore.errors import shown
from aicore.runtime.files import atomic_write
from aicore.visualization.fonts import font_families

_BINS = 60  # of a histogram
_LOG_FROM = 10  # times the smallest value that the largest is, for a logarithmic axis


def save_figure(figure: Figure, file: Path) -> None:
    """Writes a figure as PNG, without pyplot's global state."""
    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        text.set_fontfamily(font_families())
        text.set_parse_math(False)  # a $ in a name is a $
    file.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=120, bbox_inches="tight")
    with atomic_write(file) as stream:
        stream.write(encoded.getbuffer())


def plot_confusion_matrix(
    matrix: np.ndarray,
    classes: Sequence[str],
    file: Path,
    predicted: Sequence[str] | None = None,
) -> None:
    """Writes a confusion matrix: rows are the truth, colours the share of the row.

    Args:
        matrix: Counts, C x C, ``matrix[truth, prediction]``.
        classes: C class names.
        file: The PNG to write.
        predicted: C names of the columns, where they differ from those of the rows.
    """
    count = len(classes)
    size = min(max(4.0, 0.55 * count + 2), 24.0)
    figure = Figure(figsize=(size, size))
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(f"{np.trace(matrix):,} of {matrix.sum():,} right")
    if count <= 40:
        columns = [shown(name) for name in predicted or classes]
        axes.set_xticks(range(count), columns, rotation=45, ha="right")
        axes.set_yticks(range(count), [shown(name) for name in classes])
    if count <= 20:
        for row, column in np.argwhere(matrix):
            color = "white" if share[row, column] > 0.5 else "black"
            text = _short(int(matrix[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=color)
    save_figure(figure, file)


def _short(count: int) -> str:
    """Returns a count as text that fits into a cell: 9999, 10.0k, 27.1M."""
    return str(count) if count < 10_000 else EngFormatter(places=1, sep="")(count)


@dataclass(frozen=True)
class Panel:
    """One plot of a figure of curves."""

    title: str
    x_label: str
    curves: dict[str, tuple[Sequence[float], Sequence[float]]]
    """The x and y values of each curve, by the curve's name; NaN leaves a gap."""
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Ends of the x and y axes; by default those of the values, whole numbers along x."""


def plot_panels(panels: Sequence[Panel], file: Path) -> None:
    """Writes panels side by side, at most three a row, with one legend below them all.

    A name has the same colour in every panel.

    Args:
        panels: What to draw, at least one.
        file: The PNG to write.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    below = 0.2 * -(-len(names) // columns)  # inches of the legend
    figure = Figure(figsize=(4.4 * columns, 3 * rows + below), layout="constrained")
    lines = {}
    for index, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, index)
        lines.update(_draw_panel(axes, panel, names))
    figure.legend(
        [lines[name] for name in names],
        [shown(name) for name in names],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )
    save_figure(figure, file)


def _draw_panel(axes: Axes, panel: Panel, names: list[str]) -> dict[str, Line2D]:
    lines = {}
    for name, (x, y) in panel.curves.items():
        number = names.index(name)
        # Ten colours, then again with dashes; few points are marked, as one makes no line.
        style = ("-", "--", ":")[number // 10 % 3] + ("o" if len(x) <= 30 else "")
        lines[name] = axes.plot(x, y, style, color=f"C{number % 10}", markersize=3)[0]
    axes.set_title(shown(panel.title))
    axes.set_xlabel(panel.x_label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=panel.limits is None))
    if panel.limits is not None:
        axes.set(xlim=panel.limits[0], ylim=panel.limits[1])
    axes.grid(alpha=0.3)
    return lines


def plot_histograms(
    groups: Mapping[str, Sequence[float]],
    x_label: str,
    file: Path,
    mark: tuple[str, float] | None = None,
) -> None:
    """Writes the histogram of each group below the one before, over one common x axis.

    The axis is logarithmic where all values are positive and the largest is many times the
    smallest.

    Args:
        groups: Values by the group's name; those that are not finite are counted, not drawn.
        x_label: What the values are, with their unit.
        file: The PNG to write.
        mark: Name and place of a line through all histograms; no bar reaches over it.
    """
    counts = {name: len(group) for name, group in groups.items()}
    drawn = {name: _finite(group) for name, group in groups.items()}
    if mark is not None and not np.isfinite(mark[1]):
        mark = None
    values = np.concatenate([*drawn.values()])
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    anchor = low if mark is None else mark[1]
    is_log = min(low, anchor) > 0 and max(high, anchor) > _LOG_FROM * min(low, anchor)
    figure = Figure(figsize=(7, 1.1 * len(groups) + 1), layout="constrained")
    all_axes = figure.subplots(len(groups), sharex=True, squeeze=False)[:, 0]
    for number, (axes, (name, group)) in enumerate(zip(all_axes, drawn.items(), strict=True)):
        axes.hist(group, _bin_edges(low, high, anchor, is_log), color=f"C{number % 10}")
        axes.set_title(f"{shown(name)}: {counts[name]:,}", loc="left", fontsize="medium")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
        axes.grid(alpha=0.3)
        if mark is not None:
            axes.axvline(mark[1], color="black", linestyle="--")
    if is_log:  # of all, as they share it
        all_axes[-1].set_xscale("log")
        all_axes[-1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        all_axes[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        all_axes[-1].xaxis.set_minor_formatter(NullFormatter())
    if mark is not None:
        all_axes[0].set_title(f"- - {mark[0]}", loc="right", fontsize="medium")
    all_axes[-1].set_xlabel(x_label)
    save_figure(figure, file)


def _finite(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]


def _bin_edges(low: float, high: float, anchor: float, is_log: bool) -> np.ndarray:
    """Returns the edges of equal bins from ``low`` to ``high``, one of them at ``anchor``."""
    if is_log:
        return anchor * np.exp(_bin_edges(np.log(low / anchor), np.log(high / anchor), 0.0, False))
    step = (high - low) / _BINS or max(abs(low), 1.0) / _BINS
    first, last = np.floor((low - anchor) / step), np.ceil((high - anchor) / step)
    return anchor + step * np.arange(first - 1, last + 2)  # one more, as steps are rounded
