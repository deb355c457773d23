"""Writes the embedded sample data set: pictures of machined parts, laid out for every task."""

from __future__ import annotations

import argparse

from aicore.cli import run, say


def main() -> None:
    """Reads the command line and writes the data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="folder to write, new or empty")
    parser.add_argument("--images", type=int, default=400, help="how many pictures (%(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side in pixels (%(default)s)")
    parser.add_argument(
        "--channels", type=int, choices=(1, 3), default=3, help="1 grey, 3 colour (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which data set (%(default)s)")
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of each class kept for validation (%(default)s)",
    )
    parser.add_argument(
        "--scratch-width",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="of the usual width of scratches, 1.5 to 3 pixels of 128 (%(default)s)",
    )
    arguments = parser.parse_args()

    from aicore.datasets.sample import make_sample

    say(f"sample data in {make_sample(**vars(arguments))}")


if __name__ == "__main__":
    run(main)
