"""The list of images that could not be read, shared by all worker processes of a run."""

from __future__ import annotations

import json
from pathlib import Path

from aicore.errors import DataError


class BadImageLog:
    """Appends unreadable images to a text file, and stops the run when they are too many.

    Every worker process holds a copy; the file is what they share. A line is
    ``<split><TAB><path><TAB><reason>``; each is appended in one write, so that they do not mix. A
    path that a line cannot hold (a tab, a line break, bytes that are not UTF-8) is a JSON string.

    Args:
        file: The list, usually ``work_dir/bad_images.txt``.
        split: ``train``, ``val`` or ``test``.
        total: Number of images of the data set.
        max_share: Share of unreadable images in [0, 1] above which :meth:`add` raises; None for
            no limit (evaluation counts such images as not inspected and goes on).
    """

    def __init__(self, file: Path, split: str, total: int, max_share: float | None) -> None:
        self.file = file
        self.split = split
        self.total = total
        self.max_share = max_share
        self._seen: set[str] = set()

    def add(self, path: str, reason: str) -> None:
        """Lists an image once.

        Raises:
            DataError: More than ``max_share`` of the data set's images are unreadable.
        """
        if path in self._seen:
            return
        self._seen.add(path)
        bad = self.paths()
        if path not in bad:  # listed by another worker, or by one of an earlier epoch
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(f"{self.split}\t{_quoted(path)}\t{' '.join(reason.split())}\n")
            bad[path] = reason
        if self.max_share is None or len(bad) <= self.max_share * self.total:
            return
        shown = "; ".join(f"{_quoted(p)} ({r})" for p, r in list(bad.items())[:3])
        share = len(bad) / self.total
        raise DataError(
            f"{len(bad)} of {self.total} {self.split} images ({share:.1%}) cannot be "
            f"read, more than the allowed {self.max_share:.0%}: {shown}. All are listed in "
            f"{self.file}. Repair or remove them, or raise default_hooks.bad_images.max_share."
        )

    def paths(self) -> dict[str, str]:
        """Returns path and reason of every image of the split listed so far, by any process."""
        if not self.file.exists():
            return {}
        lines = (line.split("\t") for line in self.file.read_text(encoding="utf-8").split("\n"))
        return {
            json.loads(columns[1]) if columns[1].startswith('"') else columns[1]: columns[2]
            for columns in lines
            if columns[0] == self.split and len(columns) == 3
        }


def _quoted(path: str) -> str:
    return path if path.isprintable() and not path.startswith('"') else json.dumps(path)
