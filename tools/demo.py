"""Runs a model on images and videos: ``python tools/demo.py CONFIG CKPT INPUTS...``."""

import argparse

from aicore.cli import add_config_arguments, add_trust_argument, run, say
from aicore.errors import DataError


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Run a model on images and videos: annotated ones, and predictions.json."
    )
    add_config_arguments(parser)
    parser.add_argument("checkpoint", help="the model's weights (.pth or .safetensors)")
    parser.add_argument(
        "inputs", nargs="+", help="image files, folders or globs of images, video files"
    )
    parser.add_argument("--out", help="results; default work_dirs/<config>/demo")
    parser.add_argument("--cam", action="store_true", help="write class-activation maps too")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: the best there is")
    add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Runs the model as the command line says."""
    arguments = parse_arguments()
    from aicore.apis import infer  # imports torch, which --help need not wait for
    from aicore.apis.setup import default_work_dir

    out = arguments.out or default_work_dir(arguments.config, "demo")
    records = infer(
        arguments.config,
        arguments.checkpoint,
        arguments.inputs,
        out=out,
        cam=arguments.cam,
        device=arguments.device,
        options=arguments.cfg_options,
        trust=arguments.trust_checkpoint,
    )
    frames = sum("frame" in record for record in records)
    counts = ((len(records) - frames, "images"), (frames, "frames of videos"))
    found = " and ".join(f"{count} {what}" for count, what in counts if count)
    say(f"{found}, pictures and predictions.json in {out}")
    missed = [record for record in records if not record["inspected"]]
    if missed:
        first = missed[0]
        raise DataError(
            f"{len(missed)} of {len(records)} images were not inspected, the first: "
            f"{first['image']}: {first['reason']}"
        )


if __name__ == "__main__":
    run(main)
