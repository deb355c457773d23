"""Reads another library's checkpoint: ``python tools/misc/convert_weights.py CONFIG CKPT``."""

import argparse

from aicore.cli import add_config_arguments, add_trust_argument, run, say


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Write another library's checkpoint as one of a config's model, which "
        "test.py, demo.py and train.py --load-from take.",
        epilog="segmentation_models.pytorch (smp): Unet and UnetPlusPlus with encoders of "
        "torchvision's layout (resnet18) or timm's (tu-efficientnet_b0); set classes and "
        "model_name in the config, or by --cfg-options.",
    )
    add_config_arguments(parser)
    parser.add_argument("checkpoint", help="the other library's file (.pth or .safetensors)")
    parser.add_argument("--from", dest="source", required=True, help="the library: smp")
    parser.add_argument("--out", metavar="FILE.pth", help="default: <CKPT>_aicore.pth beside it")
    add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Converts the file."""
    arguments = parse_arguments()
    from aicore.apis import convert_weights  # imports torch, which --help need not wait for

    file = convert_weights(
        arguments.config,
        arguments.checkpoint,
        arguments.source,
        out=arguments.out,
        options=arguments.cfg_options,
        trust=arguments.trust_checkpoint,
    )
    say(f"weights in {file}")


if __name__ == "__main__":
    run(main)
