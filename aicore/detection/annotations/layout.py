"""Where the files of a split lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

from aicore.datasets.base import require_images
from aicore.datasets.files import (
    join_path,
    read_lines,
    relative_below,
    with_image_suffix,
)
from aicore.errors import ConfigError, DataError
from aicore.runtime.files import walk_files
from aicore.runtime.images import IMAGE_SUFFIXES, images_among


@dataclass(frozen=True)
class Layout:
    """The folders and lists of one split of a data set.

    Attributes:
        root: Folder that all else is relative to.
        split: Name of the split; a folder of images, or a list file (``.txt``).
        images: Folder of the images; ``{split}`` stands for the split's name.
        annotations: Where annotations lie: ``{split}``, and for formats with a file for each
            image ``{path}`` (the image's path in ``images``, without its suffix) or its two parts
            ``{folder}`` and ``{name}``.
        classes: Class names that are asked for, if any.
    """

    root: Path
    split: str
    images: str
    annotations: str
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        known = {"images": ("split",), "annotations": ("split", "path", "folder", "name")}
        for key, names in known.items():
            try:
                getattr(self, key).format(**dict.fromkeys(names, ""))
            except (KeyError, IndexError, ValueError) as error:
                raise ConfigError(
                    f"{key} = {getattr(self, key)!r}: expected a path; it may hold "
                    f"{', '.join(f'{{{name}}}' for name in names)}."
                ) from error

    @property
    def from_list(self) -> bool:
        """Whether the split is a list file."""
        return self.split.endswith(".txt")

    @property
    def split_name(self) -> str:
        """What ``{split}`` stands for."""
        return PurePath(self.split).stem if self.from_list else self.split

    @property
    def image_root(self) -> Path:
        """Folder that the paths of images are relative to."""
        return join_path(self.root, self.images.format(split=self.split_name))

    @property
    def source(self) -> Path:
        """The list file, or the folder of images."""
        if self.from_list:
            return join_path(self.root, self.split)
        return self.image_root if "{split}" in self.images else self.image_root / self.split

    def annotation_file(self) -> Path:
        """Returns the one file of a format that has one file for all images."""
        if any(name in self.annotations for name in ("{path}", "{folder}", "{name}")):
            raise ConfigError(
                f"annotations = {self.annotations!r}: coco has one file for all images; expected "
                "its path, e.g. 'annotations/{split}.json'."
            )
        return join_path(self.root, self.annotations.format(split=self.split_name))

    def annotation_of(self, image: Path, suffix: str) -> Path:
        """Returns the annotation file of an image, in formats with one for each.

        Raises:
            DataError: The image lies elsewhere than below ``images``.
        """
        try:
            relative = without_suffix(relative_below(image, self.image_root))
        except ValueError as error:
            raise DataError(
                f"image '{image}' of {self.source} does not lie below '{self.image_root}': set "
                "images in the config to a folder above all images of the list."
            ) from error
        template = self.annotations
        if "{path}" not in template and "{name}" not in template:
            template = f"{template}/{{path}}{suffix}"
        folder = "" if relative.parent == Path() else relative.parent.as_posix()
        file = template.format(
            split=self.split_name, path=relative.as_posix(), folder=folder, name=relative.name
        )
        # Without a folder, "{folder}/{name}.xml" is not meant to be absolute.
        return join_path(self.root, file if self.annotations.startswith("/") else file.lstrip("/"))

    def find_images(self) -> list[Path]:
        """Returns the images of the list file in its order, or of the folder, sorted.

        Raises:
            DataError: There is none.
        """
        images = self._from_list() if self.from_list else self._from_folder()
        require_images(
            len(images),
            self.source,
            expected=f"a list file or a folder with {', '.join(IMAGE_SUFFIXES)}",
            example=f"{self.source}: part_001" if self.from_list else f"{self.source}/part_001.png",
        )
        return images

    def _from_folder(self) -> list[Path]:
        return images_among(walk_files(self.source)).files

    def _from_list(self) -> list[Path]:
        if not self.source.is_file():
            return []
        lines = (line.strip() for line in read_lines(self.source))
        return [self._find(line) for line in lines if line]

    def _find(self, name: str) -> Path:
        """Returns the image of a line: a path in ``images``, else in ``root`` (YOLO's lists)."""
        path = self.image_root / name
        if path.suffix.lower() in IMAGE_SUFFIXES:
            other = self.root / name
            return other if not path.is_file() and other.is_file() else path
        return with_image_suffix(path) or path


def without_suffix(path: Path) -> Path:
    """Returns a path without the suffix of an image; a name such as ``part.7`` stays whole."""
    return path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path
