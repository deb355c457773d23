from __future__ import annotations

from pathlib import Path

import pytest

from aicore.config import load_config
from aicore.datasets.check import check_config

BASE = Path(__file__).parents[2] / "configs" / "classification" / "resnet18.py"
TOOL = "tools/data/split.py"


def test_the_lists_train_after_their_lines_are_in_a_config(run_tool, class_folders, tmp_path):
    lists = tmp_path / "lists"
    done = run_tool(
        TOOL, class_folders, "--out", lists, "--label-from", r"([a-z]+)_\d+\.png",
        "--val-share", "0.25", "--test-share", "0.25",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table, settings = done.stdout.split("in the config:\n")
    rows = [line.split() for line in table.splitlines()]
    assert ["train", "val", "test"] in rows
    assert ["striped", "6", "3", "3"] in rows
    assert ["all", "18", "9", "9"] in rows
    config = tmp_path / "own.py"
    config.write_text(
        f"_base_ = {BASE.as_posix()!r}\n"
        + "".join(line.strip() + "\n" for line in settings.splitlines()),
        encoding="utf-8",
    )
    report = check_config(load_config(config))
    assert report.of_level("error") == []
    assert [split.counts["striped"] for split in report.splits.values()] == [6, 3, 3]


def test_paths_alone_where_masks_lie_beside_the_images(run_tool, class_folders, tmp_path):
    done = run_tool(
        TOOL, class_folders, "--out", tmp_path, "--label-from", r"([a-z]+)_\d+\.png", "--paths-only"
    )

    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "val.txt").read_text().splitlines()
    assert all((class_folders / line).is_file() for line in lines)
    kinds = [Path(line).name.split("_")[0] for line in lines]
    assert {kinds.count(name) for name in ("bright", "dark", "striped")} == {len(lines) // 3}
    assert not (tmp_path / "labels.txt").exists()


def test_a_warning_for_what_is_doubtful(run_tool, tmp_path):
    for name in ("a", "b", "c", "d"):
        (tmp_path / "good").mkdir(exist_ok=True)
        (tmp_path / "good" / f"{name}.jpg").touch()
        (tmp_path / "good" / f"{name}.png").touch()
    done = run_tool(TOOL, tmp_path, "--out", tmp_path / "lists")
    assert done.returncode == 0
    assert "warning: 4 images share folder and name" in done.stdout


def test_an_image_without_a_class_is_one_sentence(run_tool, class_folders, tmp_path):
    done = run_tool(TOOL, class_folders, "--out", tmp_path, "--label-from", "(dark|striped)")
    assert done.returncode == 1
    assert done.stderr.startswith("error: --label-from '(dark|striped)' finds nothing in 12 of 36")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--label-from", "[a-z]+"], "has no group"),
        (["--group-from", "([a-z"], "is no regular expression"),
        (["--val-share", "1.2"], "each has to be from 0 to 1"),
        (["--val-share", "0.6", "--test-share", "0.4"], "something left to train on"),
        (["--val-share", "nan"], "each has to be from 0 to 1"),
    ],
)
def test_a_wrong_option_is_told_at_once(run_tool, tmp_path, options, words):
    done = run_tool(TOOL, tmp_path, "--out", tmp_path, *options)
    assert done.returncode == 2
    assert words in done.stderr
