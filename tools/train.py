"""Trains a model: ``python tools/train.py CONFIG``."""

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
    parser = argparse.ArgumentParser(description="Train a model.")
    add_config_arguments(parser)
    parser.add_argument("--work-dir", help="logs and checkpoints; default work_dirs/<config>")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="CKPT",
        help="go on from the last checkpoint in the work dir, or from CKPT",
    )
    parser.add_argument(
        "--load-from", metavar="CKPT", help="start from these weights (fine-tuning)"
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the batch size over all processes",
    )
    parser.add_argument(
        "--amp",
        nargs="?",
        const=True,
        choices=(True, "bfloat16", "float16"),
        help="mixed precision: bfloat16 where the hardware has it, else float16; or the one named",
    )
    parser.add_argument(
        "--channels-last", action="store_true", help="memory layout NHWC, faster convolutions"
    )
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile: slower start, faster steps"
    )
    add_trust_argument(parser)
    add_launcher_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Trains as the command line says."""
    arguments = parse_arguments()
    from aicore.apis import train  # imports torch, which --help need not wait for

    train(
        arguments.config,
        work_dir=arguments.work_dir,
        resume=arguments.resume,
        load_from=arguments.load_from,
        auto_scale_lr=arguments.auto_scale_lr,
        options=settings_of(
            arguments, "amp", "channels_last", "compile", "trust_checkpoint", "launcher"
        ),
    )


if __name__ == "__main__":
    run(main)
