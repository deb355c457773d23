"""From nothing to trained and tested models and pictures, on the embedded sample data.

``python tools/quickstart.py`` takes three to five minutes on two processor cores, without network.
"""

from __future__ import annotations

import argparse
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aicore.cli import run

CONFIGS = Path(__file__).parents[1] / "configs"
FAST = {"amp": True, "channels_last": True, "log_interval": 10}


@dataclass(frozen=True)
class Run:
    """A task's training and test."""

    config: str
    figures: tuple[str, ...]
    """Of the test, to show at the end."""
    seconds: tuple[int, int]
    """That training and test take on two cores, by which the time left is estimated."""
    options: dict[str, Any] = field(default_factory=dict)


# What is fastest to see comes first.
SHORT = {
    "anomaly": Run("quickstart.py", ("image_AUROC", "AUPRO"), (3, 3)),
    "classification": Run("quickstart.py", ("accuracy/top1",), (35, 1)),
    "segmentation": Run("quickstart.py", ("mIoU",), (87, 2)),
    "detection": Run("quickstart.py", ("AP50", "AP"), (72, 2)),
}
THOROUGH = {
    "anomaly": Run("padim_resnet18_sample.py", ("image_AUROC", "AUPRO"), (8, 8)),
    "classification": Run("resnet18_sample.py", ("accuracy/top1",), (180, 4), {"max_epochs": 18}),
    "segmentation": Run("unet_resnet18_sample.py", ("mIoU",), (420, 6), {"max_epochs": 12}),
    "detection": Run("yolox_nano_sample.py", ("AP50", "AP"), (520, 5)),
}
SECONDS_TO_BEGIN = 5  # to import the libraries and draw the sample data


class Progress:
    """Says what begins, and how long the rest will take.

    Args:
        seconds: That each stage takes on two cores, in their order.
    """

    def __init__(self, seconds: list[float]) -> None:
        self._left = list(seconds)
        self._done = 0.0
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start

    def begin(self, what: str) -> None:
        """Prints a line for the stage that begins."""
        # The stages so far show how fast this machine is.
        pace = self.elapsed / self._done if self._done else 1.0
        left = sum(self._left) * pace
        self._done += self._left.pop(0)
        print(f"[{_clock(self.elapsed)}, about {_clock(left)} left] {what}", flush=True)


def _clock(seconds: float) -> str:
    return "{}:{:02}".format(*divmod(round(seconds), 60))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="quickstart", help="folder for data and results")
    parser.add_argument(
        "--task",
        nargs="+",
        choices=tuple(SHORT),
        default=tuple(SHORT),
        help="one or several; default: all",
    )
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="larger networks, longer trainings, thin scratches: about 20 minutes",
    )
    return parser.parse_args()


def main() -> None:
    """Trains, tests and shows each task."""
    arguments = parse_arguments()
    runs = THOROUGH if arguments.thorough else SHORT
    runs = {task: one for task, one in runs.items() if task in arguments.task}
    seconds = [SECONDS_TO_BEGIN, *(part for one in runs.values() for part in one.seconds)]
    progress = Progress(seconds)
    progress.begin("draws the sample data: good and defective machined parts")

    from aicore.apis import open_config, test, train  # import torch: --help need not wait for it
    from aicore.datasets.check.report import table
    from aicore.runtime.locks import lock_folder

    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    data = out / ("data_thorough" if arguments.thorough else "data")
    rows = [["task", "on held-out images", "time", "pictures and tables"]]
    # What MMEngine logs, line by line, would hide what is to be seen here.
    with lock_folder(out), (out / "log.txt").open("w", encoding="utf-8") as log:
        for task, one in runs.items():
            config, folder = CONFIGS / task / one.config, out / task
            options = {**FAST, **one.options, "sample_data": str(data)}
            with redirect_stdout(log):
                open_config(config, options)  # draws the data, the first time
            begin = progress.elapsed
            progress.begin(f"{task}: trains")
            with redirect_stdout(log):
                info = train(config, folder / "train", options=options).message_hub.runtime_info
            checkpoint = info.get("best_ckpt") or info["last_ckpt"]  # a fit has no best epoch
            progress.begin(f"{task}: tests on images that it has not seen")
            with redirect_stdout(log):
                metrics = test(config, checkpoint, folder / "test", options=options)
            shown = ", ".join(f"{figure} {metrics[figure]:.1f}" for figure in one.figures)
            print(f"    {shown}; look at {folder / 'test' / 'examples.png'}", flush=True)
            rows.append([task, shown, _clock(progress.elapsed - begin), str(folder / "test")])
    print("\n".join(["", *table(rows), "", f"{_clock(progress.elapsed)} in all"]))


if __name__ == "__main__":
    run(main)
