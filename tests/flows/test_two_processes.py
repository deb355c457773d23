"""Trainings and tests in two processes: they agree, stop, fail and go on together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from aicore.apis import test as evaluate
from aicore.apis import train
from aicore.cli import run
from aicore.engine.hooks import EMAHook
from aicore.errors import DataError
from aicore.registry import HOOKS

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
# Starting is most of the time here, so each start has several jobs; the last one may end it.
Job = dict[str, Any]
PLAIN_JOB = "plain"


@HOOKS.register_module()
class WitnessHook(Hook):
    """Writes down what this process holds after each iteration, to ``witness.<rank>.pt``."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.found: dict[str, list[Any]] = {name: [] for name in ("weights", "buffers", "averages")}
        self.found |= {"sizes": [], "metrics": [], "end": []}

    def before_train(self, runner: Any) -> None:
        _plain_model(runner).register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if kwargs.get("mode") == "loss":
            self.found["sizes"].append(tuple(kwargs["inputs"].shape))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        model = _plain_model(runner)
        self.found["weights"].append(_flat(model.parameters()))
        self.found["buffers"].append(_flat(b for b in model.buffers() if b.is_floating_point()))
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                self.found["averages"].append(_flat(hook._averages.values()))

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.found["metrics"].append(metrics)

    def after_train(self, runner: Any) -> None:
        info = runner.message_hub.runtime_info
        self.found["end"] = [runner.epoch, runner.iter, info["best_score"], info["best_ckpt"]]
        torch.save(self.found, Path(runner.work_dir) / f"witness.{get_rank()}.pt")


@HOOKS.register_module()
class TroubleHook(Hook):
    """Makes one rank receive SIGTERM or raise an error, in a training or a validation."""

    def __init__(self, kind: str, rank: int, stage: str, iteration: int) -> None:
        self.kind, self.rank, self.stage, self.iteration = kind, rank, stage, iteration

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._act("train", runner)

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx == 0:
            self._act("val", runner)

    def _act(self, stage: str, runner: Any) -> None:
        if (stage, runner.iter, get_rank()) != (self.stage, self.iteration, self.rank):
            return
        if self.kind == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            Path(runner.work_dir, "raised").touch()
            raise DataError("the trouble of one process")


def _plain_model(runner: Any) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _flat(tensors: Any) -> Tensor:
    parts = [tensor.detach().flatten() for tensor in tensors]
    return torch.cat(parts) if parts else torch.empty(0)


def _do_jobs() -> None:
    """What each of the two processes does."""
    for job in json.loads(sys.argv[1]):
        options = {"launcher": "pytorch"}
        if "checkpoint" in job:
            evaluate(job["config"], job["checkpoint"], out=job["out"], options=options)
        else:
            train(job["config"], job["work_dir"], resume=job["resume"], options=options)


