"""Measures speed and memory: ``python tools/benchmark.py train CONFIG``, ``... ema`` ..."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aicore.cli import add_config_arguments, run, say

if TYPE_CHECKING:
    from aicore.apis.benchmark import Report


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Measure speed and memory beside the peers'.")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    training = kinds.add_parser(
        "train",
        help="a config's training beside a bare PyTorch loop, and what each switch gains",
        description="Measure a config's training: images/s beside a bare PyTorch loop, share of "
        "time waiting for data, peak memory, and the gain of each switch.",
    )
    add_config_arguments(training)
    training.add_argument(
        "--iters",
        type=int,
        metavar="N",
        help="iterations of a round; default three times what the data workers prefetch, at "
        "least 20",
    )
    training.add_argument("--rounds", type=int, default=5, help="turns of each variant; default 5")
    training.add_argument(
        "--switches",
        default="amp,channels_last,compile",
        metavar="A,B",
        help="which to measure, '' for none; default amp,channels_last,compile",
    )

    ema = kinds.add_parser(
        "ema",
        help="the moving average of the weights beside MMEngine's",
        description="Measure the time of one update of the moving average of a model's weights, "
        "beside MMEngine's.",
    )
    ema.add_argument(
        "--models",
        nargs="+",
        default=["efficientnet_b1", "resnet101"],
        metavar="NAME",
        help="models of timm; default efficientnet_b1 resnet101",
    )

    segmentation = kinds.add_parser(
        "segmentation",
        help="a UNet's training step and the metric beside the peers'",
        description="Measure a training step of a config's UNet or UNet++ beside "
        "segmentation_models.pytorch's, and the metric beside mmseg's.",
    )
    add_config_arguments(segmentation)
    segmentation.add_argument("--rounds", type=int, default=10, help="turns of each; default 10")

    data = kinds.add_parser(
        "data",
        help="a config's training pipeline beside the peers' of its task",
        description="Measure a config's training pipeline in one process, step by step, and beside "
        "other libraries' on the same images where its task knows such.",
    )
    add_config_arguments(data)
    data.add_argument("--rounds", type=int, default=10, help="turns of each; default 10")
    data.add_argument("--images", type=int, default=20, help="images of a turn; default 20")

    detection = kinds.add_parser(
        "detection",
        help="a YOLOX training step beside mmdet's",
        description="Measure time and memory of a training step of a config's YOLOX beside mmdet's "
        "own model.",
    )
    add_config_arguments(detection)
    detection.add_argument("--rounds", type=int, default=10, help="turns of each; default 10")

    evaluation = kinds.add_parser(
        "evaluation",
        help="COCO's figures of many boxes beside pycocotools",
        description="Measure COCO's evaluation of images with 100 boxes each beside pycocotools.",
    )
    evaluation.add_argument("--rounds", type=int, default=1, help="turns of each; default 1")
    evaluation.add_argument("--images", type=int, default=5000, help="default 5000")

    anomaly = kinds.add_parser(
        "anomaly",
        help="a PaDiM's fit and test beside anomalib's",
        description="Measure time and memory of the fit, and the speed of the test, of a config's "
        "PaDiM beside anomalib's on the config's images.",
    )
    add_config_arguments(anomaly)
    anomaly.add_argument("--rounds", type=int, default=1, help="turns of each; default 1")
    anomaly.add_argument("--no-peer", action="store_true", help="aicore alone")
    for kind in (training, ema, segmentation, data, detection, evaluation, anomaly):
        kind.add_argument("--csv", metavar="FILE", help="where the figures go, too")
    return parser.parse_args()


def main() -> None:
    """Prints the table and writes the CSV."""
    arguments = parse_arguments()
    report = _measure(arguments)
    say(report)
    if arguments.csv:
        say(f"figures in {report.write_csv(arguments.csv)}")


def _measure(arguments: argparse.Namespace) -> Report:
    # These import torch and a task's host library, which --help need not wait for.
    if arguments.kind == "train":
        from aicore.apis.benchmark import benchmark_training

        return benchmark_training(
            arguments.config,
            iterations=arguments.iters,
            rounds=arguments.rounds,
            switches=[name for name in arguments.switches.split(",") if name],
            options=arguments.cfg_options,
        )
    if arguments.kind == "ema":
        from aicore.apis.benchmark import benchmark_ema

        return benchmark_ema(arguments.models)
    if arguments.kind == "evaluation":
        from aicore.apis.benchmark.evaluation import benchmark_evaluation

        return benchmark_evaluation(arguments.rounds, arguments.images)
    options = arguments.cfg_options
    if arguments.kind == "data":
        from aicore.apis.benchmark.data import benchmark_data

        return benchmark_data(arguments.config, arguments.rounds, arguments.images, options)
    if arguments.kind == "anomaly":
        from aicore.apis.benchmark.anomaly import benchmark_anomaly

        return benchmark_anomaly(arguments.config, arguments.rounds, not arguments.no_peer, options)
    if arguments.kind == "detection":
        from aicore.apis.benchmark.detection import benchmark_detection

        return benchmark_detection(arguments.config, arguments.rounds, options)
    from aicore.apis.benchmark.segmentation import benchmark_segmentation

    return benchmark_segmentation(arguments.config, arguments.rounds, options)


if __name__ == "__main__":
    run(main)
