"""Writes the sample data in the layouts that the tasks read.

::

    classification/{train,val}/<class>/*.png   train.txt  val.txt  labels.txt
    detection/images/{train,val}/*.png         annotations/{train,val}.json
    segmentation/images/{train,val}/*.png      masks/{train,val}/*.png  labels.txt
    anomaly/machined_part/train/good/*.png     test/<class>/*.png
                                               ground_truth/<defect>/*_mask.png
    sample.json                                the settings; its presence means: complete
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aicore.datasets.sample.part import CLASSES, DEFECTS, Part, class_of, draw_part
from aicore.errors import DataError
from aicore.runtime.locks import LOCK_FILE, lock_folder

ANOMALY_CATEGORY = "machined_part"
SEGMENTATION_CLASSES = ("background", *DEFECTS)
SETTINGS_FILE = "sample.json"
# Under this name while the pictures are being written; os.replace then declares them complete.
_UNFINISHED_FILE = "sample.json.part"
# Counts up when the same settings draw other pictures.
_DRAWING_VERSION = 2


def make_sample(
    out: str | Path,
    images: int = 400,
    size: int = 128,
    channels: int = 3,
    seed: int = 0,
    val_share: float = 0.2,
    scratch_width: float = 1.0,
) -> Path:
    """Writes the sample data set for all tasks; the module's docstring shows the layout.

    Two of five pictures are good parts, one is of each defect. A folder that holds a complete
    sample of the same settings is left as it is; one that was interrupted is written anew.

    Args:
        out: folder to write, new or empty.
        images: how many pictures; each is the same however many there are.
        size: side of a picture in pixels, 64 to 2048.
        channels: 1 for grey, 3 for colour.
        seed: which data set, 0 or more.
        val_share: share of each class that goes to the validation split, between 0 and 1. The
            anomaly layout trains on good parts only and tests on all defective ones.
        scratch_width: factor on the width of scratches, 0.5 to 5; 1 is 1.5 to 3 pixels of 128.

    Returns:
        The folder.

    Raises:
        DataError: a setting is out of range, or ``out`` holds something else.
    """
    out = Path(out)
    splits = split_indices(images, val_share)
    draw = partial(draw_part, seed, size=size, channels=channels, scratch_width=scratch_width)
    draw(0)  # an error of the settings comes before any file
    settings = {
        "version": _DRAWING_VERSION,
        "images": images,
        "size": size,
        "channels": channels,
        "seed": seed,
        "val_share": val_share,
        "scratch_width": scratch_width,
    }
    if _holds_sample(out, settings):
        print(f"{out} already holds this sample, nothing to do")
        return out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with lock_folder(out, wait=True):
            if not _holds_sample(out, settings):  # it can be written by another process by now
                _write_json(out / _UNFINISHED_FILE, settings)
                _write_splits(out, splits, draw)
                (out / _UNFINISHED_FILE).replace(out / SETTINGS_FILE)
    except OSError as error:
        raise DataError(
            f"Cannot write the sample data into {out}: {error}. Give a folder you may write to."
        ) from error
    return out


def split_indices(images: int, val_share: float) -> dict[str, list[int]]:
    """Deals each class's pictures to ``train`` and ``val``; more pictures move none of them.

    Raises:
        DataError: ``val_share`` is not between 0 and 1, or a class has no picture in a split.
    """
    if not 0 < val_share < 1:
        raise DataError(
            f"Sample data: val_share is {val_share}; give a share between 0 and 1, e.g. 0.2."
        )
    splits: dict[str, list[int]] = {"train": [], "val": []}
    seen = dict.fromkeys(CLASSES, 0)
    for index in range(images):
        label = class_of(index)
        rank = seen[label]
        seen[label] += 1
        # The n-th of a class goes to val where the share of n passes a whole number.
        is_val = int((rank + 1) * val_share + 1e-9) > int(rank * val_share + 1e-9)
        splits["val" if is_val else "train"].append(index)
    for split, indices in splits.items():
        missing = set(CLASSES) - {class_of(index) for index in indices}
        if missing:
            raise DataError(
                f"Sample data: {images} images with val_share {val_share} leave no picture of "
                f"{', '.join(sorted(missing))} in {split}. Ask for more images or another share."
            )
    return splits


def _holds_sample(out: Path, settings: dict[str, Any]) -> bool:
    """Tells whether ``out`` is complete already; raises where it must not be written to."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise DataError(f"{out} is a file; give a new or empty folder for the sample data.")
    for name, complete in ((SETTINGS_FILE, True), (_UNFINISHED_FILE, False)):
        if not (out / name).is_file():
            continue
        found = {"scratch_width": 1.0, **_read_settings(out / name)}  # older samples lack it
        if found == settings:
            return complete
        differing = [key for key in settings if found.get(key) != settings[key]]
        raise DataError(
            f"{out} holds a sample of other settings ("
            + ", ".join(f"{key}: {found.get(key)}, asked {settings[key]}" for key in differing)
            + "). Give another folder, or delete this one first."
        )
    if any(entry.name != LOCK_FILE for entry in out.iterdir()):
        raise DataError(
            f"{out} holds other files and no {SETTINGS_FILE}; give a new or empty folder for the "
            "sample data."
        )
    return False


