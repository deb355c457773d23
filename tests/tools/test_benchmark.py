from __future__ import annotations

import csv
from pathlib import Path

import pytest

TOOL = "tools/benchmark.py"
UNETPLUSPLUS = Path(__file__).parents[2] / "configs/segmentation/unetplusplus_resnet18.py"
COLUMNS = [
    "variant",
    "images_per_second",
    "ratio_to_bare_loop",
    "gain_over_runner",
    "data_wait_share",
    "peak_memory_mb",
    "note",
]
# An optimiser wrapper of a user's own, with an argument that the one for --amp does not take.
OWN_WRAPPER = """
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

@OPTIM_WRAPPERS.register_module()
class NamedWrapper(OptimWrapper):
    def __init__(self, nickname, **kwargs):
        super().__init__(**kwargs)
"""


@pytest.mark.slow
def test_all_variants_are_measured_and_one_that_fails_says_why(
    call_tool, small_config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "named_wrapper.py").write_text(OWN_WRAPPER)
    config = small_config(
        custom_imports={"imports": ["named_wrapper"]},
        optim_wrapper={"type": "NamedWrapper", "nickname": "own"},
    )
    file = tmp_path / "new" / "figures.csv"
    switches = ["--switches", "amp", "--iters", "5", "--rounds", "2"]

    done = call_tool(TOOL, "train", config, *switches, "--csv", file)

    assert done.returncode == 0, done.stderr
    lines = file.read_text(encoding="utf-8").splitlines()
    facts = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    assert {"command", "cpu", "torch", "threads"} <= facts.keys()
    assert f"{TOOL} train {config} --switches amp --iters 5" in facts["command"]
    assert facts["rounds"].startswith("2 of 5 iterations")
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert list(rows[0]) == COLUMNS
    assert [row["variant"] for row in rows] == ["bare loop", "Runner", "Runner --amp"]
    for row in rows[:2]:
        assert float(row["images_per_second"]) > 0
        assert 0 < float(row["data_wait_share"]) < 1
        assert 50 < float(row["peak_memory_mb"]) < 10_000  # python and torch alone are above 50
        assert row["note"] == ""
    assert float(rows[0]["ratio_to_bare_loop"]) == float(rows[1]["gain_over_runner"]) == 1
    assert float(rows[1]["ratio_to_bare_loop"]) > 0
    assert "'nickname'" in rows[2]["note"]
    assert [rows[2][column] for column in COLUMNS[1:-1]] == [""] * 5
    for row in rows:
        assert f"| {row['variant']} " in done.stdout
    folder = tmp_path / "work_dirs" / config.stem / "benchmark"
    assert "Traceback" in (folder / "Runner_amp" / "console.log").read_text()
    assert list((folder / "Runner").glob("*/vis_data/scalars.json"))  # it logs as it always does
    assert not list(folder.rglob("*.pth"))


def test_moving_average(call_tool, tmp_path):
    file = tmp_path / "ema.csv"

    done = call_tool(TOOL, "ema", "--models", "test_resnet", "test_vit", "--csv", file)

    assert done.returncode == 0, done.stderr
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "model,parameters,tensors,aicore_ms,mmengine_ms,speed_up"
    assert [line.split(",")[0] for line in lines[1:]] == ["test_resnet", "test_vit"]
    assert "| test_vit " in done.stdout


@pytest.mark.slow
def test_segmentation_beside_its_peers(call_tool, tmp_path):
    file = tmp_path / "segmentation.csv"
    options = ["model_name=test_resnet.r160_in1k", "batch_size=2", "image_size=(32,64)"]

    done = call_tool(
        TOOL, "segmentation", UNETPLUSPLUS, "--rounds", "1", "--csv", file,
        "--cfg-options", *options, "classes=background,dent",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "what,aicore_per_second,peer_per_second,speed_up"
    assert [line.split(",")[0] for line in lines[1:]] == [
        '"training step', '"training step', '"training step', '"metric', '"metric with regions'
    ]  # fmt: skip
    assert "bf16, NHWC" in done.stdout


def test_a_network_without_a_peer(call_tool):
    done = call_tool(TOOL, "segmentation", UNETPLUSPLUS.with_name("pspnet_resnet50.py"),
                     "--cfg-options", "classes=background,dent")  # fmt: skip

    assert done.returncode == 1
    assert "model.decode_head.type = 'PSPHead' has no counterpart" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--switches", "amp,chanels_last"], "Did you mean 'channels_last'?"),
        (["--rounds", "0"], "both have to be at least 1"),
        (["--iters", "-3"], "both have to be at least 1"),
        (["--cfg-options", "optim_wrapper=None"], "optim_wrapper not set"),
        (["--cfg-options", "max_epoch=3"], "Did you mean 'max_epochs'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(call_tool, small_config, arguments, sentence):
    done = call_tool(TOOL, "train", small_config(), *arguments)

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
