"""Speed and memory of aicore's training beside a bare PyTorch loop over the same config."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from statistics import median
from typing import Any

from mmengine.config import Config
from tqdm import tqdm

from aicore.apis.benchmark.report import Report, machine_facts
from aicore.apis.benchmark.variant import Round, Variant, prefetched_batches, run_variant
from aicore.apis.setup import default_work_dir, open_config
from aicore.errors import ConfigError, did_you_mean

SWITCHES = ("amp", "channels_last", "compile")
_COMBINATIONS = (("amp",), ("channels_last",), ("compile",), ("amp", "channels_last"), SWITCHES)
_BARE = Variant("bare loop", None)
_RUNNER = Variant("Runner", frozenset())
_FEWEST_ITERATIONS = 20
_WARM_UP = 5  # iterations at least


def benchmark_training(
    config: str | Path,
    iterations: int | None = None,
    rounds: int = 5,
    switches: Sequence[str] = SWITCHES,
    options: dict[str, Any] | None = None,
) -> Report:
    """Measures images/s, the waiting for data and the peak memory of a config's training.

    The variants are a bare PyTorch loop with the same model, data, optimiser and schedulers;
    aicore's Runner with all its hooks but checkpoints, validation and early stopping; and the
    Runner with switches. All are at hand at once, each in a process of its own, so memory has to
    be enough for all of them. After a warm-up they take turns: in each round every variant runs
    its iterations while the others are held. Figures are medians over the rounds, and ratios
    medians of each round's ratio, so that what else the machine does meets all variants alike.

    Their logs go to ``work_dirs/<config's name>/benchmark/<variant>``.

    Args:
        config: Config file.
        iterations: Of a round; by default three times what the data workers prefetch, and at
            least 20. Before them as many as are prefetched run uncounted, see :class:`Pacer`.
        rounds: How often each variant gets its turn.
        switches: Which of ``amp``, ``channels_last`` and ``compile`` to measure, each alone and
            together.
        options: Overrides of the config, with dotted keys.

    Returns:
        A row for each variant with the columns ``variant``, ``images_per_second``,
        ``ratio_to_bare_loop``, ``gain_over_runner`` (a factor), ``data_wait_share`` (0..1),
        ``peak_memory_mb`` and ``note``, which says why a variant has no figures.

    Raises:
        ConfigError: A switch is unknown, a number is not positive, the config does not train, or
            no variant runs.
    """
    variants = _choose_variants(switches)
    settings = open_config(config, options)
    _refuse_config_without_training(settings)
    prefetched = prefetched_batches(settings)
    if iterations is None:
        iterations = max(_FEWEST_ITERATIONS, 3 * prefetched)
    if min(iterations, rounds) < 1:
        raise ConfigError(f"--iters {iterations} --rounds {rounds}: both have to be at least 1.")
    folder = Path(default_work_dir(config, "benchmark"))
    with _started(variants, config, options, folder) as processes:
        results = _take_turns(processes, iterations, rounds)
    failures = [result for result in results.values() if isinstance(result, str)]
    if len(failures) == len(results):
        raise ConfigError(f"{config}: none of the variants runs. {failures[0]}")
    facts = {
        **machine_facts(),
        "rounds": f"{rounds} of {iterations} iterations, {prefetched} more at the start of each "
        "are not counted",
    }
    return Report(facts, [_row(variant.name, results) for variant in variants])


def _choose_variants(switches: Sequence[str]) -> list[Variant]:
    for name in switches:
        if name not in SWITCHES:
            raise ConfigError(
                f"--switches: {name!r} is no switch of the training.{did_you_mean(name, SWITCHES)} "
                f"There are: {','.join(SWITCHES)}."
            )
    return [_BARE, _RUNNER] + [
        Variant(f"Runner {' '.join(map(_option, combination))}", frozenset(combination))
        for combination in _COMBINATIONS
        if set(combination) <= set(switches)
    ]


def _option(switch: str) -> str:
    return f"--{switch.replace('_', '-')}"


def _refuse_config_without_training(settings: Config) -> None:
    missing = [
        key for key in ("train_dataloader", "train_cfg", "optim_wrapper") if not settings.get(key)
    ]
    if missing:
        raise ConfigError(
            f"{settings.filename}: {' and '.join(missing)} not set, so there is no training to "
            "measure."
        )


class _Process:
    """A variant that is being built, or is held, or runs a round."""

    def __init__(self, variant: Variant, config: str | Path, options: Any, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = folder
        self.connection, other_end = context.Pipe()
        self.process = context.Process(
            target=run_variant, args=(variant, config, options, folder, other_end)
        )
        self.process.start()
        other_end.close()  # so that the end of the process can be seen here

    def run(self, iterations: int) -> Round | str:
        """Runs a round; returns a sentence where the variant has failed."""
        with suppress(BrokenPipeError):  # it failed before; its sentence lies ready
            self.connection.send(iterations)
        # Not the connection alone: data workers hold it open a while longer than the process.
        wait([self.connection, self.process.sentinel])
        with suppress(EOFError, ConnectionResetError):
            if self.connection.poll():
                return self.connection.recv()
        self.process.join()
        return (
            f"Its process ended with code {self.process.exitcode} "
            f"(see {self.folder / 'console.log'})."
        )

    def end(self) -> None:
        """Waits for the process to end by itself, as it does once the connection is closed."""
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def _started(
    variants: Sequence[Variant], config: str | Path, options: Any, folder: Path
) -> Iterator[dict[str, _Process]]:
    """Starts a process for each variant, and ends them all when the block is left."""
    processes: dict[str, _Process] = {}
    try:
        for variant in variants:
            work_dir = folder / variant.name.replace(" --", "_").replace(" ", "_")
            processes[variant.name] = _Process(variant, config, options, work_dir)
        yield processes
    finally:
        for process in processes.values():
            process.connection.close()
        for process in processes.values():
            process.end()


def _take_turns(
    processes: dict[str, _Process], iterations: int, rounds: int
) -> dict[str, list[Round] | str]:
    """Returns each variant's rounds, or the sentence it failed with."""
    results: dict[str, list[Round] | str] = {name: [] for name in processes}
    progress = tqdm(total=(rounds + 1) * len(processes), unit="turn", disable=None)
    for number in range(rounds + 1):
        for name, process in processes.items():
            progress.set_description(f"round {number}/{rounds}: {name}" if number else name)
            so_far = results[name]
            if isinstance(so_far, list):
                result = process.run(iterations if number else max(iterations, _WARM_UP))
                if isinstance(result, str):
                    results[name] = result
                elif number:  # else it was the warm-up
                    so_far.append(result)
            progress.update()
    progress.close()
    return results


def _row(name: str, results: dict[str, list[Round] | str]) -> dict[str, str | float | None]:
    found = results[name]
    if isinstance(found, str):
        figures, note = [None] * 5, found
    else:
        figures, note = (
            [
                round(median(turn.images_per_second for turn in found), 2),
                _ratio(found, results[_BARE.name]),
                _ratio(found, results[_RUNNER.name]),
                round(median(turn.data_wait_share for turn in found), 4),
                round(max(turn.peak_memory for turn in found), 1),
            ],
            "",
        )
    keys = (
        "images_per_second",
        "ratio_to_bare_loop",
        "gain_over_runner",
        "data_wait_share",
        "peak_memory_mb",
    )
    return {"variant": name, **dict(zip(keys, figures, strict=True)), "note": note}


def _ratio(found: list[Round], reference: list[Round] | str) -> float | None:
    """Returns the median over the rounds of how much faster ``found`` is; 2 is twice as fast."""
    if isinstance(reference, str):
        return None
    pairs = zip(found, reference, strict=True)
    return round(median(a.images_per_second / b.images_per_second for a, b in pairs), 3)
