"""Measures speed and memory: ``python tools/benchmark.py train CONFIG``, ``... ema`` ..."""

import argparse

from aicore.cli import add_config_arguments, run


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Measure speed and memory beside the peers'.")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="{train,ema,segmentation}")

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
    for kind in (training, ema, segmentation):
        kind.add_argument("--csv", metavar="FILE", help="where the figures go, too")
    return parser.parse_args()


def main() -> None:
    """Prints the table and writes the CSV."""
    arguments = parse_arguments()
    # They import torch, which --help need not wait for.
    from aicore.apis.benchmark import benchmark_ema, benchmark_training

    if arguments.kind == "train":
        report = benchmark_training(
            arguments.config,
            iterations=arguments.iters,
            rounds=arguments.rounds,
            switches=[name for name in arguments.switches.split(",") if name],
            options=arguments.cfg_options,
        )
    elif arguments.kind == "segmentation":
        from aicore.apis.benchmark.segmentation import benchmark_segmentation

        report = benchmark_segmentation(
            arguments.config, arguments.rounds, options=arguments.cfg_options
        )
    else:
        report = benchmark_ema(arguments.models)
    print(report)
    if arguments.csv:
        print(f"figures in {report.write_csv(arguments.csv)}")


if __name__ == "__main__":
    run(main)
