from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook, RuntimeInfoHook
from mmengine.runner.priority import get_priority
from mmengine.structures import BaseDataElement
from torch import nn

from aicore.engine.hooks.ema_hook import EMAHook
from aicore.engine.hooks.invalid_loss_hook import InvalidLossHook
from aicore.errors import ConfigError, DataError

NAN = float("nan")
INF = float("inf")


def make_runner(work_dir: Path, resume: bool = False) -> SimpleNamespace:
    logger = logging.getLogger("test_invalid_loss_hook")
    return SimpleNamespace(work_dir=str(work_dir), iter=0, epoch=0, logger=logger, _resume=resume)


def sample(path: str | None = None) -> BaseDataElement:
    return BaseDataElement(metainfo={} if path is None else {"img_path": path})


def step(hook, runner, outputs, data_batch=None, iteration: int = 0) -> None:
    runner.iter, runner.epoch = iteration, iteration // 10
    hook.after_train_iter(runner, iteration % 10, data_batch, outputs)


def lines(work_dir: Path) -> list[dict]:
    text = (work_dir / "invalid_losses.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_line_tells_the_iteration_the_losses_and_the_images(tmp_path, caplog):
    outputs = {
        "loss": torch.tensor(NAN),
        "loss_box": [torch.tensor(0.5), torch.tensor(-INF, dtype=torch.float16)],
        "mask_loss": 0.25,
        "accuracy": torch.tensor(1.0),
    }
    batch = {"data_samples": [sample("a.png"), sample(), sample("图/b.png")]}

    with caplog.at_level(logging.WARNING):
        step(InvalidLossHook(), make_runner(tmp_path), outputs, batch, iteration=12)

    expected = {
        "epoch": 2,
        "iteration": 13,
        "rank": 0,
        "losses": {"loss": "nan", "loss_box": "0.5, -inf", "mask_loss": "0.25"},
        "images": ["a.png", "图/b.png"],
    }
    assert lines(tmp_path) == [expected]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    text = json.dumps(expected, ensure_ascii=False)
    assert record.getMessage() == f"The loss is nan or infinite: {text}"


@pytest.mark.parametrize(
    "outputs",
    [
        {"loss": torch.tensor(NAN)},
        {"loss": torch.tensor([1.0, INF])},
        {"loss": torch.tensor(1.0), "loss_cls": -INF},
        {"loss": torch.tensor(1.0), "loss_boxes": [torch.tensor(1.0), torch.tensor(NAN)]},
        {"loss": (1.0, NAN)},
        {"decode.loss_ce": torch.tensor(NAN, dtype=torch.bfloat16, requires_grad=True)},
    ],
)
def test_invalid_values_are_found(tmp_path, outputs):
    with pytest.raises(DataError, match="loss"):
        step(InvalidLossHook(max_times=1), make_runner(tmp_path), outputs)


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        {},
        {"loss": torch.tensor(1e30), "loss_cls": 0.0, "loss_boxes": [torch.tensor(2)]},
        {"loss": torch.tensor(1.0), "accuracy": torch.tensor(NAN)},
        {"loss": torch.tensor([])},
    ],
)
def test_valid_losses_leave_no_trace(tmp_path, caplog, outputs):
    step(InvalidLossHook(max_times=1), make_runner(tmp_path), outputs)
    assert not list(tmp_path.iterdir())
    assert not caplog.records


@pytest.mark.parametrize(
    "batch",
    [None, {}, {"inputs": 1}, [1], {"data_samples": None}, {"data_samples": [[sample("a.png")]]}],
)
def test_batches_without_paths_give_none(tmp_path, batch):
    step(InvalidLossHook(), make_runner(tmp_path), {"loss": NAN}, batch)
    assert lines(tmp_path)[0]["images"] == []


def test_training_stops_after_the_set_number(tmp_path):
    hook, runner = InvalidLossHook(max_times=3), make_runner(tmp_path)
    step(hook, runner, {"loss": NAN}, iteration=4)
    step(hook, runner, {"loss": 1.0}, iteration=5)
    step(hook, runner, {"loss": INF, "loss_cls": NAN}, iteration=6)

    with pytest.raises(DataError) as caught:
        step(hook, runner, {"loss": NAN}, iteration=27)

    assert [line["iteration"] for line in lines(tmp_path)] == [5, 7, 28]
    message = str(caught.value)
    assert "in 3 iterations, last in epoch 3, iteration 28;" in message
    assert f"listed in {tmp_path / 'invalid_losses.jsonl'}." in message
    assert "lower the learning rate" in message
    assert "tools/data/check_dataset.py" in message
    assert "Checkpoints from before iteration 5 are not affected." in message


def test_count_goes_on_after_a_resume(tmp_path):
    first, runner = InvalidLossHook(max_times=2), make_runner(tmp_path)
    step(first, runner, {"loss": NAN}, iteration=4)
    checkpoint = {"meta": {}}
    first.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / "a.pth")
    read = torch.load(tmp_path / "a.pth", weights_only=True)

    second, runner = InvalidLossHook(max_times=2), make_runner(tmp_path, resume=True)
    second.after_load_checkpoint(runner, read)
    with pytest.raises(DataError, match=r"in 2 iterations, .* iteration 10;.* before iteration 5 "):
        step(second, runner, {"loss": NAN}, iteration=9)
    assert [line["iteration"] for line in lines(tmp_path)] == [5, 10]


def test_fine_tuning_begins_to_count_anew(tmp_path):
    hook, runner = InvalidLossHook(max_times=2), make_runner(tmp_path)
    hook.after_load_checkpoint(runner, {"invalid_loss_iterations": [1]})
    step(hook, runner, {"loss": NAN})


def test_resume_from_a_checkpoint_without_a_count(tmp_path):
    hook, runner = InvalidLossHook(max_times=2), make_runner(tmp_path, resume=True)
    hook.after_load_checkpoint(runner, {})
    step(hook, runner, {"loss": NAN})


def test_device_is_waited_for_once(tmp_path, monkeypatch):
    calls = []
    whole = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: calls.append(1) or whole(self))
    monkeypatch.setattr(torch.Tensor, "item", lambda self: pytest.fail("another transfer"))

    step(InvalidLossHook(), make_runner(tmp_path), {f"loss_{i}": torch.ones(()) for i in range(5)})

    assert len(calls) == 1


def test_it_looks_before_weights_are_averaged_or_saved():
    own = get_priority(InvalidLossHook.priority)
    assert get_priority(RuntimeInfoHook.priority) < own
    assert own < min(get_priority(EMAHook.priority), get_priority(CheckpointHook.priority))


@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_wrong_number_is_named(value):
    with pytest.raises(ConfigError) as caught:
        InvalidLossHook(max_times=value)
    assert str(caught.value).startswith(f"InvalidLossHook.max_times = {value!r}: expected ")


def test_the_running_statistics_are_as_before_the_batch(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    runner = SimpleNamespace(
        model=model, epoch=0, iter=0, work_dir=str(tmp_path), logger=logging.getLogger("test")
    )
    hook = InvalidLossHook(max_times=3)
    hook.before_train(runner)
    expected: dict[str, torch.Tensor] = {}
    for runner.iter, value in enumerate([1.0, math.nan, 2.0, math.inf]):
        hook.before_train_iter(runner, runner.iter)
        loss = model(torch.randn(2, 1, 3, 3) * value).mean()
        if math.isfinite(value):
            expected = {name: buffer.clone() for name, buffer in model.named_buffers()}
        hook.after_train_iter(runner, runner.iter, outputs={"loss": loss})

        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                assert torch.equal(buffer, expected[name]), (runner.iter, name)
