"""Where the files of a split lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from aicore.datasets.base import require_images
from aicore.datasets.files import (
    find_listed,
    finding_of_strays,
    findings_of,
    is_list,
    join_path,
    read_list,
    relative_below,
)
from aicore.datasets.findings import NOTE, Finding
from aicore.datasets.path_template import PathTemplate
from aicore.errors import ConfigError, DataError
from aicore.runtime.files import Walk, walk_files
from aicore.runtime.images import IMAGE_SUFFIXES, images_among

_NAME_LISTS = ("classes.txt", "labels.txt")


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
        return is_list(self.split)

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
        return self._template(suffix).of(image)

    def _template(self, suffix: str) -> PathTemplate:
        name = self.split_name.replace("{", "{{").replace("}", "}}")
        template = self.annotations.replace("{split}", name)
        if "{path}" not in template and "{name}" not in template:
            template = f"{template}/{{path}}{suffix}"
        return PathTemplate("annotations", template, self.root, self.image_root)

    def find_images(self) -> list[Path]:
        """Returns the images of the list file in its order, or of the folder, sorted.

        Raises:
            DataError: There is none, or a line of the list names no image of this machine.
        """
        images = self._from_list() if self.from_list else self._walk.files
        require_images(
            len(images),
            self.source,
            expected=f"a list file or a folder with {', '.join(IMAGE_SUFFIXES)}",
            example=f"{self.source}: part_001" if self.from_list else f"{self.source}/part_001.png",
            left_out=() if self.from_list else self._walk.left_out,
        )
        return images

    @cached_property
    def _walk(self) -> Walk:
        return images_among(walk_files(self.source))

    def _from_list(self) -> list[Path]:
        images = []
        for number, line in read_list(self.source):
            place = f"{self.source}, line {number}"
            if "\t" in line:
                raise DataError(f"{place}: {line!r} holds a tab; expected an image's path alone.")
            # Relative to images, else to the root, as YOLO writes its lists.
            images.append(find_listed(line, place, self.image_root, self.root))
        return images

    def findings(self, suffix: str, images: Sequence[Path], without: int) -> list[Finding]:
        """Returns what there is to say of files that are passed over.

        Args:
            suffix: Of the annotation file of each image; empty where one file is for all.
            images: Those of the split.
            without: Number of them that have no annotation file.
        """
        if not suffix:
            return self._unnamed(images)
        findings = [] if self.from_list else findings_of(self._walk.left_out)
        below = "" if self.from_list else relative_below(self.source, self.image_root).as_posix()
        below = "" if below == "." else below
        template = self._template(suffix)
        known = list(map(template.of, images))
        folders = {file.parent for file in known} - {self.root}
        strays = template.of_no_image(known, (suffix,), below)
        # Lists and names of classes are text files too.
        others = {self.source, *(folder / name for folder in folders for name in _NAME_LISTS)}
        strays = [file for file in strays if file.parent in folders and file not in others]
        return findings + finding_of_strays("annotation", strays, without)

    def _unnamed(self, images: Sequence[Path]) -> list[Finding]:
        """Returns what there is to say of images that the one annotation file does not name."""
        if "{split}" not in self.images:  # other splits may have them
            return []
        walk = images_among(walk_files(self.image_root))
        named = {join_path(path) for path in images}
        others = [str(path) for path in walk.files if join_path(path) not in named]
        text = f"images of the folder that the annotations do not name, left out: {len(others)}"
        return findings_of(walk.left_out) + ([Finding(NOTE, text, others)] if others else [])
