from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from aicore.apis import logs
from aicore.apis.logs import plot_logs, read_log
from aicore.errors import ConfigError, DataError
from aicore.visualization.plots import Panel, plot_panels

TOOL = "tools/analysis/plot_logs.py"
TRAINING = [
    {"lr": 0.1, "loss": 2.0, "time": 1.0, "memory": 9, "epoch": 1, "iter": 10, "step": 10},
    {"lr": 0.1, "loss": 1.5, "time": 1.0, "memory": 9, "epoch": 2, "iter": 20, "step": 20},
]
VALIDATION = [
    {"accuracy/top1": 50.0, "time": 0.5, "step": 1},
    {"accuracy/top1": 75.0, "time": 0.5, "step": 2},
]


def write_log(work_dir: Path, records: list[dict], run: str = "20260102_030405") -> Path:
    file = work_dir / run / "vis_data" / "scalars.json"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


@pytest.fixture
def drawn(monkeypatch):
    """The panels of each call, instead of pictures."""
    calls: list[list[Panel]] = []
    monkeypatch.setattr(logs, "plot_panels", lambda panels, file: calls.append(panels))
    return calls


def test_training_over_iterations_validation_over_epochs(tmp_path, drawn):
    write_log(tmp_path, [TRAINING[0], VALIDATION[0], TRAINING[1], VALIDATION[1]])

    plot_logs([tmp_path])

    name = str(tmp_path)
    assert drawn[0] == [
        Panel("loss", "iteration", {name: ((10, 20), (2.0, 1.5))}),
        Panel("lr", "iteration", {name: ((10, 20), (0.1, 0.1))}),
        Panel("accuracy/top1", "epoch", {name: ((1, 2), (50.0, 75.0))}),
    ]


def test_a_training_by_iterations_validates_over_iterations(tmp_path, drawn):
    training = {key: value for key, value in TRAINING[0].items() if key != "epoch"}
    write_log(tmp_path, [training, {"mIoU": 60.0, "step": 10}])

    plot_logs([tmp_path], ["mIoU"])

    assert drawn[0] == [Panel("mIoU", "iteration", {str(tmp_path): ((10,), (60.0,))})]


def test_a_curve_for_each_training_that_has_the_key(tmp_path, drawn):
    write_log(tmp_path / "a", [*TRAINING, *VALIDATION])
    file = write_log(tmp_path / "b", TRAINING)

    plot_logs([tmp_path / "a", file], ["accuracy/top1", "loss", "time"])

    a, b = str(tmp_path / "a"), str(file)
    assert [list(panel.curves) for panel in drawn[0]] == [[a], [a, b], [a, b]]


def test_at_most_six_keys_unless_asked(tmp_path, drawn):
    metrics = {f"metric_{index}": 1.0 for index in range(10)}
    write_log(tmp_path, [*TRAINING, {**metrics, "data_time": 1.0, "step": 1}])

    plot_logs([tmp_path])
    plot_logs([tmp_path], list(metrics))

    titles = [[panel.title for panel in panels] for panels in drawn]
    assert titles[0] == ["loss", "lr", "metric_0", "metric_1", "metric_2", "metric_3"]
    assert titles[1] == list(metrics)


def test_the_newest_run_of_a_work_dir(tmp_path):
    newest = {**TRAINING[0], "loss": 7.0}
    write_log(tmp_path, [newest], "20260102_120000")
    write_log(tmp_path, TRAINING, "20260102_030405")
    (tmp_path / "20260103_000000" / "vis_data").mkdir(parents=True)  # a test logs no curves

    assert read_log(tmp_path).training == [newest]


def test_values_that_are_no_numbers_are_left_out_and_nan_is_kept(tmp_path):
    write_log(tmp_path, [{"a": [1, 2], "b": "x", "c": None, "loss": math.nan, "iter": 1}])

    (record,) = read_log(tmp_path).training

    assert record.keys() == {"loss", "iter"}
    assert math.isnan(record["loss"])


