"""From nothing to a trained, tested model and pictures, on the embedded sample data.

``python tools/quickstart.py`` takes about 20 minutes on two processor cores and needs no network.
"""

import argparse
import time
from pathlib import Path

from aicore.cli import run

CONFIGS = Path(__file__).parents[1] / "configs"

# Task, config, what makes it short, and the figures to show.
RUNS = [
    ("classification", "resnet18_sample.py", {"max_epochs": 18}, ("accuracy/top1",)),
    ("segmentation", "unet_resnet18_sample.py", {"max_epochs": 12}, ("mIoU",)),
    ("detection", "yolox_nano_sample.py", {}, ("AP", "AP50")),
    ("anomaly", "padim_resnet18_sample.py", {}, ("image_AUROC", "AUPRO")),
]
FAST = {"amp": True, "channels_last": True, "log_interval": 10}


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="quickstart", help="folder for data and results")
    return parser.parse_args()


def main() -> None:
    """Trains, tests and shows each task."""
    arguments = parse_arguments()
    from aicore.apis import test, train  # imports torch, which --help need not wait for

    out = Path(arguments.out)
    start = time.monotonic()
    lines = []
    for task, name, options, figures in RUNS:
        config = CONFIGS / task / name
        data = {"sample_data": str(out / "data"), "data_root": str(out / "data" / task)}
        options = {**FAST, **options, **data}
        runner = train(config, out / task / "train", options=options)
        info = runner.message_hub.runtime_info
        checkpoint = info.get("best_ckpt") or info["last_ckpt"]  # a fit has no best epoch
        metrics = test(config, checkpoint, out / task / "test", options=options)
        shown = ", ".join(f"{figure} {metrics[figure]:.2f}" for figure in figures)
        lines += [
            f"{task}: {shown} on the held-out images",
            f"  checkpoint: {checkpoint}",
            f"  pictures and tables: {out / task / 'test'}",
        ]
    minutes = (time.monotonic() - start) / 60
    print("\n".join([f"Done in {minutes:.1f} minutes.", *lines]))


if __name__ == "__main__":
    run(main)
