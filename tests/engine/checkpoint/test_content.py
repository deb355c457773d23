from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from aicore.engine.checkpoint import (
    checkpoint_classes,
    prepare_resume,
    read_checkpoint,
    require_resumable,
)
from aicore.errors import CheckpointError


@pytest.mark.parametrize(
    ("meta", "classes"),
    [
        ({}, None),
        ({"dataset_meta": None}, None),
        ({"dataset_meta": {"classes": []}}, None),
        ({"dataset_meta": {"classes": ["a", "b"]}}, ("a", "b")),
    ],
)
def test_classes(meta, classes):
    assert checkpoint_classes({"meta": meta, "state_dict": {}}) == classes


# ---- entries of another type than they should be ----

CONTENT = {
    "state_dict": {"weight": torch.ones(2, 3)},
    "ema_state_dict": {"weight": torch.ones(2, 3)},
    "meta": {
        "epoch": 2,
        "iter": 6,
        "seed": 0,
        "iterations_per_epoch": 3,
        "validation_pending": False,
        "dataset_meta": {"classes": ("a", "b")},
        "inference_weights": "ema_state_dict",
    },
    "optimizer": {
        "param_groups": [{"lr": 0.1, "params": [0]}],
        "state": {0: {"momentum_buffer": torch.ones(2, 3)}},
    },
    "param_schedulers": [{"last_step": 6}],
    "message_hub": {
        "log_scalars": {"train/loss": HistoryBuffer([1.0], [1])},
        "runtime_info": {"best_ckpt": "best.pth", "best_score": 0.5},
        "resumed_keys": {"train/loss": True},
    },
}


def changed(place: str, value: object) -> dict:
    """Returns CONTENT with another value at a dotted place."""
    content = copy.deepcopy(CONTENT)
    *parents, last = place.split(".")
    inner = content
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return content


def resumed(path) -> None:
    checkpoint = read_checkpoint(path)
    prepare_resume(checkpoint, str(path))
    require_resumable(checkpoint, str(path), length=3, schedulers=1)


def refused(path, place: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        resumed(path)
    message = str(caught.value)
    assert message.startswith(f"checkpoint {str(path)!r}: {place}")
    assert "expected" in message
    assert "\n" not in message
    return message


def test_what_is_right_passes(tmp_path):
    torch.save(CONTENT, tmp_path / "a.pth")

    resumed(tmp_path / "a.pth")


def test_numbers_of_numpy_pass(tmp_path):
    content = changed("meta.epoch", np.int64(2))
    torch.save(content, tmp_path / "a.pth")

    resumed(tmp_path / "a.pth")


def test_a_schedule_that_has_not_begun_passes(tmp_path):
    torch.save(changed("param_schedulers", [{"last_step": -1}]), tmp_path / "a.pth")

    resumed(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("weight", "text", "'weight' is 'text', expected a plain tensor"),
        ("weight", 3, "'weight' is 3, expected a plain tensor"),
        ("weight", None, "'weight' is None, expected a plain tensor"),
        ("weight", [1.0, 2.0], "'weight' is a list, expected a plain tensor"),
        ("weight", np.ones(3), "'weight' is a ndarray, expected a plain tensor"),
        ("weight", torch.eye(2).to_sparse(), "'weight' is a Tensor, expected a plain tensor"),
        ("weight", torch.ones(2, device="meta"), "'weight' is a Tensor, expected a plain tensor"),
        (3, torch.ones(2), "the key is 3, expected a text"),
    ],
    ids=lambda value: str(type(value).__name__),
)
@pytest.mark.parametrize("name", ["state_dict", "ema_state_dict"])
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_wrong_weights(tmp_path, name, key, value, told):
    torch.save(changed(name, {**CONTENT["state_dict"], key: value}), tmp_path / "a.pth")

    assert told in refused(tmp_path / "a.pth", name)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("ema_state_dict", [torch.ones(2)]),
        ("meta", "text"),
        ("meta", [1, 2]),
        ("meta", 3),
        ("meta.epoch", "two"),
        ("meta.epoch", -1),
        ("meta.epoch", 1.5),
        ("meta.epoch", True),
        ("meta.epoch", [2]),
        ("meta.epoch", None),
        ("meta.iter", "six"),
        ("meta.iter", -6),
        ("meta.iter", 10**9),
        ("meta.iter", float("nan")),
        ("meta.seed", "zero"),
        ("meta.iterations_per_epoch", "three"),
        ("meta.validation_pending", "no"),
        ("meta.dataset_meta", ["a", "b"]),
        ("meta.dataset_meta.classes", "ab"),
        ("meta.dataset_meta.classes", 3),
        ("meta.dataset_meta.classes", ["a", 1]),
        ("meta.dataset_meta.classes", {"a": 1}),
        ("meta.dataset_meta.classes", torch.ones(2)),
        ("meta.inference_weights", 3),
        ("meta.inference_weights", "optimizer"),
        ("meta.inference_weights", ["state_dict"]),
        ("meta.input_settings", "text"),
        ("meta.input_settings", {}),
        ("meta.input_settings", {"settings": {"white_level": "${1 + 1}"}}),
        ("meta.input_settings", {"settings": {}, "pipeline": [3]}),
        ("meta.input_settings", {"settings": {}, "tiles": 3}),
        ("optimizer", None),
        ("optimizer", [1]),
        ("optimizer.param_groups", {"lr": 0.1}),
        ("optimizer.param_groups", [{"lr": 0.1}]),
        ("optimizer.state", [1]),
        ("optimizer.state", {0: "text"}),
        ("param_schedulers", "text"),
        ("param_schedulers", [3]),
        ("param_schedulers", [{"last_step": "six"}]),
        ("param_schedulers", [{"last_step": -2}]),
        ("param_schedulers", [{"last_step": 1, "base_values": "x"}]),
        ("meta.seed", -5),
        ("optimizer.param_groups", [{"params": [0], "lr": "x"}]),
        ("message_hub.runtime_info.best_ckpt", "/"),
        ("optimizer.learner", {"mean": 3}),
        ("message_hub", [1]),
        ("message_hub", {}),
        ("message_hub.log_scalars", [1]),
        ("message_hub.runtime_info", "text"),
        ("message_hub.runtime_info.best_ckpt", 3),
        ("message_hub.runtime_info.best_score", "high"),
        ("message_hub.resumed_keys", {"train/loss": "yes"}),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wrong_content(tmp_path, place, value):
    torch.save(changed(place, value), tmp_path / "a.pth")

    refused(tmp_path / "a.pth", place)


def test_what_other_programs_write_beside_weights_is_theirs(tmp_path):
    content = {"state_dict": {"weight": torch.ones(2)}, "meta": {"epoch": "best", "seed": "abc"}}
    torch.save(content, tmp_path / "a.pth")

    assert read_checkpoint(tmp_path / "a.pth")["meta"]["epoch"] == "best"
