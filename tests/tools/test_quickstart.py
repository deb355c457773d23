from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools/quickstart.py"


def test_quickstart_trains_tests_and_says_where_the_pictures_lie(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("quickstart", TOOL)
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    tiny = {"max_epochs": 1, "image_size": 32, "num_workers": 0}
    runs = [(task, name, {**o, **tiny}, figures) for task, name, o, figures in quickstart.RUNS]
    monkeypatch.setattr(quickstart, "RUNS", runs)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", "--out", str(tmp_path)])
    quickstart.main()
    output = capsys.readouterr().out
    for task, _, _, figures in runs:
        for figure in figures:
            assert re.search(rf"{task}: .*{figure} \d+\.\d\d.* on the held-out images", output)
    folders = [Path(line) for line in re.findall(r"pictures and tables: (.+)", output)]
    assert len(folders) == len(quickstart.RUNS)
    for folder in folders:
        assert {file.name for file in folder.iterdir()} >= {
            "confusion_matrix.png",
            "examples.png",
            "metrics.json",
            "predictions.json",
        }
