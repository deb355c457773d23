from __future__ import annotations

import os

import pytest
import torch

from aicore.engine.checkpoint import checkpoints_in, read_checkpoint, write_checkpoint
from aicore.errors import CheckpointError


@pytest.fixture
def weights():
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}


def test_what_is_written_is_read(tmp_path, weights):
    write_checkpoint(tmp_path / "a.pth", {"state_dict": weights, "meta": {"epoch": 3}})

    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(checkpoint["state_dict"]["weight"], weights["weight"])
    assert checkpoint["meta"] == {"epoch": 3}


def test_a_folder_that_cannot_be_written_is_named(tmp_path, weights):
    with pytest.raises(CheckpointError, match=r"cannot be written: Not a directory"):
        (tmp_path / "file").write_text("")
        write_checkpoint(tmp_path / "file" / "a.pth", {"state_dict": weights})


def test_the_newest_comes_first(tmp_path):
    for age, name in enumerate(["epoch_10_iter_5.pth", "epoch_10.pth", "epoch_3.pth"]):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (age, age))  # of no account: copying can change it
    (tmp_path / "best_accuracy_epoch_30.pth").write_bytes(b"")
    (tmp_path / "epoch_x.pth").write_bytes(b"")

    names = [file.name for file in checkpoints_in(tmp_path)]

    assert names == ["epoch_10_iter_5.pth", "epoch_10.pth", "epoch_3.pth"]
