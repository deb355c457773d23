from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from mmpretrain.structures import DataSample

from aicore.engine.hooks import ReportHook
from aicore.registry import TASKS

CLASSES = ("good", "scratch")


class CountingTask:
    """A task whose report tells what it was given."""

    def record(self, sample, classes):
        record = {"truth": classes[int(sample.gt_label)]}
        if "pred_score" in sample:
            record["pred"] = float(sample.pred_score.max())
        return record

    def report(self, records, classes, folder):
        (folder / "report.txt").write_text(str(len(records)), encoding="utf-8")
        return f"a table of {len(records)}", {"classes": list(classes)}


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setitem(TASKS.module_dict, "CountingTask", CountingTask)
    return ReportHook(task=dict(type="aicore.CountingTask"))


class Dataset(list):
    metainfo = {"classes": CLASSES}  # noqa: RUF012


@pytest.fixture
def runner(tmp_path):
    return SimpleNamespace(
        work_dir=str(tmp_path),
        test_dataloader=SimpleNamespace(dataset=Dataset(range(3))),
        test_loop=SimpleNamespace(evaluator=SimpleNamespace(metrics=[object()])),
        logger=logging.getLogger("test_report_hook"),
        on_exit=ExitStack(),
    )


def sample_of(path: str, label: int, **metainfo) -> DataSample:
    return (
        DataSample(metainfo={"img_path": path, **metainfo})
        .set_gt_label(label)
        .set_pred_score([0.25, 0.75])
    )


def run(hook, runner, metrics=None):
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=[sample_of("零件.png", 0), sample_of("b.png", 1)])
    hook.after_test_iter(runner, 1, outputs=[sample_of("c.png", 1, not_inspected="it is empty")])
    hook.after_test_epoch(runner, metrics)


def test_records_metrics_and_the_tasks_report_are_written(hook, runner, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "test_report_hook"):
        run(hook, runner, {"accuracy/top1": 50.0})

    records = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert records == [
        {"image": "零件.png", "inspected": True, "truth": "good", "pred": 0.75},
        {"image": "b.png", "inspected": True, "truth": "scratch", "pred": 0.75},
        {"image": "c.png", "inspected": False, "truth": "scratch", "reason": "it is empty"},
    ]
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == {"accuracy/top1": 50.0, "classes": ["good", "scratch"]}
    assert (tmp_path / "report.txt").read_text(encoding="utf-8") == "3"
    assert f"a table of 3\nResults: {tmp_path}" in caplog.text


def test_a_second_test_begins_anew(hook, runner, tmp_path):
    run(hook, runner)
    run(hook, runner)

    assert len(json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))) == 3


def test_a_report_may_complete_the_records(hook, runner, tmp_path, monkeypatch):
    def report(self, records, classes, folder):
        for number, record in enumerate(records):
            record["number"] = number
        return "", {}

    monkeypatch.setattr(CountingTask, "report", report)

    run(hook, runner)

    records = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert [record["number"] for record in records] == [0, 1, 2]


def test_a_report_that_fails_costs_no_records(hook, runner, tmp_path, monkeypatch):
    def report(self, records, classes, folder):
        raise OSError("the disk is full")

    monkeypatch.setattr(CountingTask, "report", report)

    with pytest.raises(OSError, match="the disk is full"):
        run(hook, runner)

    assert len(json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))) == 3


def stop_after(batches: int, hook, runner) -> None:
    with runner.on_exit:
        hook.before_test_epoch(runner)
        for index in range(batches):
            hook.after_test_iter(runner, index, outputs=[sample_of(f"{index}.png", 0)])
        raise SystemExit(143)


def test_a_test_that_stops_leaves_what_it_has_finished(hook, runner, tmp_path, caplog):
    with pytest.raises(SystemExit):
        stop_after(2, hook, runner)

    records = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert [record["image"] for record in records] == ["0.png", "1.png"]
    assert "holds 2 of 3 images, the other 1 are missing" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.json"]


def test_a_test_that_stops_before_the_first_image_leaves_what_was_there(
    hook, runner, tmp_path, caplog
):
    run(hook, runner)
    caplog.clear()

    with pytest.raises(SystemExit):
        stop_after(0, hook, runner)

    assert len(json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))) == 3
    assert caplog.text == ""


def test_figures_that_cannot_be_written_leave_the_earlier_ones(hook, runner, tmp_path):
    run(hook, runner, {"accuracy": 50.0})

    with pytest.raises(ValueError, match="JSON"):
        run(hook, runner, {"accuracy": float("inf")})

    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["accuracy"] == 50


def test_what_a_metric_keeps_besides_is_written(hook, runner, tmp_path):
    curve = {"x": [0, 1], "y": [0, 1]}
    runner.test_loop.evaluator.metrics.append(SimpleNamespace(figures={"curve": curve}))

    run(hook, runner, {"accuracy": 50.0})

    written = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert written["curve"] == curve
    assert written["accuracy"] == 50.0
