from __future__ import annotations

import csv
import math
import threading
import time
from contextlib import contextmanager, suppress
from multiprocessing import Pipe

import pytest
import timm
import torch
from torch import nn

from aicore.apis import open_config
from aicore.apis.benchmark import ema, training
from aicore.apis.benchmark import variant as variant_module
from aicore.apis.benchmark.report import Report
from aicore.apis.benchmark.training import _choose_variants, _ratio, benchmark_training
from aicore.apis.benchmark.variant import (
    Pacer,
    Round,
    _build_schedulers,
    _sentence,
    _switch,
    _total,
    _train_bare,
    _train_without_end,
    prefetched_batches,
)
from aicore.errors import ConfigError, DataError


def loop(pacer: Pacer, waits: list[float], work: float) -> None:
    """A training loop of batches of 100 images, for which it waits as long as told."""
    with suppress(SystemExit):  # the end of the process, when the connection is closed
        pacer.wait()
        for seconds in waits:
            time.sleep(seconds)
            pacer.batch_ready(100)
            time.sleep(work)
            pacer.iteration_done()
        raise AssertionError("the loop went on")


def run_loop(prefetched: int, waits: list[float], rounds: list[int]) -> list[Round]:
    """Returns what the pacer reports of ``loop`` for each of ``rounds``."""
    ours, theirs = Pipe()
    thread = threading.Thread(
        target=loop, args=(Pacer(theirs, prefetched), waits, 0.01), daemon=True
    )
    thread.start()
    found = []
    for iterations in rounds:
        time.sleep(0.2)  # held meanwhile, which must not count
        ours.send(iterations)
        assert ours.poll(10)
        found.append(ours.recv())
    ours.close()
    thread.join(10)
    assert not thread.is_alive()
    return found


def test_a_round_counts_its_own_time_and_images():
    first, second = run_loop(0, waits=[0.0] * 4 + [0.03] * 4, rounds=[4, 4])

    # Sleeps of 10 ms an iteration, and 40 ms in the second round; a busy machine makes them longer.
    assert 0 < first.images_per_second <= 10_000
    assert 0 < second.images_per_second <= 2500
    assert 0 <= first.data_wait_share < second.data_wait_share < 1
    assert first.peak_memory > 50


def test_batches_that_lay_ready_do_not_count():
    waits = [0.0, 0.0, 0.03, 0.03] * 2  # the first two of each round were prefetched

    found = run_loop(2, waits, rounds=[2, 2])

    for turn in found:
        assert 0 < turn.images_per_second <= 2500
        assert 0 < turn.data_wait_share < 1


def test_switches_alone_and_together():
    names = [variant.name for variant in _choose_variants(["amp", "channels_last", "compile"])]
    assert names == [
        "bare loop",
        "Runner",
        "Runner --amp",
        "Runner --channels-last",
        "Runner --compile",
        "Runner --amp --channels-last",
        "Runner --amp --channels-last --compile",
    ]
    names = [variant.name for variant in _choose_variants(["compile"])]
    assert names == ["bare loop", "Runner", "Runner --compile"]


def test_a_round_outlasts_what_the_workers_prefetch(small_config):
    settings = open_config(small_config())
    assert prefetched_batches(settings) == 0
    settings.train_dataloader.num_workers = 3
    assert prefetched_batches(settings) == 6
    settings.train_dataloader.prefetch_factor = 5
    assert prefetched_batches(settings) == 15


def test_switches_are_set_and_those_of_the_config_reset(small_config):
    settings = open_config(small_config())
    settings.channels_last = True
    settings.amp = settings.optim_wrapper.amp = "bfloat16"
    settings.compile = {"mode": "max-autotune"}

    _switch(settings, frozenset({"compile"}))
    assert "amp" not in settings.optim_wrapper
    assert settings.amp is False  # else the Runner would refuse a wrapper without it
    assert settings.channels_last is False
    assert settings.compile == {"mode": "max-autotune"}

    _switch(settings, frozenset({"amp", "channels_last"}))
    assert settings.optim_wrapper.type == "aicore.OptimWrapper"
    assert settings.optim_wrapper.amp is settings.channels_last is True
    assert settings.compile is False

    settings.optim_wrapper.amp = "bfloat16"
    _switch(settings, frozenset({"amp", "compile"}))
    assert settings.optim_wrapper.amp == "bfloat16"
    assert settings.channels_last is False
    assert settings.compile is True


def test_the_runner_keeps_all_hooks_but_those_that_save_or_stop(small_config):
    settings = open_config(small_config())
    settings.custom_hooks.append({"type": "aicore.EMAHook"})
    names = {name for name, hook in settings.default_hooks.items() if hook}

    _train_without_end(settings)

    assert {name for name, hook in settings.default_hooks.items() if hook} == names - {"checkpoint"}
    assert settings.default_hooks["checkpoint"] is None
    assert [hook["type"] for hook in settings.custom_hooks] == ["aicore.EMAHook"]
    assert settings.val_cfg is settings.val_dataloader is settings.val_evaluator is None
    assert settings.train_cfg.max_epochs > 10_000


