from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from aicore.apis import train
from aicore.engine.checkpoint import read_checkpoint
from aicore.engine.hooks import CheckpointHook
from aicore.errors import CheckpointError, ConfigError
from tests.conftest import REPOSITORY


def names(work_dir: Path) -> list[str]:
    return sorted(file.name for file in work_dir.iterdir() if file.is_file())


def checkpoint_options(**options: object) -> dict[str, object]:
    return {f"default_hooks.checkpoint.{key}": value for key, value in options.items()}


@pytest.fixture(scope="module")
def within(leaf_config, tmp_path_factory):
    """A work dir after two epochs of three iterations, saved every two iterations."""
    work_dir = tmp_path_factory.mktemp("within")
    options = {"max_epochs": 2, "model_name": "test_resnet.r160_in1k"}
    keep = checkpoint_options(interval_iters=2, max_keep_ckpts=9)
    train(leaf_config, work_dir=work_dir, options={**options, **keep})
    return work_dir


# ---- what is saved, and when ----


def test_states_within_and_after_epochs_are_saved(within):
    saved = [name for name in names(within) if name.startswith("epoch")]
    assert saved == ["epoch_0_iter_2.pth", "epoch_1.pth", "epoch_1_iter_1.pth", "epoch_2.pth"]


@pytest.mark.parametrize(
    ("name", "epoch", "iteration"),
    [("epoch_0_iter_2", 0, 2), ("epoch_1", 1, 3), ("epoch_1_iter_1", 1, 4), ("epoch_2", 2, 6)],
)
def test_the_position_is_the_number_of_finished_epochs_and_iterations(
    within, name, epoch, iteration
):
    meta = read_checkpoint(within / f"{name}.pth")["meta"]
    assert (meta["epoch"], meta["iter"]) == (epoch, iteration)
    assert not meta["validation_pending"]
    assert meta["iterations_per_epoch"] == 3


def test_the_best_weights_are_saved_without_what_only_a_training_needs(within):
    (best,) = within.glob("best_accuracy_top1_epoch_*.pth")
    checkpoint = read_checkpoint(best)
    assert checkpoint["state_dict"]
    assert not {"optimizer", "param_schedulers"} & checkpoint.keys()


def test_the_last_ones_are_kept(small_config, tmp_path):
    train(small_config(max_epochs=4), work_dir=tmp_path / "run")

    saved = [name for name in names(tmp_path / "run") if name.startswith("epoch")]
    assert saved == ["epoch_3.pth", "epoch_4.pth"]


def test_one_is_kept(small_config, tmp_path):
    options = checkpoint_options(max_keep_ckpts=1)
    train(small_config(max_epochs=2), work_dir=tmp_path / "run", options=options)

    saved = [name for name in names(tmp_path / "run") if name.startswith("epoch")]
    assert saved == ["epoch_2.pth"]


def test_the_last_epoch_is_saved_whatever_the_interval(small_config, tmp_path):
    options = checkpoint_options(interval=2, max_keep_ckpts=9)
    train(small_config(max_epochs=3), work_dir=tmp_path / "run", options=options)

    saved = [name for name in names(tmp_path / "run") if name.startswith("epoch")]
    assert saved == ["epoch_2.pth", "epoch_3.pth"]


def test_checkpoints_of_an_earlier_training_are_moved_not_lost(small_config, tmp_path, capsys):
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    earlier = ("best_accuracy_top1_epoch_9.pth", "epoch_0_iter_2.pth", "epoch_30.pth")
    for name in earlier:
        (work_dir / name).write_bytes(b"another's")
    (work_dir / "mine.pth").write_bytes(b"")

    train(small_config(max_epochs=3), work_dir=work_dir)

    saved = [name for name in names(work_dir) if name.startswith("epoch")]
    assert saved == ["epoch_2.pth", "epoch_3.pth"]
    (folder,) = work_dir.glob("earlier_*")
    assert sorted(file.name for file in folder.iterdir()) == sorted(earlier)
    assert len(list(work_dir.glob("best_*"))) == 1
    assert (work_dir / "mine.pth").exists()
    text = " ".join(capsys.readouterr().out.split())
    assert f"3 checkpoints of an earlier training were moved to {folder}" in text


