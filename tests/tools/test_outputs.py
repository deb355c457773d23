"""An output that cannot be written ends every tool with one sentence and exit code 1."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

# The command of each tool with an output, which stands at OUT.
COMMANDS = {
    "train": ("tools/train.py", "CONFIG", "--work-dir", "OUT"),
    "test": ("tools/test.py", "CONFIG", "CHECKPOINT", "--out", "OUT"),
    "demo": ("tools/demo.py", "CONFIG", "CHECKPOINT", "IMAGES", "--out", "OUT"),
    "check": ("tools/data/check_dataset.py", "CONFIG", "--out", "OUT"),
    "convert": ("tools/data/convert.py", "COCO", "--from", "coco", "--to", "voc", "--out", "OUT"),
    "convert masks": ("tools/data/convert.py", "COCO", "--from", "coco", "--out", "OUT"),
    "split": ("tools/data/split.py", "IMAGES", "--out", "OUT"),
    "make_sample": ("tools/data/make_sample.py", "OUT", "--images", "60", "--size", "64"),
    "browse": ("tools/misc/browse_dataset.py", "CONFIG", "--out", "OUT.png"),
    "publish": ("tools/misc/publish_model.py", "CHECKPOINT", "--out", "OUT.safetensors"),
    "plot_logs": ("tools/analysis/plot_logs.py", "WORK_DIR", "--out", "OUT.png"),
}


@pytest.fixture
def coco(tmp_path) -> Path:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 20}],
        "categories": [{"id": 1, "name": "dent"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [2, 2, 8, 8],
                "area": 64,
                "iscrowd": 0,
                "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]],
            }
        ],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", ["below a file", "too long a name"])
def test_an_output_that_cannot_be_written(
    call_tool, trained, coco, tmp_path, monkeypatch, name, kind
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    out = tmp_path / ("file/out" if kind == "below a file" else "x" * 300)
    paths = {
        "CONFIG": trained.config,
        "CHECKPOINT": trained.checkpoint,
        "IMAGES": trained.data_root / "val",
        "WORK_DIR": trained.checkpoint.parent,
        "COCO": coco,
        "OUT": out,
    }

    tool, *arguments = COMMANDS[name]
    done = call_tool(
        tool,
        *(
            paths.get(argument) or argument.replace("OUT.", f"{out}.")  # with its suffix
            for argument in arguments
        ),
    )

    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert error.endswith(".")
    assert str(tmp_path) in error
    assert "Traceback" not in done.stderr
