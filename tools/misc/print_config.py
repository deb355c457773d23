"""Prints a config with all its settings: ``python tools/misc/print_config.py CONFIG``."""

import argparse

from aicore.cli import add_config_arguments, run


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Print a config as the other tools see it: base files and options merged, "
        "'${...}' worked out. The output is a config file itself."
    )
    add_config_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Prints the config."""
    arguments = parse_arguments()
    from aicore.config import load_config

    print(load_config(arguments.config, arguments.cfg_options).pretty_text, end="")


if __name__ == "__main__":
    run(main)
