from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from aicore.apis import open_config

TOOL = Path(__file__).parents[2] / "tools/quickstart.py"


@pytest.fixture
def quickstart() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["quickstart"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["quickstart"]


def run_tiny(quickstart, monkeypatch, out: Path, *arguments: str) -> None:
    """Runs the tool with one epoch on small images."""
    tiny = {"max_epochs": 1, "image_size": 32, "num_workers": 0}
    tiny["sample_settings"] = {"images": 25, "size": 64}
    for name in ("SHORT", "THOROUGH"):
        runs = getattr(quickstart, name)
        runs = {task: replace(one, options={**one.options, **tiny}) for task, one in runs.items()}
        monkeypatch.setattr(quickstart, name, runs)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", "--out", str(out), *arguments])
    quickstart.main()


def check_output(output: str, runs: dict, out: Path) -> None:
    stages = re.findall(r"^\[\d+:\d\d, about \d+:\d\d left\] (\w+)", output, re.MULTILINE)
    assert stages == ["draws", *(task for task in runs for _ in ("train", "test"))]
    *_, table = output.split("\n\n", 1)
    for task, one in runs.items():
        figures = ", ".join(rf"{figure} \d+\.\d" for figure in one.figures)
        folder = re.escape(str(out / task / "test"))
        assert re.search(rf"^{task} +{figures} +\d+:\d\d +{folder}$", table, re.MULTILINE)
        assert {file.name for file in (out / task / "test").iterdir()} >= {
            "confusion_matrix.png",
            "examples.png",
            "metrics.json",
            "predictions.json",
        }
    assert "mmengine - INFO" not in output
    assert "mmengine - INFO" in (out / "log.txt").read_text(encoding="utf-8")


def test_one_task(quickstart, tmp_path, monkeypatch, capsys):
    run_tiny(quickstart, monkeypatch, tmp_path / "out", "--task", "anomaly")
    runs = {"anomaly": quickstart.SHORT["anomaly"]}
    check_output(capsys.readouterr().out, runs, tmp_path / "out")
    assert not (tmp_path / "out" / "detection").exists()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--thorough",)])
def test_all_tasks(quickstart, tmp_path, monkeypatch, capsys, arguments):
    run_tiny(quickstart, monkeypatch, tmp_path, *arguments)
    runs = quickstart.THOROUGH if arguments else quickstart.SHORT
    assert list(runs) == ["anomaly", "classification", "segmentation", "detection"]
    check_output(capsys.readouterr().out, runs, tmp_path)


def test_the_configs_share_one_sample(quickstart):
    for runs in (quickstart.SHORT, quickstart.THOROUGH):
        configs = [
            open_config(quickstart.CONFIGS / task / one.config, {"sample_data": ""})
            for task, one in runs.items()
        ]
        settings = [config.get("sample_settings") for config in configs]
        assert all(one == settings[0] for one in settings)


def test_time_left_follows_the_pace_of_the_machine(quickstart, monkeypatch, capsys):
    clock = iter([100.0, 100.0, 120.0, 120.0, 150.0, 150.0])
    monkeypatch.setattr(quickstart.time, "monotonic", lambda: next(clock))
    progress = quickstart.Progress([10, 20, 30])
    for name in "abc":
        progress.begin(name)
    assert capsys.readouterr().out.splitlines() == [
        "[0:00, about 1:00 left] a",
        "[0:20, about 1:40 left] b",  # 20 seconds for 10
        "[0:50, about 0:50 left] c",  # 50 for 30
    ]