class Steps:
    """Stands for a pacer: lets the loop go on for some iterations and looks at the optimiser."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.images: list[int] = []

    def wait(self) -> None:
        pass

    def batch_ready(self, images: int) -> None:
        self.images.append(images)

    def iteration_done(self) -> None:
        if len(self.images) == self.iterations:
            raise KeyboardInterrupt


@pytest.fixture
def run_bare(small_config, monkeypatch):
    """A function that runs the bare loop; it returns the model, and its weights before."""

    def run(iterations: int, accumulate: int) -> tuple[nn.Module, list[torch.Tensor]]:
        settings = open_config(small_config())
        settings.optim_wrapper = {
            "optimizer": {"type": "SGD", "lr": 1.0},
            "accumulative_counts": accumulate,
            "clip_grad": {"max_norm": 1e-3},
        }
        settings.param_scheduler = []
        built = []
        build = variant_module.build_optim_wrapper

        def keep(model: nn.Module, config: dict) -> object:
            built.append((model, [p.detach().clone() for p in model.parameters()]))
            return build(model, config)

        monkeypatch.setattr(variant_module, "build_optim_wrapper", keep)
        steps = Steps(iterations)
        with pytest.raises(KeyboardInterrupt):
            _train_bare(settings, steps)
        monkeypatch.undo()
        assert steps.images == [8] * iterations
        return built[0]

    return run


@pytest.mark.parametrize(("accumulate", "updates"), [(1, 4), (2, 2)])
def test_the_bare_loop_updates_as_the_config_says(run_bare, accumulate, updates):
    model, before = run_bare(4, accumulate)

    pairs = zip(model.parameters(), before, strict=True)
    distance = math.sqrt(sum((a.detach() - b).pow(2).sum().item() for a, b in pairs))
    # Each update is as long as the clipped gradient; they do not all go the same way.
    assert (updates - 1) * 0.5e-3 < distance <= updates * 1.001e-3
    assert model.training


def test_the_bare_loop_adds_up_the_mean_of_the_gradients(run_bare):
    (of_two, _), (of_four, _) = run_bare(1, accumulate=2), run_bare(1, accumulate=4)

    for a, b in zip(of_two.parameters(), of_four.parameters(), strict=True):
        torch.testing.assert_close(a.grad, 2 * b.grad)


def test_the_bare_loop_steps_the_schedulers_as_the_runner_does(small_config):
    settings = open_config(small_config())
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    warm_up = dict(type="LinearLR", start_factor=0.5, begin=0, end=2)
    fall = dict(type="MultiStepLR", milestones=[3], gamma=0.1)
    settings.param_scheduler = [{**warm_up, "convert_to_iter_based": True}, fall]

    by_iteration, by_epoch = _build_schedulers(settings, optimizer, range(6))

    assert len(by_iteration) == len(by_epoch) == 1
    rates = []
    for _ in range(3):
        for _ in range(6):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            by_iteration[0].step()
        by_epoch[0].step()
    # Twelve iterations of warm-up, linear from a half to one.
    assert rates[:12] == pytest.approx([0.5 + 0.5 * step / 11 for step in range(12)])
    assert rates[12:] == pytest.approx([1.0] * 6)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_the_loss_is_the_sum_of_all_losses_and_of_nothing_else():
    losses = {
        "loss_cls": torch.tensor([1.0, 3.0]),
        "loss_box": [torch.tensor(4.0), torch.tensor([1.0, 2.0])],
        "accuracy": torch.tensor(100.0),
    }
    assert _total(losses).item() == 2 + 4 + 1.5


def test_ratios_are_taken_round_by_round():
    machine = [1.0, 0.1, 0.5]  # what is left of it in each round
    runner = [Round(200 * share, 0, 0) for share in machine]
    bare = [Round(100 * share, 0, 0) for share in machine]

    assert _ratio(runner, bare) == 2
    assert _ratio(runner, "It failed.") is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConfigError("a.py: b is wrong."), "a.py: b is wrong."),
        (
            DataError(
                "Caught\nOriginal Traceback:\n  line 1\naicore.errors.DataError: No image.\n"
            ),
            "No image.",
        ),
        (RuntimeError("\nOut of memory.\nTry less."), "RuntimeError: Out of memory."),
        (KeyError(), "KeyError"),
    ],
)
def test_a_failure_as_a_sentence(error, sentence):
    assert _sentence(error) == sentence


class Scripted:
    """Stands for a variant's process: gives what it was told, or fails."""

    def __init__(self, name: str, calls: list[tuple[str, int]], rounds: list[Round | str]) -> None:
        self.name, self.calls, self.rounds = name, calls, iter(rounds)

    def run(self, iterations: int) -> Round | str:
        self.calls.append((self.name, iterations))
        return next(self.rounds)


