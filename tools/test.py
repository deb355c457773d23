"""Tests a checkpoint: ``python tools/test.py CONFIG CKPT``."""

import argparse

from aicore.cli import (
    add_config_arguments,
    add_launcher_argument,
    add_trust_argument,
    run,
    settings_of,
)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Test a checkpoint: metrics.json, predictions.json and pictures."
    )
    add_config_arguments(parser)
    parser.add_argument("checkpoint", help="weights to test (.pth or .safetensors)")
    parser.add_argument("--out", help="results; default work_dirs/<config>/test")
    parser.add_argument("--tta", action="store_true", help="average over flipped images")
    add_trust_argument(parser)
    add_launcher_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Tests as the command line says."""
    arguments = parse_arguments()
    from aicore.apis import test  # imports torch, which --help need not wait for

    test(
        arguments.config,
        arguments.checkpoint,
        out=arguments.out,
        tta=arguments.tta,
        options=settings_of(arguments, "launcher"),
        trust=arguments.trust_checkpoint,
    )


if __name__ == "__main__":
    run(main)
