"""Divides a folder of images into train, val and test: ``python tools/data/split.py IMAGES``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from aicore.cli import run, say

# The base configs test on val, so there is no setting named test.
SETTINGS = {
    "train": "train = {!r}",
    "val": "val = {!r}",
    "test": "test_dataloader = dict(dataset=dict(split={!r}))",
}


def pattern(text: str) -> re.Pattern[str]:
    """Reads a regular expression with a group from the command line."""
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise argparse.ArgumentTypeError(
            f"{text!r} has no group: put what is to be found into ( ), e.g. '^([^/]+)_'"
        )
    return compiled


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Divide a folder of images into train, val and test, with the same shares of "
        "each class. Writes train.txt, val.txt (test.txt) and labels.txt.",
        epilog="Paths are seen relative to IMAGES, with forward slashes. Magnetic tiles: "
        r"--label-from '^MT_([^/]+)/' --include '*.jpg'. File names such as crazing_17.jpg: "
        r"--label-from '([A-Za-z_-]+)_\d+\.'.",
    )
    parser.add_argument("images", metavar="IMAGES", type=Path, help="folder, read to its depth")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="for the lists")
    parser.add_argument(
        "--label-from",
        metavar="REGEX",
        type=pattern,
        help="its first group, found in an image's path, is the class; default: the first folder",
    )
    parser.add_argument(
        "--group-from",
        metavar="REGEX",
        type=pattern,
        help="images with the same first group (one part, one lot) stay in one split",
    )
    parser.add_argument(
        "--paths-only",
        action="store_true",
        help="write the paths alone, for segmentation and detection: the class only stratifies",
    )
    parser.add_argument("--include", metavar="GLOB", help="take only such images, e.g. '*.jpg'")
    for name, share in (("val", 0.2), ("test", 0.0)):
        parser.add_argument(
            f"--{name}-share",
            metavar="SHARE",
            type=float,
            default=share,
            help=f"of the images that go to {name}, 0 to 1 (%(default)s)",
        )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffling (%(default)s)")
    arguments = parser.parse_args()
    val, test = arguments.val_share, arguments.test_share
    if not (0 <= val < 1 and 0 <= test < 1 and 0 < val + test < 1):
        parser.error(
            f"--val-share {val} --test-share {test}: each has to be from 0 to 1, and their sum "
            "between 0 and 1, so that there is something left to train on"
        )
    return arguments


def main() -> None:
    """Divides the images; prints what each split has got and what to put into the config."""
    arguments = parse_arguments()
    from aicore.datasets.check.report import table  # imports torch, which --help need not wait for
    from aicore.datasets.split import SPLITS, doubts, find_items, split_items, write_lists

    val, test = arguments.val_share, arguments.test_share
    shares = dict(zip(SPLITS, (1 - val - test, val, test), strict=True))
    shares = {name: share for name, share in shares.items() if share}
    items, left_out = find_items(
        arguments.images, arguments.label_from, arguments.group_from, arguments.include
    )
    splits = split_items(items, shares, arguments.seed)
    files = write_lists(splits, arguments.out, arguments.paths_only)
    labels = sorted({item.label for item in items})
    counts = {
        name: [sum(item.label == label for item in part) for label in labels]
        for name, part in splits.items()
    }
    rows = [[label, *map(str, row)] for label, *row in zip(labels, *counts.values(), strict=True)]
    total = ["all", *(str(sum(column)) for column in counts.values())]
    say("\n".join(table([["", *splits], *rows, total])))
    for sentence in [f"{left_out}."] * bool(left_out) + doubts(splits):
        say(f"warning: {sentence}")
    say(f"\nwritten: {', '.join(map(str, files))}\nin the config:")
    say(f"    data_root = {arguments.images.resolve().as_posix()!r}")
    for name, file in zip(splits, files, strict=False):  # labels.txt, if any, is the last file
        say(f"    {SETTINGS[name].format(file.resolve().as_posix())}")


if __name__ == "__main__":
    run(main)
