from __future__ import annotations

import json
import resource

import pytest
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from aicore.classification import Classification
from aicore.task import RecordWriter, build_task, inspection_record, write_records

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


@pytest.fixture
def small_disk():
    """Files of 1000 bytes at most; a larger one fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_name_that_is_not_utf8_loads_as_the_same_name(tmp_path):
    records = [{"image": "ng_\udcc1\udce3.png"}]

    write_records(tmp_path / "r.json", records)

    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == records


def test_a_number_that_is_none_leaves_the_old_records(tmp_path):
    file = tmp_path / "r.json"
    write_records(file, [{"image": "a.png"}])

    with pytest.raises(ValueError, match="JSON"):
        write_records(file, [{"image": "b.png", "pred_score": float("nan")}])

    assert json.loads(file.read_text(encoding="utf-8")) == [{"image": "a.png"}]


def test_a_full_disk_leaves_the_old_records(tmp_path, small_disk):
    file = tmp_path / "r.json"
    write_records(file, [{"image": "a.png"}])

    with pytest.raises(OSError, match=r"r\.json"):
        write_records(file, [{"image": "b" * 300}] * 4)

    assert json.loads(file.read_text(encoding="utf-8")) == [{"image": "a.png"}]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_records_that_come_one_by_one_make_the_same_file(tmp_path, count):
    records = [{"image": f"零件_{index}.png"} for index in range(count)]
    write_records(tmp_path / "at_once.json", records)

    with RecordWriter(tmp_path / "r.json") as writer:
        for record in records:
            writer.write(record)

    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == records
    if records:
        assert (tmp_path / "r.json").read_bytes() == (tmp_path / "at_once.json").read_bytes()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_finished_before_an_error_is_kept(tmp_path, error):
    file = tmp_path / "r.json"

    with pytest.raises(error), RecordWriter(file) as writer:
        writer.write({"image": "a.png"})
        raise error

    assert json.loads(file.read_text(encoding="utf-8")) == [{"image": "a.png"}]
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_before_the_first_record_leaves_the_old_ones(tmp_path):
    file = tmp_path / "r.json"
    write_records(file, [{"image": "a.png"}])

    with pytest.raises(ValueError, match="early"), RecordWriter(file):
        raise ValueError("early")

    assert json.loads(file.read_text(encoding="utf-8")) == [{"image": "a.png"}]
    assert list(tmp_path.iterdir()) == [file]


def test_a_disk_that_becomes_full_keeps_the_whole_records(tmp_path, small_disk):
    file = tmp_path / "r.json"
    record = {"image": "b" * 300}

    with pytest.raises(OSError, match=r"r\.json"), RecordWriter(file) as writer:
        for _ in range(4):
            writer.write(record)

    assert json.loads(file.read_text(encoding="utf-8")) == [record] * 3


def test_the_temporary_file_is_a_whole_list_after_each_record(tmp_path):
    writer = RecordWriter(tmp_path / "r.json")
    for count in range(1, 3):
        writer.write({"image": "a.png"})

        (temporary,) = tmp_path.iterdir()
        assert json.loads(temporary.read_bytes()) == [{"image": "a.png"}] * count
    writer.close()
