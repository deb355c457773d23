from __future__ import annotations

from pathlib import Path

import pytest

from aicore.apis.benchmark import detection
from aicore.apis.benchmark.detection import benchmark_detection
from aicore.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "configs/detection/yolox_nano.py"
OPTIONS = {"classes": ("scratch", "spot"), "image_size": 64, "batch_size": 2}


def test_the_step_beside_mmdets(monkeypatch):
    cases = []

    def memory(*case):  # in this process: another one takes seconds to start
        cases.append(case[2:])
        return detection._memory_of_steps(*case)

    monkeypatch.setattr(detection, "_memory_alone", memory)

    report = benchmark_detection(CONFIG, rounds=1, options=OPTIONS)

    assert cases == [(False, False), (True, False), (False, True), (True, True)]
    assert [row["what"] for row in report.rows] == [
        "training step, float32",
        "training step, bfloat16",
    ]
    for row in report.rows:
        assert all(value > 0 for name, value in row.items() if name != "what")
    assert report.facts["images"] == "2 of 64, 10 boxes each, 2 classes"


def test_a_model_that_mmdet_does_not_have():
    with pytest.raises(
        ConfigError, match=r"no counterpart of model.type = 'aicore.YOLOX' with in_"
    ):
        benchmark_detection(CONFIG, options={**OPTIONS, "in_channels": 1})
