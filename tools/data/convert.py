"""Turns annotations of one kind into another: ``python tools/data/convert.py SOURCE``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aicore.cli import run, say

_OF_MASKS = ("coco", "labelme")  # formats that hold areas, not boxes alone
_OF_FOLDERS = ("voc", "yolo")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Write masks for the polygons and run lengths of a COCO file or of labelme's "
        "files; or turn boxes from COCO, Pascal VOC, YOLO or labelme into COCO, VOC or YOLO. Says "
        "what it left out, and why.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="a COCO file; a folder of labelme's files; for VOC and YOLO the folder of the data "
        "set, as data_root in the config",
    )
    parser.add_argument(
        "--from", dest="kind", choices=("coco", "voc", "yolo", "labelme"), required=True
    )
    parser.add_argument(
        "--to",
        dest="target",
        choices=("coco", "voc", "yolo", "masks"),
        help="default, from COCO and labelme: masks",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="to write into")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="where the file names of a COCO file are found; default: SOURCE's folder. For VOC "
        "and YOLO below SOURCE; default: JPEGImages, images",
    )
    parser.add_argument(
        "--split",
        default="",
        help="for VOC and YOLO, as train in the config: a list file below SOURCE "
        "(ImageSets/Main/train.txt), or a folder below --images; default: all images",
    )
    parser.add_argument(
        "--annotations",
        metavar="PATH",
        help="for VOC and YOLO, as in the config; default: Annotations/{path}.xml, "
        "labels/{path}.txt",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="folder above the images of all splits, as images in the config; default: --images",
    )
    parser.add_argument("--name", help="of the split to write, e.g. train; default: SOURCE's name")
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes to take, in their order, for masks without the background; default: all",
    )
    arguments = parser.parse_args()
    if arguments.target is None and arguments.kind in _OF_MASKS:
        arguments.target = "masks"
    _check_choice(parser, arguments)
    return arguments


def _check_choice(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    kind, target = arguments.kind, arguments.target
    if target is None:
        parser.error(f"--from {kind} needs --to: coco, voc or yolo")
    if kind == target:
        parser.error(f"--from and --to are both {kind}")
    if target == "masks" and kind not in _OF_MASKS:
        parser.error(f"--from {kind} --to masks: {kind} holds boxes, which tell no areas")
    if kind not in _OF_FOLDERS and (arguments.split or arguments.annotations):
        parser.error(f"--split and --annotations are for {' and '.join(_OF_FOLDERS)}")


def to_masks(arguments: argparse.Namespace) -> list[str]:
    """Writes masks; returns the lines for the config."""
    # It imports torch, which --help need not wait for.
    from aicore.segmentation.convert import convert_coco, convert_labelme

    source, out, classes = arguments.source, arguments.out, arguments.classes
    name = arguments.name or (source.stem if arguments.kind == "coco" else source.resolve().name)
    if arguments.kind == "coco":
        images = Path(arguments.images or source.parent)
        root = arguments.root or images
        summary = convert_coco(source, images, root, out, name, classes)
    else:
        root = arguments.root or Path(arguments.images or source)
        summary = convert_labelme(source, root, out, name, classes)
    say(summary)
    return [
        f"data_root = {out.resolve().as_posix()!r}",
        f"images = {root.resolve().as_posix()!r}",
        'masks = "masks/{path}.png"',
        f'train = "{name}.txt"',
    ]


def to_boxes(arguments: argparse.Namespace) -> list[str]:
    """Writes boxes; returns the lines for the config."""
    from aicore.detection.annotations import FORMATS, Layout, coco, labelme
    from aicore.detection.convert import convert_boxes

    source, classes = arguments.source, arguments.classes
    if arguments.kind == "coco":
        root, name = Path(arguments.images or source.parent), source.stem
        annotations = coco.read_file(source, root)
    elif arguments.kind == "labelme":
        root, name = Path(arguments.images or source), source.resolve().name
        annotations = labelme.read_folder(source)
    else:
        usual = FORMATS[arguments.kind]
        layout = Layout(
            source,
            arguments.split,
            usual.images if arguments.images is None else arguments.images,
            arguments.annotations or usual.annotations,
            tuple(classes) if classes else None,
        )
        root, name = layout.image_root, Path(layout.split_name).name or source.resolve().name
        annotations = usual.read(layout)
    summary, settings = convert_boxes(
        annotations,
        arguments.target,
        arguments.root or root,
        arguments.out,
        arguments.name or name,
        classes,
    )
    say(summary)
    return [f"{key} = {value!r}" for key, value in settings.items()]


def main() -> None:
    """Converts; prints what was left out and what to put into the config."""
    arguments = parse_arguments()
    lines = to_masks(arguments) if arguments.target == "masks" else to_boxes(arguments)
    say("\nin the config (train or val):")
    for line in lines:
        say(f"    {line}")


if __name__ == "__main__":
    run(main)
