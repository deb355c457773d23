"""Plots the curves of trainings: ``python tools/analysis/plot_logs.py WORK_DIR...``."""

import argparse

from aicore.cli import run, say


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Plot losses, learning rate and metrics of one or several trainings."
    )
    parser.add_argument(
        "logs", nargs="+", help="work dirs (their newest run is taken) or scalars.json files"
    )
    parser.add_argument(
        "--keys",
        nargs="+",
        default=[],
        metavar="KEY",
        help="what to plot, e.g. loss lr accuracy/top1; default loss, lr and the metrics",
    )
    parser.add_argument(
        "--out", metavar="FILE.png", help="the picture; default curves.png in the first work dir"
    )
    return parser.parse_args()


def main() -> None:
    """Plots the logs."""
    arguments = parse_arguments()
    from aicore.apis.logs import plot_logs  # imports matplotlib, --help need not wait for it

    say(f"picture in {plot_logs(arguments.logs, arguments.keys, arguments.out)}")


if __name__ == "__main__":
    run(main)