@pytest.fixture
def scripted(monkeypatch):
    """A function that has variants give scripted rounds; it returns the list of their calls."""

    def replace(**rounds: list[Round | str]) -> list[tuple[str, int]]:
        calls: list[tuple[str, int]] = []

        @contextmanager
        def started(variants, *_):
            names = [variant.name for variant in variants]
            yield {
                name: Scripted(name, calls, script)
                for name, script in zip(names, rounds.values(), strict=True)
            }

        monkeypatch.setattr(training, "_started", started)
        return calls

    return replace


def test_variants_take_turns_and_a_failed_one_gets_no_more(small_config, scripted):
    warm_up = Round(1, 1, 1)
    calls = scripted(
        bare=[warm_up, Round(100, 0.1, 300), Round(300, 0.2, 301), Round(101, 0.3, 301)],
        runner=[warm_up, Round(90, 0.4, 400), Round(270, 0.5, 400), Round(50.5, 0.6, 402.4)],
        amp=[warm_up, Round(180, 0.1, 200), "Out of memory."],
    )

    report = benchmark_training(small_config(), iterations=3, rounds=3, switches=["amp"])

    a, b, c = "bare loop", "Runner", "Runner --amp"
    assert calls == [
        *[(a, 5), (b, 5), (c, 5)],  # the warm-up
        *[(a, 3), (b, 3), (c, 3)],
        *[(a, 3), (b, 3), (c, 3)],
        *[(a, 3), (b, 3)],
    ]
    assert [list(row.values()) for row in report.rows] == [
        [a, 101, 1, 1.111, 0.2, 301, ""],
        [b, 90, 0.9, 1, 0.5, 402.4, ""],
        [c, None, None, None, None, None, "Out of memory."],
    ]


def test_without_a_bare_loop_there_is_no_ratio_to_it(small_config, scripted):
    calls = scripted(bare=["No."], runner=[Round(1, 0, 1), Round(50, 0, 1)])
    options = {"num_workers": 4}

    report = benchmark_training(small_config(), rounds=1, switches=[], options=options)

    assert calls == [("bare loop", 24), ("Runner", 24), ("Runner", 24)]  # 3 x 4 workers x 2 batches
    assert list(report.rows[1].values()) == ["Runner", 50, None, 1, 0, 1, ""]


def test_no_variant_at_all(small_config, scripted):
    calls = scripted(bare=["No image found."], runner=["Neither here."])

    with pytest.raises(ConfigError, match=r"none of the variants runs\. No image found\."):
        benchmark_training(small_config(), switches=[])
    assert calls == [("bare loop", 20), ("Runner", 20)]


def test_report_as_csv_and_table(tmp_path):
    rows = [{"model": "a, b", "time_ms": 1.5}, {"model": "c", "time_ms": None}]
    report = Report({"cpu": "fast, 2 cores"}, rows)

    file = report.write_csv(tmp_path / "new" / "figures.csv")

    first, *others = file.read_text(encoding="utf-8").splitlines()
    assert first == "# cpu: fast, 2 cores"
    read = list(csv.DictReader(others))
    assert read == [{"model": "a, b", "time_ms": "1.5"}, {"model": "c", "time_ms": ""}]
    text = str(report)
    assert text.startswith("cpu: fast, 2 cores\n")
    assert "| model | time ms |" in text
    assert "| c     |       - |" in text


def test_moving_average_beside_mmengines(monkeypatch):
    calls = []
    for name in ("_our_update", "_mmengine_update"):
        make = getattr(ema, name)

        def watched(model, name=name, make=make):
            update = make(model)
            return lambda: (calls.append(name), update())

        monkeypatch.setattr(ema, name, watched)

    report = ema.benchmark_ema(["test_resnet.r160_in1k", "test_vit.r160_in1k"], rounds=4)

    assert calls == ["_our_update", "_mmengine_update"] * 2 * (3 + 4)
    model = timm.create_model("test_resnet.r160_in1k")
    row = report.rows[0]
    assert row["parameters"] == sum(p.numel() for p in model.parameters())
    assert row["tensors"] == len(list(model.parameters()))
    for row in report.rows:
        assert row["aicore_ms"] > 0
        assert row["mmengine_ms"] > 0
        assert row["speed_up"] > 0


def test_moving_average_of_an_unknown_model():
    with pytest.raises(ConfigError, match="Did you mean 'resnet101'"):
        ema.benchmark_ema(["resnet_101"])
