from __future__ import annotations

import json
import shutil

TOOL = "tools/data/check_dataset.py"


def test_sound_data(run_tool, leaf_config, tmp_path):
    done = run_tool(TOOL, leaf_config, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "found 0 errors" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["train", "val/test"] in lines
    assert ["striped", "8", "4"] in lines
    assert json.loads((tmp_path / "dataset_check.json").read_text())["error"] == 0
    assert done.stderr == ""  # a progress bar in a terminal only


def test_an_error_exits_with_one(run_tool, leaf_config, class_folders, tmp_path):
    root = shutil.copytree(class_folders, tmp_path / "data")
    leaked = root / "val" / "dark" / "leak.png"
    shutil.copy(root / "train" / "dark" / "dark_0.png", leaked)
    (root / "train" / "bright" / "broken.png").write_bytes(b"no image")
    done = run_tool(TOOL, leaf_config, "--out", tmp_path, "--cfg-options", f"data_root={root}")
    assert done.returncode == 1
    assert "train: image files that cannot be read: 1 of 25" in done.stdout
    assert f"= {leaked} (dark)" in done.stdout
    assert json.loads((tmp_path / "dataset_check.json").read_text())["error"] == 2


def test_a_wrong_path_is_one_sentence(run_tool, leaf_config, tmp_path):
    done = run_tool(TOOL, leaf_config, "--out", tmp_path, "--cfg-options", "data_root=nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("error: found 0 images: ")
    assert "Traceback" not in done.stderr
