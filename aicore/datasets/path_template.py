"""Where the file that belongs to an image lies: its mask, its ROI, its annotations."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from aicore.datasets.files import join_path, relative_below, without_suffix
from aicore.errors import ConfigError, DataError
from aicore.runtime.files import walk_files
from aicore.runtime.images import images_among


@dataclass(frozen=True)
class PathTemplate:
    """The path of an image's file, with ``{path}``, or ``{folder}`` and ``{name}``, of the image.

    ``{path}`` stands for the image's path relative to ``images`` without its suffix, ``{folder}``
    and ``{name}`` for its two parts.

    Attributes:
        setting: Its name in a config, for messages.
        template: Relative to ``root``, or absolute.
        root: The data root.
        images: Folder that the paths of images are relative to.
        names: What may stand in braces.

    Raises:
        ConfigError: The template holds something else in braces.
    """

    setting: str
    template: str
    root: Path
    images: Path
    names: tuple[str, ...] = ("path", "folder", "name")

    def __post_init__(self) -> None:
        try:
            self.template.format(**dict.fromkeys(self.names, ""))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            known = ", ".join(f"{{{name}}}" for name in self.names)
            raise ConfigError(
                f"{self.setting} = {self.template!r}: expected a path with {known} of the image, "
                f"e.g. '{self.setting}/{{path}}.png'."
            ) from error

    def of(self, image: Path, **values: str) -> Path:
        """Returns the path that belongs to an image, whether it is there or not.

        Args:
            image: The image file.
            **values: Of those ``names`` that its path does not tell.

        Raises:
            DataError: The image does not lie below ``images``.
        """
        try:
            relative = without_suffix(relative_below(image, self.images))
        except ValueError as error:
            raise DataError(
                f"image {str(image)!r} does not lie below {str(self.images)!r}, so "
                f"{self.setting} = {self.template!r} says nothing of it: set data_root (or images) "
                "in the config to a folder above all images."
            ) from error
        folder = "" if relative.parent == Path() else relative.parent.as_posix()
        return self._join(path=relative.as_posix(), folder=folder, name=relative.name, **values)

    def of_no_image(
        self,
        known: Collection[Path],
        suffixes: Collection[str],
        below: str = "",
        kinds: Collection[str] = (),
    ) -> list[Path]:
        """Returns the files of this form that belong to no image, whatever split it may be of.

        Args:
            known: The files of the images of the split.
            suffixes: Of such files, in lower case.
            below: Folder below ``images`` whose images alone are asked for.
            kinds: Names that may stand for the folders of an image; by default none does.
        """
        form, folder = self._form(below)
        files = walk_files(folder).files
        named = [f for f in files if f.suffix.lower() in suffixes and form.fullmatch(f.as_posix())]
        if not named:
            return []
        expected = {file.with_suffix("") for file in known}
        for image in images_among(walk_files(self.images)).files:
            folders = image.relative_to(self.images).parent.parts
            for name in folders or ("",):
                expected.add(self.of(image, **dict.fromkeys(kinds, name)).with_suffix(""))
        return [file for file in named if file.with_suffix("") not in expected]

    def _join(self, **values: str) -> Path:
        path = self.template.format(**values)
        # Without a folder, "{folder}/{name}.png" is not meant to be absolute.
        return join_path(self.root, path if self.template.startswith("/") else path.lstrip("/"))

    def _form(self, below: str) -> tuple[re.Pattern[str], Path]:
        """Returns what paths of this form look like, and the folder above all of them."""
        marks = {name: chr(0xE000 + index) for index, name in enumerate(self.names)}
        path = self._join(**marks).as_posix()
        text = re.escape(path)
        if below:
            start = re.escape(below)
            text = text.replace(marks["path"], f"{start}/.+")
            text = text.replace(marks["folder"], f"{start}(?:/.*)?")
        text = text.replace(marks["folder"] + "/", "(?:.*/)?").replace(marks["folder"], ".*")
        text = text.replace(marks["path"], ".+")
        for mark in marks.values():
            text = text.replace(mark, "[^/]+")
        above = re.split(f"[{''.join(marks.values())}]", path)[0].rpartition("/")[0]
        return re.compile(text), Path(above or path[:1].strip(marks["path"]) or ".")