def _start(script: str, *arguments: str | Path) -> tuple[int, str]:
    """Runs a script of ``tools`` to its end; returns its exit code and what it said."""
    process = subprocess.run(
        [str(REPOSITORY / "tools" / script), *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return process.returncode, process.stdout


def _do(jobs: Sequence[Job]) -> tuple[int, str]:
    return _start("dist_run.sh", "2", __file__, json.dumps(jobs))


@pytest.fixture(scope="module")
def data(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images to validate on: in batches of two, one process has three, the other two."""
    root = tmp_path_factory.mktemp("data") / "class_folders"
    shutil.copytree(class_folders, root)
    for name in ("bright", "dark", "striped"):
        (root / "val" / name / f"{name}_3.png").unlink()
    return root


@pytest.fixture(scope="module")
def write(leaf_config: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """A function ``write('name', max_epochs=2, ...)`` that writes a leaf config."""
    folder = tmp_path_factory.mktemp("configs")

    def write_config(name: str, **settings: Any) -> str:
        settings = {"data_root": data.as_posix(), "batch_size": 2, **settings}
        lines = [f"{key} = {value!r}\n" for key, value in settings.items()]
        file = folder / f"{name}.py"
        file.write_text(f"_base_ = {leaf_config.as_posix()!r}\n{''.join(lines)}", encoding="utf-8")
        return str(file)

    return write_config


def _full(write: Callable, name: str, **trouble: Any) -> str:
    """Writes a config with all that averages, draws or counts; it stops early, after epoch 2."""
    return write(
        name,
        model_name="test_resnet.r160_in1k",
        max_epochs=5,
        sync_bn=True,
        custom_hooks=[
            dict(type="aicore.EMAHook", momentum=0.05, update_buffers=True),
            dict(type="aicore.MultiScaleHook", sizes=[32, 64], interval=2),
            dict(
                type="aicore.EarlyStoppingHook",
                monitor="accuracy/top1",
                rule="greater",
                patience=1,
                min_delta=1000.0,
            ),
            dict(type="aicore.WitnessHook"),
            *([dict(type="aicore.TroubleHook", **trouble)] if trouble else []),
        ],
    )


def _plain(write: Callable, name: str, **settings: Any) -> str:
    """Writes a config of a network without batch norm, with plain SGD."""
    return write(
        name,
        model_name="test_nfnet.r160_in1k",
        max_epochs=2,
        warmup_epochs=0,
        optim_wrapper=dict(
            optimizer=dict(_delete_=True, type="SGD", lr=0.05, momentum=0.9, weight_decay=0.01)
        ),
        custom_hooks=[dict(type="aicore.WitnessHook")],
        **settings,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all jobs leave their work dirs."""
    return tmp_path_factory.mktemp("work_dirs")


def _training(config: str, work_dir: Path, resume: bool = False) -> Job:
    return dict(config=config, work_dir=str(work_dir), resume=resume)


@pytest.fixture(scope="module")
def first(write: Callable, folder: Path) -> tuple[int, str]:
    """A whole training, a plain one, a test, and one whose rank 0 receives SIGTERM in training."""
    full = _full(write, "full")
    stopped = _full(write, "stopped", kind="signal", rank=0, stage="train", iteration=3)
    checkpoint = folder / "full" / "epoch_2.pth"
    return _do(
        [
            _training(full, folder / "full"),
            _training(_plain(write, PLAIN_JOB, batch_size=4), folder / PLAIN_JOB),
            dict(config=full, checkpoint=str(checkpoint), out=str(folder / "tested")),
            _training(stopped, folder / "stopped"),
        ]
    )


@pytest.fixture(scope="module")
def second(first: tuple[int, str], write: Callable, folder: Path) -> tuple[int, str]:
    """The stopped training goes on; rank 1, which has fewer batches, gets SIGTERM in validation."""
    again = _full(write, "stopped_again", kind="signal", rank=1, stage="val", iteration=6)
    return _do([_training(again, folder / "stopped", resume=True)])


@pytest.fixture(scope="module")
def third(second: tuple[int, str], write: Callable, folder: Path) -> tuple[int, str]:
    """It goes on to its end; then a training whose rank 1 raises."""
    failing = _full(write, "failing", kind="error", rank=1, stage="train", iteration=2)
    jobs = [
        _training(_full(write, "going_on"), folder / "stopped", resume=True),
        _training(failing, folder / "failing"),
    ]
    return _do(jobs)


def _witnesses(work_dir: Path, said: str) -> list[dict[str, list[Any]]]:
    files = [work_dir / f"witness.{rank}.pt" for rank in range(2)]
    assert all(file.exists() for file in files), said
    return [torch.load(file) for file in files]


def test_both_hold_the_same_after_every_iteration(first: tuple[int, str], folder: Path) -> None:
    witnesses = _witnesses(folder / "full", first[1])
    for name in ("weights", "buffers", "averages"):
        one, other = (witness[name] for witness in witnesses)
        assert len(one) == len(other) == 12
        for iteration in range(12):
            assert torch.equal(one[iteration], other[iteration]), (name, iteration)
        assert not torch.equal(one[0], one[1])
    for name in ("sizes", "metrics", "end"):
        assert witnesses[0][name] == witnesses[1][name]
    assert {size[-1] for size in witnesses[0]["sizes"]} == {32, 64}
    epoch, iteration, _, best = witnesses[0]["end"]
    assert (epoch, iteration) == (2, 12)  # stopped early, of five epochs
    assert Path(best).exists()


def test_statistics_stay_per_process_on_a_cpu(first: tuple[int, str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("with CUDA, batch norm is synchronised")
    assert first[1].count("Batch-norm statistics stay per process") >= 1


def test_two_processes_equal_one_with_the_doubled_batch(
    first: tuple[int, str], write: Callable, folder: Path
) -> None:
    two = _witnesses(folder / PLAIN_JOB, first[1])[0]["weights"]
    config = _plain(write, "one", batch_size=8)
    results = {}
    for name, options in (("one", {}), ("another order", {"train_dataloader.sampler.seed": 1})):
        train(config, folder / name, options=options)
        results[name] = torch.load(folder / name / "witness.0.pt")["weights"]
    deviations = {
        name: [float((a - b).abs().max()) for a, b in zip(two, one, strict=True)]
        for name, one in results.items()
    }
    assert len(two) == 6
    moved = float((two[-1] - two[0]).abs().max())
    assert moved > 1e-3
    # Float32 sums of the same eight gradients in another order.
    assert max(deviations["one"]) < 1e-6
    assert deviations["another order"][0] > 1e-4


def test_uneven_shares_are_tested_as_by_one_process(
    first: tuple[int, str], write: Callable, folder: Path
) -> None:
    config, checkpoint = _full(write, "full"), folder / "full" / "epoch_2.pth"
    assert (folder / "tested" / "metrics.json").exists(), first[1]
    evaluate(config, checkpoint, out=folder / "tested by one")
    _check_same_results(folder / "tested", folder / "tested by one", [])


def test_an_unreadable_image_counts_once(
    first: tuple[int, str], write: Callable, data: Path, folder: Path
) -> None:
    root = folder / "with an unreadable image"
    shutil.copytree(data, root)
    broken = root / "val" / "striped" / "striped_2.png"  # the last one, alone in its batch
    broken.write_bytes(b"no image")
    settings = dict(model_name="test_resnet.r160_in1k", data_root=root.as_posix())
    config = write("unreadable", **settings)
    checkpoint = folder / "full" / "epoch_2.pth"

    code, said = _start("dist_test.sh", config, checkpoint, "2", "--out", folder / "unreadable")
    assert code == 0, said
    evaluate(config, checkpoint, out=folder / "unreadable by one")

    _check_same_results(folder / "unreadable", folder / "unreadable by one", [broken.name])


def _check_same_results(two: Path, one: Path, unreadable: list[str]) -> None:
    metrics = [json.loads((work_dir / "metrics.json").read_text()) for work_dir in (two, one)]
    assert metrics[0] == metrics[1]
    assert metrics[0]["not_inspected"] == len(unreadable)
    records = [json.loads((work_dir / "predictions.json").read_text()) for work_dir in (two, one)]
    assert [len(part) for part in records] == [9, 9]
    found, expected = ({record["image"]: record for record in part} for part in records)
    assert found.keys() == expected.keys()
    assert len(found) == 9
    for image, record in found.items():
        assert record["inspected"] is expected[image]["inspected"]
        if record["inspected"]:
            assert record["prediction"] == expected[image]["prediction"]
            # Batches of other sizes are added up in another order.
            assert record["pred_scores"] == pytest.approx(expected[image]["pred_scores"], abs=1e-5)
    assert [Path(i).name for i, record in found.items() if not record["inspected"]] == unreadable


def test_a_signal_to_one_stops_both(
    first: tuple[int, str], second: tuple[int, str], folder: Path
) -> None:
    assert first[0] == 143, first[1]
    assert "Stopped by SIGTERM after 4 iterations" in " ".join(first[1].split())
    assert second[0] == 143, second[1]
    assert "Stopped by SIGTERM after 6 iterations" in " ".join(second[1].split())


def test_the_resumed_training_ends_as_the_uninterrupted_one(
    third: tuple[int, str], folder: Path
) -> None:
    files = [folder / name / "epoch_2.pth" for name in ("full", "stopped")]
    assert files[1].exists(), third[1]
    for rank in range(2):
        ends = [_witnesses(file.parent, third[1])[rank]["end"] for file in files]
        assert ends[0][:3] == ends[1][:3]
    whole, stopped = (torch.load(file, weights_only=False) for file in files)
    for checkpoint in (whole, stopped):
        checkpoint["optimizer"] = checkpoint["optimizer"]["state"]
    for name in ("state_dict", "ema_state_dict", "optimizer", "early_stopping"):
        torch.testing.assert_close(whole[name], stopped[name], rtol=0, atol=0)


def test_an_error_of_one_ends_both(third: tuple[int, str], folder: Path) -> None:
    code, said = third  # it came to an end: a process that still waited would be out of time
    assert code == 1, said
    assert "error: the trouble of one process" in said
    assert (folder / "failing" / "raised").exists()


if __name__ == "__main__":
    run(_do_jobs)