@pytest.mark.parametrize("cut", ['{"loss": 1.', "{", '{"name": "\ufffd'])
def test_a_last_line_that_was_cut_off_is_passed_over(tmp_path, cut):
    file = write_log(tmp_path, TRAINING)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(cut)

    assert len(read_log(tmp_path).training) == len(TRAINING)

    with file.open("a", encoding="utf-8") as stream:
        stream.write('\n{"loss": 1.0}\n')
    with pytest.raises(DataError, match=r"line 3: .* is not a JSON object"):
        read_log(tmp_path)


def test_what_a_real_training_leaves(trained, call_tool, tmp_path):
    log = read_log(trained.work_dir)
    assert [record["iter"] for record in log.training] == list(range(1, 10))
    assert [record["step"] for record in log.validation] == [1, 2, 3]
    assert log.validation_unit == "epoch"

    done = call_tool(TOOL, trained.work_dir, "--out", tmp_path / "new" / "curves.png")

    assert done.returncode == 0
    picture = cv2.imread(str(tmp_path / "new" / "curves.png"))
    assert picture.shape[0] > 500
    assert picture.shape[1] > 1000  # six panels: two rows of three


def test_picture_has_a_colour_for_each_name_and_a_gap_for_nan(tmp_path):
    x = list(range(100))
    panels = [
        Panel("one", "epoch", {"a": (x, x), "b": (x, [50] * 100)}),
        Panel("two", "epoch", {"b": (x, x)}),
        Panel("three", "epoch", {"c": (x, [math.nan] * 100)}),
    ]

    plot_panels(panels, tmp_path / "curves.png")

    picture = cv2.imread(str(tmp_path / "curves.png"))
    columns = {}
    for name, bgr in {"a": (180, 119, 31), "b": (14, 127, 255), "c": (44, 160, 44)}.items():
        found = (picture == bgr).all(axis=2)
        below = picture.shape[0] * 8 // 10  # the legend
        assert found[below:].any()
        columns[name] = np.flatnonzero(found[:below].any(axis=0)) / picture.shape[1]
    assert columns["a"].max() < 1 / 3
    assert columns["b"].min() < 1 / 3 < columns["b"].max() < 2 / 3
    assert len(columns["c"]) == 0


def test_default_place(tmp_path, drawn):
    file = write_log(tmp_path, TRAINING)

    assert plot_logs([tmp_path]) == tmp_path / "curves.png"
    assert plot_logs([file]) == file.parent / "curves.png"


def test_unknown_key(call_tool, tmp_path):
    write_log(tmp_path, [*TRAINING, *VALIDATION])

    done = call_tool(TOOL, tmp_path, "--keys", "loss", "acuracy/top1")

    assert done.returncode == 1
    assert "Did you mean 'accuracy/top1'?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


def test_bad_logs(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        plot_logs([tmp_path / "missing"])
    with pytest.raises(DataError, match=r"holds no training's log: expected .*scalars\.json"):
        plot_logs([tmp_path])
    for line in ("{half", "[1, 2]", "3"):
        file = tmp_path / "broken.json"
        file.write_text(f'{{"loss": 1.0, "iter": 1}}\n{line}\n')
        with pytest.raises(DataError, match="line 2"):
            plot_logs([file])
    file.write_bytes(b"\x80\x02\xff")
    with pytest.raises(DataError, match="line 1"):
        plot_logs([file])
    file.write_text('{"iter": 1, "step": 1}\n')
    with pytest.raises(DataError, match="no logged values yet"):
        plot_logs([file])


def test_out_has_to_be_a_png(tmp_path):
    write_log(tmp_path, TRAINING)

    with pytest.raises(ConfigError, match=r"has to end in \.png"):
        plot_logs([tmp_path], out=tmp_path / "curves.jpg")