def test_going_back_moves_what_came_later(small_config, tmp_path):
    config, work_dir = small_config(max_epochs=3), tmp_path / "run"
    keep = checkpoint_options(max_keep_ckpts=9)
    train(config, work_dir=work_dir, options=keep)

    train(config, work_dir=work_dir, resume=work_dir / "epoch_1.pth", options=keep)

    (folder,) = work_dir.glob("earlier_*")
    moved = {file.name for file in folder.iterdir() if file.name.startswith("epoch")}
    assert moved == {"epoch_2.pth", "epoch_3.pth"}
    saved = [name for name in names(work_dir) if name.startswith("epoch")]
    assert saved == ["epoch_1.pth", "epoch_2.pth", "epoch_3.pth"]


def test_a_best_checkpoint_that_a_crash_left_is_removed(small_config, tmp_path):
    config, work_dir = small_config(max_epochs=2), tmp_path / "run"
    train(config, work_dir=work_dir, options={"max_epochs": 1})
    checkpoint = torch.load(work_dir / "epoch_1.pth", weights_only=False)
    checkpoint["message_hub"]["runtime_info"]["best_score"] = -1.0  # the next one is better
    torch.save(checkpoint, work_dir / "epoch_1.pth")
    (work_dir / "best_accuracy_top1_epoch_0.pth").write_bytes(b"left over")

    train(config, work_dir=work_dir, resume=True)

    assert [file.name for file in work_dir.glob("best*")] == ["best_accuracy_top1_epoch_2.pth"]


def test_what_a_killed_run_left_half_written_is_removed(small_config, tmp_path):
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    (work_dir / ".epoch_1.pth.123.tmp").write_bytes(b"half")

    train(small_config(), work_dir=work_dir)

    assert ".epoch_1.pth.123.tmp" not in names(work_dir)


# ---- going on ----


def test_the_validation_that_an_interruption_left_out_is_run(small_config, tmp_path):
    config, whole, cut = small_config(max_epochs=2), tmp_path / "whole", tmp_path / "cut"
    train(config, work_dir=whole)
    shutil.copytree(whole, cut)
    for file in cut.glob("best*"):
        file.unlink()
    (cut / "epoch_2.pth").unlink()
    checkpoint = torch.load(cut / "epoch_1.pth", weights_only=False)
    checkpoint["meta"]["validation_pending"] = True  # as if killed between the two
    for key in ("best_score", "best_ckpt"):
        checkpoint["message_hub"]["runtime_info"].pop(key)
    torch.save(checkpoint, cut / "epoch_1.pth")

    info = train(config, work_dir=cut, resume=True).message_hub.runtime_info

    expected = torch.load(whole / "epoch_2.pth", weights_only=False)["message_hub"]["runtime_info"]
    assert info["best_score"] == expected["best_score"]
    assert Path(info["best_ckpt"]).name == Path(expected["best_ckpt"]).name


def test_a_truncated_newest_checkpoint_is_passed_over(small_config, tmp_path, capsys):
    config, work_dir = small_config(max_epochs=3), tmp_path / "run"
    train(config, work_dir=work_dir, options={"max_epochs": 2})
    newest = work_dir / "epoch_2.pth"
    newest.write_bytes(newest.read_bytes()[:5000])
    capsys.readouterr()

    runner = train(config, work_dir=work_dir, resume=True)

    output = capsys.readouterr()
    text = " ".join((output.out + output.err).split())
    assert "epoch_2.pth' (5000 bytes) cannot be read" in text
    assert "Going on from the one before it." in text
    assert f"Loaded checkpoint {work_dir / 'epoch_1.pth'}" in text
    assert runner.epoch == 3


def test_without_any_that_can_be_read_it_says_so(small_config, tmp_path):
    config, work_dir = small_config(), tmp_path / "run"
    train(config, work_dir=work_dir)
    (work_dir / "epoch_1.pth").write_bytes(b"PK")

    with pytest.raises(CheckpointError, match=r"none of the checkpoints in .*run can be read"):
        train(config, work_dir=work_dir, resume=True)


