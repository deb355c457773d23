"""Shows a data set after augmentation: ``python tools/misc/browse_dataset.py CONFIG``."""

import argparse

from aicore.cli import add_config_arguments, run, say


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Draw a grid of a data set's samples as the model gets them: after "
        "augmentation, with their labels."
    )
    add_config_arguments(parser)
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    parser.add_argument("--count", type=int, default=16, help="how many samples (%(default)s)")
    parser.add_argument("--columns", type=int, default=4, help="samples a row (%(default)s)")
    parser.add_argument(
        "--out",
        metavar="FILE.png",
        help="the picture; default work_dirs/<config>/browse_<split>.png",
    )
    parser.add_argument(
        "--original", action="store_true", help="put each sample's own file to its left"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice and the augmentation (%(default)s)"
    )
    return parser.parse_args()


def main() -> None:
    """Draws the grid."""
    arguments = parse_arguments()
    from aicore.apis.browse import browse  # imports torch, which --help need not wait for

    file = browse(
        arguments.config,
        split=arguments.split,
        count=arguments.count,
        columns=arguments.columns,
        out=arguments.out,
        original=arguments.original,
        seed=arguments.seed,
        options=arguments.cfg_options,
    )
    say(f"picture in {file}")


if __name__ == "__main__":
    run(main)
