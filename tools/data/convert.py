"""Turns annotations of other tools into mask files: ``python tools/data/convert.py SOURCE``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aicore.cli import run


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Write a mask file for each image of a COCO file (polygons, run lengths) or of "
        "labelme's JSON files; says what it left out, and why.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, help="a COCO file, or a folder of labelme's files"
    )
    parser.add_argument("--from", dest="kind", choices=("coco", "labelme"), required=True)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="for the masks")
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=Path,
        help="where the file names of a COCO file are found; default: SOURCE's folder",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="folder above the images of all splits, as images in the config; default: --images",
    )
    parser.add_argument("--name", help="of the list of images, e.g. train; default: SOURCE's name")
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes to take, in their order, without the background; default: all",
    )
    return parser.parse_args()


def main() -> None:
    """Converts; prints what was left out and what to put into the config."""
    arguments = parse_arguments()
    # It imports torch, which --help need not wait for.
    from aicore.segmentation.convert import convert_coco, convert_labelme

    source, out, classes = arguments.source, arguments.out, arguments.classes
    name = arguments.name or (source.stem if arguments.kind == "coco" else source.resolve().name)
    if arguments.kind == "coco":
        images = arguments.images or source.parent
        root = arguments.root or images
        summary = convert_coco(source, images, root, out, name, classes)
    else:
        root = arguments.root or arguments.images or source
        summary = convert_labelme(source, root, out, name, classes)
    print(summary)
    print("\nin the config (train or val):")
    print(f"    data_root = {out.resolve().as_posix()!r}")
    print(f"    images = {root.resolve().as_posix()!r}")
    print(f'    masks = "masks/{{path}}.png"\n    train = "{name}.txt"')


if __name__ == "__main__":
    run(main)