def test_a_moved_folder_keeps_one_best_checkpoint(small_config, tmp_path):
    config, old, new = small_config(max_epochs=3), tmp_path / "old", tmp_path / "new"
    train(config, work_dir=old, options={"max_epochs": 1})
    old.rename(new)

    train(config, work_dir=new, resume=True)

    assert len(list(new.glob("best_*.pth"))) == 1
    assert not old.exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_resume_from_another_folder_has_its_best_checkpoint_here(small_config, tmp_path, there):
    config, first, second = small_config(max_epochs=2), tmp_path / "first", tmp_path / "second"
    train(config, work_dir=first, options={"max_epochs": 1})
    checkpoint = torch.load(first / "epoch_1.pth", weights_only=False)
    checkpoint["message_hub"]["runtime_info"]["best_score"] = 1000.0  # the next one is no better
    torch.save(checkpoint, first / "epoch_1.pth")
    if not there:
        (first / "best_accuracy_top1_epoch_1.pth").unlink()

    runner = train(config, work_dir=second, resume=first / "epoch_1.pth")

    best = Path(runner.message_hub.runtime_info["best_ckpt"])
    assert best == second / f"best_accuracy_top1_epoch_{1 if there else 2}.pth"
    assert list(second.glob("best*")) == [best]
    assert read_checkpoint(best)["meta"]["epoch"] == (1 if there else 2)
    assert len(list(first.glob("best*"))) == there


def test_a_damaged_newest_checkpoint_is_passed_over(small_config, tmp_path, capsys):
    config, work_dir = small_config(max_epochs=3), tmp_path / "run"
    train(config, work_dir=work_dir, options={"max_epochs": 2})
    newest = work_dir / "epoch_2.pth"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    capsys.readouterr()

    train(config, work_dir=work_dir, resume=True)

    output = capsys.readouterr()
    text = " ".join((output.out + output.err).split())
    assert "epoch_2.pth' is damaged" in text
    assert f"Loaded checkpoint {work_dir / 'epoch_1.pth'}" in text


def test_another_number_of_iterations_an_epoch_is_refused(small_config, tmp_path):
    config, work_dir = small_config(max_epochs=2), tmp_path / "run"
    train(config, work_dir=work_dir, options={"max_epochs": 1})

    with pytest.raises(CheckpointError, match=r"with 3 iterations an epoch, this one has 6"):
        train(config, work_dir=work_dir, resume=True, options={"batch_size": 4})


# ---- trouble ----


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_ends_with_a_sentence(small_config, tmp_path):
    config, work_dir = small_config(max_epochs=3), tmp_path / "run"
    train(config, work_dir=work_dir, options={"max_epochs": 1})
    before = {file.name: file.read_bytes() for file in work_dir.glob("*.pth")}
    size = len(before["epoch_1.pth"])
    program = textwrap.dedent(
        f"""
        import resource, runpy, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2}))
        sys.argv = ["tools/train.py", {str(config)!r}, "--work-dir", {str(work_dir)!r}, "--resume"]
        runpy.run_path("tools/train.py", run_name="__main__")
        """
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: checkpoint '")
    assert "epoch_2.pth' cannot be written: File too large" in last
    assert "The earlier checkpoints are as they were" in last
    assert "Traceback" not in done.stderr
    for name, content in before.items():
        assert (work_dir / name).read_bytes() == content
    assert not list(work_dir.glob(".*.tmp"))


def test_a_metric_that_is_not_there_is_named(small_config, tmp_path):
    config = small_config(monitor="accuracy/top2")
    with pytest.raises(ConfigError, match=r"'accuracy/top2' is not .* Did you mean 'accuracy/top1"):
        train(config, work_dir=tmp_path / "run")


@pytest.mark.parametrize(
    "options",
    [dict(interval=0), dict(interval="2"), dict(interval_iters=-1), dict(max_keep_ckpts=0)],
)
def test_a_value_out_of_range_is_refused(options):
    (name,) = options
    with pytest.raises(ConfigError, match=rf"CheckpointHook\.{name} = .*at least [01]"):
        CheckpointHook(**options)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match=r"rule = 'more': expected 'greater' or 'less'"):
        CheckpointHook(rule="more")
