"""Checks a config's data: ``python tools/data/check_dataset.py CONFIG``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aicore.cli import add_config_arguments, run, say


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Check the data of a config's train, val and test splits: classes and counts, "
        "missing and unreadable files, faulty labels, sizes, the same image in two splits.",
        epilog="Exit code 1 if there is an error.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="where dataset_check.json goes; default work_dirs/<config>"
    )
    return parser.parse_args()


def main() -> int:
    """Checks the data; prints the report."""
    arguments = parse_arguments()
    # These import torch, which --help need not wait for.
    from aicore.apis.setup import default_work_dir, open_config
    from aicore.datasets.check import check_config

    report = check_config(open_config(arguments.config, arguments.cfg_options))
    file = Path(arguments.out or default_work_dir(arguments.config)) / "dataset_check.json"
    say(report.text())
    report.write(file)
    say(f"all of it in {file}")
    return 1 if report.of_level("error") else 0


if __name__ == "__main__":
    run(main)
