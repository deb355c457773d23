"""The result of a data check, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aicore.datasets.check.records import NO_LABEL
from aicore.datasets.findings import LEVELS
from aicore.errors import ConfigError
from aicore.runtime.files import as_json, atomic_write

_EXAMPLES = 5  # shown of each problem; the JSON has all
_MOST_CLASSES = 30  # shown in the table


@dataclass(frozen=True)
class Problem:
    """Something wrong, or worth knowing, with all places where it was seen.

    Attributes:
        level: ``error``, ``warning`` or ``note``.
        split: The split, or both splits: ``train, val``.
        text: One sentence.
        cases: One text for each place.
    """

    level: str
    split: str
    text: str
    cases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SplitFigures:
    """What one split holds.

    Attributes:
        images: Number of records.
        unreadable: Number of those whose image is missing, empty or cannot be read.
        counts: Number of labels of each class; ``(no label)``: images without one.
        kinds: Number of images of each depth and colour, e.g. ``8-bit grey``.
        width: Smallest, median and largest in pixels; empty where no image could be read.
        height: As ``width``.
        sizes: Number of different sizes.
        grey_values: Smallest and largest grey value by depth, e.g. ``8-bit``.
        label_shares: Share of the labels in [0, 1] of each class; empty without labels.
        pixel_shares: Share of the labelled pixels in [0, 1] of each class; empty without masks.
    """

    images: int
    unreadable: int
    counts: dict[str, int]
    kinds: dict[str, int]
    width: list[int]
    height: list[int]
    sizes: int
    grey_values: dict[str, list[int]]
    label_shares: dict[str, float]
    pixel_shares: dict[str, float] = field(default_factory=dict)

    def line(self) -> str:
        """Returns kinds, grey values and sizes as one line of text."""
        if not self.kinds:
            return "no image could be read"
        kinds = ", ".join(f"{kind} ({count})" for kind, count in self.kinds.items())
        values = " and ".join(f"{low} to {high}" for low, high in self.grey_values.values())
        kinds = f"{kinds}; grey values {values}"
        if self.sizes == 1:
            return f"{kinds}; all {self.width[0]} x {self.height[0]} (width x height)"
        width, height = (" / ".join(map(str, span)) for span in (self.width, self.height))
        return f"{kinds}; {self.sizes} sizes: width {width}, height {height} (min / median / max)"


@dataclass(frozen=True)
class Report:
    """The result of a data check.

    Attributes:
        config: The config file.
        splits: The figures of each split by its name.
        problems: What was found.
    """

    config: str
    splits: dict[str, SplitFigures]
    problems: list[Problem]

    def of_level(self, level: str) -> list[Problem]:
        """Returns the problems of one level."""
        return [problem for problem in self.problems if problem.level == level]

    def text(self) -> str:
        """Returns the report for a reader: a table, then the problems with a few cases each."""
        lines = [f"data of {self.config}"]
        if self.splits:  # else none could be read
            lines += ["", *self._table(), ""]
        lines += [f"{name}: {figures.line()}" for name, figures in self.splits.items()]
        for level in LEVELS:
            problems = self.of_level(level)
            lines += ["", f"{level}s"] if problems else []
            for problem in problems:
                lines.append(f"  {problem.split}: {problem.text}")
                # A name may hold a line break.
                cases = [case.replace("\n", "\\n") for case in problem.cases[:_EXAMPLES]]
                lines += [f"      {case}" for case in cases]
                if len(problem.cases) > _EXAMPLES:
                    lines.append(f"      and {len(problem.cases) - _EXAMPLES} more")
        totals = [(level, len(self.of_level(level))) for level in LEVELS]
        found = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in totals)
        return "\n".join([*lines, "", f"found {found}"])

    def write(self, file: Path) -> None:
        """Writes everything as JSON: the levels' numbers, the splits, the problems, all cases.

        Raises:
            ConfigError: The file cannot be written.
        """
        content: dict[str, Any] = {level: len(self.of_level(level)) for level in LEVELS}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as stream:
                stream.write(as_json({**content, **asdict(self)}, indent=2))
        except OSError as error:
            raise ConfigError(
                f"{str(file)!r} cannot be written: {error.strerror}. Give another folder as --out."
            ) from error

    def _table(self) -> list[str]:
        """Returns the lines of the table of classes by splits."""
        classes = list(
            dict.fromkeys(name for split in self.splits.values() for name in split.counts)
        )
        rows = [
            ["", *self.splits],
            ["images", *(str(s.images) for s in self.splits.values())],
            ["not readable", *(str(s.unreadable) for s in self.splits.values())],
        ]
        rows += [
            [name, *(str(split.counts.get(name, "-")) for split in self.splits.values())]
            for name in classes[:_MOST_CLASSES]
        ]
        lines = table(rows)
        hidden = len(classes) - _MOST_CLASSES
        if hidden > 0:
            lines.append(f"and {hidden} more classes")
        labels = {name: s.label_shares for name, s in self.splits.items() if not s.pixel_shares}
        pixels = {name: s.pixel_shares for name, s in self.splits.items() if s.pixel_shares}
        names = [name for name in classes[:_MOST_CLASSES] if name != NO_LABEL]
        for what, digits, shares in (("labels", 1, labels), ("pixels", 3, pixels)):
            if any(shares.values()):
                rows = [[f"share of the {what}", *shares]]
                rows += [
                    [name, *(_percent(s.get(name), digits) for s in shares.values())]
                    for name in names
                ]
                lines += ["", *table(rows)]
        return lines


def _percent(share: float | None, digits: int) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def table(rows: list[list[str]]) -> list[str]:
    """Returns lines of aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
