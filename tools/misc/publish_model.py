"""Publishes a model's weights: ``python tools/misc/publish_model.py CHECKPOINT``."""

import argparse

from aicore.cli import add_trust_argument, run, say


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Write a checkpoint's weights for inference: safetensors with the classes in "
        "its metadata, without the optimiser. tools/test.py and tools/demo.py take the file."
    )
    parser.add_argument("checkpoint", help="checkpoint of a training (.pth)")
    parser.add_argument(
        "--out",
        metavar="FILE.safetensors",
        help="the file to write; default <checkpoint>-<8 digits of its SHA-256>.safetensors",
    )
    add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Publishes the checkpoint."""
    arguments = parse_arguments()
    from aicore.apis.publish import publish_model  # imports torch, --help need not wait for it

    file = publish_model(arguments.checkpoint, arguments.out, arguments.trust_checkpoint)
    say(f"weights in {file} ({file.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