def _read_settings(path: Path) -> dict[str, Any]:
    """Reads a settings file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(
            f"{path} is not a settings file of the sample data; give another folder, or delete "
            "this one first."
        )
    return found


def _write_splits(out: Path, splits: dict[str, list[int]], draw: Callable[[int], Part]) -> None:
    """Draws every picture once and writes it to each task's layout."""
    classification, segmentation = out / "classification", out / "segmentation"
    # disable=None: a bar on a terminal, nothing in a log file.
    total = sum(map(len, splits.values()))
    with tqdm(total=total, desc="sample data", unit="image", disable=None) as progress:
        for split, indices in splits.items():
            listed: list[str] = []
            coco = _empty_coco()
            for index in indices:
                part = draw(index)
                name = f"part_{index:05d}.png"
                picture = _encode(part.image)
                _write(classification / split / part.label / name, picture)
                listed.append(f"{split}/{part.label}/{name} {part.label}")
                _write(out / "detection" / "images" / split / name, picture)
                _add_to_coco(coco, index, name, part)
                _write(segmentation / "images" / split / name, picture)
                _write(segmentation / "masks" / split / name, _encode(_class_ids(part)))
                _write_anomaly(out / "anomaly" / ANOMALY_CATEGORY, split, name, part, picture)
                progress.update()
            _write_lines(classification / f"{split}.txt", listed)
            _write_json(out / "detection" / "annotations" / f"{split}.json", coco)
    _write_lines(classification / "labels.txt", CLASSES)
    _write_lines(segmentation / "labels.txt", SEGMENTATION_CLASSES)


def _class_ids(part: Part) -> NDArray[np.uint8]:
    """The segmentation mask, (H, W) of indices into ``SEGMENTATION_CLASSES``."""
    if part.label not in DEFECTS:
        return np.zeros(part.image.shape[:2], np.uint8)
    return (part.mask > 0) * np.uint8(SEGMENTATION_CLASSES.index(part.label))


def _write_anomaly(folder: Path, split: str, name: str, part: Part, picture: bytes) -> None:
    """Writes one picture as MVTec AD lays them out (Bergmann et al. 2019)."""
    if part.label not in DEFECTS:
        _write(folder / ("train" if split == "train" else "test") / part.label / name, picture)
        return
    _write(folder / "test" / part.label / name, picture)
    mask_name = f"{Path(name).stem}_mask.png"
    _write(folder / "ground_truth" / part.label / mask_name, _encode(part.mask))


def _empty_coco() -> dict[str, list[dict[str, Any]]]:
    """A COCO file's content before its first picture; categories count from 1."""
    categories = [{"id": number, "name": name} for number, name in enumerate(DEFECTS, start=1)]
    return {"images": [], "annotations": [], "categories": categories}


def _add_to_coco(coco: dict[str, list[dict[str, Any]]], index: int, name: str, part: Part) -> None:
    """Adds a picture and an annotation for each of its defects; a good part has none."""
    height, width = part.image.shape[:2]
    coco["images"].append({"id": index, "file_name": name, "width": width, "height": height})
    for mask, box in zip(part.masks, part.boxes, strict=True):
        annotation = {
            # From 1: COCO's evaluation takes an annotation's id of 0 for "no match".
            "id": len(coco["annotations"]) + 1,
            "image_id": index,
            "category_id": DEFECTS.index(part.label) + 1,
            "bbox": box.tolist(),
            "area": int(np.count_nonzero(mask)),
            "iscrowd": 0,
            "segmentation": _run_lengths(mask),
        }
        coco["annotations"].append(annotation)


def _run_lengths(mask: NDArray[np.uint8]) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths: down the columns, the first run is background.

    Unlike a polygon it is exact, also for a scratch one pixel wide.
    """
    # The mask's first pixel is compared with background, so that a run may have no length.
    flat = np.concatenate(([False], mask.ravel(order="F") > 0))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate(([0], changes, [mask.size])))
    return {"counts": counts.tolist(), "size": list(mask.shape)}


def _encode(image: NDArray[np.uint8]) -> bytes:
    """Encodes a picture as PNG."""
    return cv2.imencode(".png", image)[1].tobytes()


def _write(path: Path, content: bytes) -> None:
    """Writes a file and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a text file with one line for each of ``lines``."""
    _write(path, "".join(f"{line}\n" for line in lines).encode())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file."""
    _write(path, json.dumps(content).encode())
