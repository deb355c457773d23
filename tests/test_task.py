from __future__ import annotations

import json

import pytest
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from aicore.classification import Classification
from aicore.task import build_task, inspection_record, write_records

CLASSES = ("good", "scratch")


def sample_of(truth: int, scores: list[float], **metainfo) -> DataSample:
    return DataSample(metainfo=metainfo).set_gt_label(truth).set_pred_score(scores)


@pytest.mark.parametrize("scope", ["mmpretrain", "mmdet", "aicore"])
def test_a_task_is_built_in_any_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        task = build_task(dict(type="aicore.Classification"))

    assert type(task) is Classification


def test_building_leaves_the_config_as_it_is():
    config = dict(type="aicore.Classification")

    build_task(config)

    assert config == dict(type="aicore.Classification")


def test_a_record_of_an_inspected_image():
    sample = sample_of(0, [0.25, 0.75], img_path="a.png")

    record = inspection_record(Classification(), sample, CLASSES)

    assert record == {
        "image": "a.png",
        "inspected": True,
        "truth": "good",
        "prediction": "scratch",
        "pred_score": 0.75,
        "pred_scores": {"good": 0.25, "scratch": 0.75},
    }


def test_a_record_of_an_image_that_cannot_be_read_keeps_its_truth_only():
    sample = sample_of(1, [0.25, 0.75], img_path="a.png", not_inspected="it is empty")

    record = inspection_record(Classification(), sample, CLASSES)

    assert record == {
        "image": "a.png",
        "inspected": False,
        "truth": "scratch",
        "reason": "it is empty",
    }


def test_a_record_of_an_array_has_no_path():
    record = inspection_record(Classification(), DataSample().set_pred_score([1.0, 0.0]), CLASSES)

    assert record["image"] is None
    assert "truth" not in record


def test_records_are_written_one_a_line(tmp_path):
    records = [{"image": "零件 1.png", "scores": [0.5, 1]}, {"image": 'a"b\n.png'}]

    write_records(tmp_path / "r.json", records)

    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert json.loads(text) == records
    assert len(text.splitlines()) == 4
    assert "零件 1" in text


def test_no_records(tmp_path):
    write_records(tmp_path / "r.json", [])

    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == []
