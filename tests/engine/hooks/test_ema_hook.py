from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.layers import ExpMomentumEMA
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.runner import Runner
from torch import nn

from aicore.engine.hooks.ema_hook import EMAHook
from aicore.errors import ConfigError

LENGTH = 5  # iterations an epoch


class Net(nn.Module):
    """A convolution, batch norm, and two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.bn(self.conv(images)).mean((2, 3))
        return self.second(self.first(features))


def make_model(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def make_runner(model: nn.Module, resume: bool = False, max_epochs: int = 100) -> SimpleNamespace:
    return SimpleNamespace(
        model=model,
        iter=0,
        epoch=0,
        max_epochs=max_epochs,
        train_dataloader=range(LENGTH),
        logger=logging.getLogger("test_ema_hook"),
        _resume=resume,
    )


def steps_of(model: nn.Module, first: int, last: int) -> Iterator[int]:
    """Trains, each iteration from its own seed, and yields after each."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for iteration in range(first, last):
        generator = torch.Generator().manual_seed(iteration)
        images = torch.randn(4, 3, 6, 6, generator=generator)
        optimizer.zero_grad()
        model(images).square().mean().sub(1).square().backward()
        optimizer.step()
        yield iteration


def train(hook: EMAHook, runner: SimpleNamespace, first: int, last: int) -> None:
    for iteration in steps_of(runner.model, first, last):
        runner.iter, runner.epoch = iteration, iteration // LENGTH
        hook.after_train_iter(runner, iteration % LENGTH)
    runner.iter = last


def start(model: nn.Module, **arguments: object) -> tuple[EMAHook, SimpleNamespace]:
    hook, runner = EMAHook(**arguments), make_runner(model)
    hook.before_train(runner)
    return hook, runner


def saved(hook: EMAHook, runner: SimpleNamespace) -> dict:
    """A checkpoint that later training does not change."""
    model = getattr(runner.model, "module", runner.model)
    checkpoint = {"meta": {}, "state_dict": model.state_dict()}
    hook.before_save_checkpoint(runner, checkpoint)
    return copy.deepcopy(checkpoint)


def copy_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


def assert_equal(state: dict, expected: dict) -> None:
    torch.testing.assert_close(dict(state), dict(expected), rtol=0, atol=0)


def differs(state: dict, other: dict) -> bool:
    return any(not torch.equal(state[name], other[name]) for name in state)


# ---- the average ----


@pytest.mark.parametrize("update_buffers", [False, True])
@pytest.mark.parametrize("warmup", [0, 7])
def test_values_are_those_of_mmengine(warmup, update_buffers):
    model = make_model()
    if update_buffers:  # then MMEngine averages a shared weight twice
        model.second.weight = nn.Parameter(model.second.weight.detach().clone())
    options = {"momentum": 0.01, "update_buffers": update_buffers}
    if warmup:
        reference = ExpMomentumEMA(model, gamma=warmup, **options)
    else:
        reference = ExponentialMovingAverage(model, **options)
    hook, runner = start(model, warmup=warmup, **options)

    for iteration in steps_of(model, 0, 60):
        runner.iter = iteration
        hook.after_train_iter(runner, iteration)
        reference.update_parameters(model)
    averaged = saved(hook, runner)["ema_state_dict"]

    expected = reference.module.state_dict()
    expected["bn.num_batches_tracked"] = torch.tensor(60)  # MMEngine forgets it with the buffers
    assert_equal(averaged, expected)
    raw = model.state_dict()
    assert not torch.equal(averaged["conv.weight"], raw["conv.weight"])
    assert torch.equal(averaged["bn.running_mean"], raw["bn.running_mean"]) != update_buffers


def test_constant_momentum_by_formula():
    hook, runner = start(make_model(), momentum=0.25)
    expected = None

    for iteration in steps_of(runner.model, 0, 4):
        runner.iter = iteration
        hook.after_train_iter(runner, iteration)
        bias = runner.model.conv.bias.detach().clone()
        expected = bias if expected is None else 0.75 * expected + 0.25 * bias

    torch.testing.assert_close(saved(hook, runner)["ema_state_dict"]["conv.bias"], expected)


def test_average_is_a_copy_until_it_begins():
    late, runner = start(make_model(), momentum=0.1, warmup=9, begin_epoch=2)
    train(late, runner, 0, 2 * LENGTH)
    checkpoint = saved(late, runner)
    assert_equal(checkpoint["ema_state_dict"], checkpoint["state_dict"])

    # As if the training began there: its first step copies, its warm-up starts.
    other = make_model()
    list(steps_of(other, 0, 2 * LENGTH))
    fresh, fresh_runner = start(other, momentum=0.1, warmup=9)
    for iteration in steps_of(other, 2 * LENGTH, 4 * LENGTH):
        fresh_runner.iter = iteration - 2 * LENGTH
        fresh.after_train_iter(fresh_runner, 0)
    train(late, runner, 2 * LENGTH, 4 * LENGTH)

    checkpoint = saved(late, runner)
    assert differs(checkpoint["ema_state_dict"], checkpoint["state_dict"])
    assert_equal(checkpoint["ema_state_dict"], saved(fresh, fresh_runner)["ema_state_dict"])


def test_one_call_updates_the_whole_model(monkeypatch):
    hook, runner = start(make_model())
    runner.iter = 1
    calls = []
    monkeypatch.setattr(torch, "_foreach_lerp_", lambda averages, *_: calls.append(len(averages)))

    hook.after_train_iter(runner, 1)

    assert calls == [7]  # three biases, batch norm's two, two weights of which one is shared


def test_parameters_stay_the_same_objects_in_the_same_memory():
    model = make_model().to(memory_format=torch.channels_last)
    before = {name: (id(p), p.data_ptr()) for name, p in model.named_parameters()}
    hook, runner = start(model, momentum=0.1)
    train(hook, runner, 0, 3)
    hook.before_val_epoch(runner)
    assert {name: (id(p), p.data_ptr()) for name, p in model.named_parameters()} == before
    weight = saved(hook, runner)["ema_state_dict"]["conv.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.requires_grad


# ---- validation ----


@pytest.mark.parametrize("update_buffers", [False, True])
def test_validation_sees_the_average_and_training_the_raw_weights(update_buffers):
    hook, runner = start(make_model(), momentum=0.1, update_buffers=update_buffers)
    train(hook, runner, 0, 7)
    raw, checkpoint = copy_of(runner.model), saved(hook, runner)

    hook.before_val_epoch(runner)
    assert_equal(runner.model.state_dict(), checkpoint["ema_state_dict"])
    assert differs(runner.model.state_dict(), raw)
    hook.after_val_epoch(runner)
    assert_equal(runner.model.state_dict(), raw)
    assert_equal(saved(hook, runner)["ema_state_dict"], checkpoint["ema_state_dict"])


def test_averaged_weights_are_used_by_a_compiled_model():
    model = make_model()
    model.conv.compile(backend="eager")
    hook, runner = start(model, momentum=0.1)
    train(hook, runner, 0, 3)
    images = torch.randn(2, 3, 6, 6)
    plain = make_model()

    hook.before_val_epoch(runner)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(images), plain.eval()(images))
    hook.after_val_epoch(runner)
    assert not torch.equal(model.eval()(images), plain(images))


def test_checkpoint_in_an_interrupted_validation_is_right():
    hook, runner = start(make_model(), momentum=0.1)
    train(hook, runner, 0, 7)
    expected = saved(hook, runner)

    hook.before_val_epoch(runner)
    assert_equal(runner.model.state_dict(), expected["ema_state_dict"])
    interrupted = saved(hook, runner)

    assert_equal(interrupted["state_dict"], expected["state_dict"])
    assert_equal(interrupted["ema_state_dict"], expected["ema_state_dict"])
    hook.after_val_epoch(runner)
    assert_equal(runner.model.state_dict(), expected["state_dict"])


def test_nothing_is_changed_outside_of_a_training():
    hook, runner = EMAHook(), make_runner(make_model())
    before = copy_of(runner.model)

    hook.before_val_epoch(runner)
    hook.before_test_epoch(runner)

    assert_equal(runner.model.state_dict(), before)


def test_test_runs_with_the_weights_in_the_model():
    hook, runner = start(make_model(), momentum=0.1)
    train(hook, runner, 0, 3)
    before = copy_of(runner.model)
    hook.before_test_epoch(runner)
    assert_equal(runner.model.state_dict(), before)


# ---- checkpoints ----


def test_checkpoint_names_the_weights_for_inference(tmp_path):
    hook, runner = start(make_model(), momentum=0.1)
    train(hook, runner, 0, 3)
    checkpoint = {"meta": {"epoch": 1}, "state_dict": runner.model.state_dict()}

    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / "a.pth")
    read = torch.load(tmp_path / "a.pth", weights_only=True)

    assert read["meta"] == {"epoch": 1, "inference_weights": "ema_state_dict"}
    assert list(read["ema_state_dict"]) == list(read["state_dict"])
    assert_equal(read["state_dict"], runner.model.state_dict())


def add_rename_hook(model: nn.Module) -> nn.Module:
    def rename(module: nn.Module, state: dict, *unused: object) -> None:
        for name in list(state):
            state[f"net.{name}"] = state.pop(name)

    model._register_state_dict_hook(rename)
    return model


@pytest.mark.parametrize("prepare", [nn.Module.train, nn.DataParallel, add_rename_hook])
@pytest.mark.parametrize("update_buffers", [False, True])
def test_resumed_training_is_the_uninterrupted_one(prepare, update_buffers):
    arguments = {"momentum": 0.05, "warmup": 4, "update_buffers": update_buffers, "begin_epoch": 1}
    whole, whole_runner = start(prepare(make_model()), **arguments)
    train(whole, whole_runner, 0, 17)

    first, runner = start(prepare(make_model()), **arguments)
    train(first, runner, 0, 9)
    checkpoint = saved(first, runner)
    model = make_model(seed=1)
    second, runner = EMAHook(**arguments), make_runner(prepare(model), resume=True)
    second.after_load_checkpoint(runner, checkpoint)  # MMEngine's order: the weights come after
    weights = {name.removeprefix("net."): w for name, w in checkpoint["state_dict"].items()}
    model.load_state_dict(weights)
    second.before_train(runner)
    assert_equal(saved(second, runner)["ema_state_dict"], checkpoint["ema_state_dict"])
    train(second, runner, 9, 17)

    expected, got = saved(whole, whole_runner), saved(second, runner)
    assert list(got["ema_state_dict"]) == list(checkpoint["state_dict"])
    assert_equal(got["state_dict"], expected["state_dict"])
    assert_equal(got["ema_state_dict"], expected["ema_state_dict"])
    assert differs(got["ema_state_dict"], got["state_dict"])


def test_resume_without_averaged_weights_starts_with_a_copy(caplog):
    model = make_model(seed=1)
    hook, runner = EMAHook(), make_runner(model, resume=True)

    with caplog.at_level(logging.WARNING):
        hook.after_load_checkpoint(runner, {"meta": {}, "state_dict": model.state_dict()})
    model.load_state_dict(make_model(seed=2).state_dict())
    hook.before_train(runner)

    assert "holds no averaged weights (ema_state_dict)" in caplog.text
    assert_equal(saved(hook, runner)["ema_state_dict"], make_model(seed=2).state_dict())


def test_fine_tuning_starts_with_the_loaded_weights(caplog):
    model = make_model(seed=1)
    hook, runner = EMAHook(), make_runner(model)
    other = make_model(seed=3).state_dict()

    hook.after_load_checkpoint(runner, {"meta": {}, "state_dict": other, "ema_state_dict": other})
    model.load_state_dict(make_model(seed=2).state_dict())
    hook.before_train(runner)

    assert not caplog.text
    assert_equal(saved(hook, runner)["ema_state_dict"], make_model(seed=2).state_dict())


# ---- in MMEngine's Runner ----


class Toy(BaseModel):
    """A layer to train; it predicts its own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: list[torch.Tensor], mode: str = "tensor") -> object:
        if mode == "loss":
            return {"loss": (self.layer(torch.stack(inputs)) - 1).square().mean()}
        return [self.layer.weight.clone()]


class Record(Hook):
    """Keeps the predictions of all validations."""

    def __init__(self) -> None:
        self.predictions: list[torch.Tensor] = []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.predictions += outputs


def run(work_dir: Path, max_epochs: int, resume: bool = False) -> list[torch.Tensor]:
    """Trains on the CPU; returns the weights seen by the validations."""
    torch.manual_seed(0)
    loader = {
        "dataset": [{"inputs": torch.randn(2)} for _ in range(6)],
        "batch_size": 2,
        "num_workers": 0,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
    }
    record = Record()
    Runner(
        model=Toy(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": max_epochs},
        val_cfg={},
        val_evaluator=Evaluator([]),
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        custom_hooks=[{"type": "aicore.EMAHook", "momentum": 0.1, "begin_epoch": 1}, record],
        resume=resume,
        experiment_name=f"{work_dir.name}_{max_epochs}",
    ).train()
    return record.predictions


def test_with_mmengines_runner(tmp_path):
    validated = run(tmp_path / "whole", 3)
    run(tmp_path / "parts", 2)
    run(tmp_path / "parts", 3, resume=True)

    whole, parts = (
        torch.load(tmp_path / name / "epoch_3.pth", weights_only=False)
        for name in ("whole", "parts")
    )
    assert_equal(whole["ema_state_dict"], parts["ema_state_dict"])
    assert_equal(whole["state_dict"], parts["state_dict"])
    assert differs(whole["state_dict"], whole["ema_state_dict"])
    assert torch.equal(validated[-1], whole["ema_state_dict"]["layer.weight"])
    assert whole["meta"]["inference_weights"] == "ema_state_dict"


# ---- mistakes ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("momentum", 0.0),
        ("momentum", 1.0),
        ("momentum", 1.5),
        ("momentum", -0.1),
        ("momentum", float("nan")),
        ("momentum", "0.1"),
        ("warmup", -1),
        ("warmup", 0.5),
        ("begin_epoch", -1),
    ],
)
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ConfigError) as caught:
        EMAHook(**{name: value})
    assert str(caught.value).startswith(f"EMAHook.{name} = {value!r}: expected ")


def test_beginning_after_the_end_is_an_error():
    runner = make_runner(make_model(), max_epochs=3)
    EMAHook(begin_epoch=2).before_train(runner)
    with pytest.raises(ConfigError, match=r"EMAHook\.begin_epoch = 3: .* max_epochs = 3"):
        EMAHook(begin_epoch=3).before_train(runner)
