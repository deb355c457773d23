"""Counts a model's parameters and multiply-adds: ``python tools/misc/get_flops.py CONFIG``."""

import argparse

from aicore.cli import add_config_arguments, run, say


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Count a model's parameters and the multiply-adds (MACs) for one image."
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--shape",
        nargs="+",
        type=int,
        metavar="PIXELS",
        help="height and width, or one number for both; default the config's image_size",
    )
    return parser.parse_args()


def main() -> None:
    """Prints the table."""
    arguments = parse_arguments()
    from aicore.apis.flops import measure_complexity  # imports torch, --help need not wait for it

    say(measure_complexity(arguments.config, arguments.shape, arguments.cfg_options))


if __name__ == "__main__":
    run(main)
