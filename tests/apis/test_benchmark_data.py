from __future__ import annotations

import time

import cv2
import pytest
import torch
from mmcv.transforms import BaseTransform

from aicore.apis.benchmark.data import benchmark_data
from aicore.classification.task import Classification
from aicore.errors import ConfigError
from aicore.registry import TASKS, TRANSFORMS

SECONDS = 0.01
prepared: list[tuple[str, int]] = []


@TRANSFORMS.register_module()
class Sleep(BaseTransform):
    """A step that takes its time, and notes the image and OpenCV's threads."""

    def transform(self, results: dict) -> dict:
        time.sleep(SECONDS)
        prepared.append(("own", cv2.getNumThreads()))
        return results


def slow_peer(settings, records):
    assert all("img_path" in record for record in records)
    assert settings.image_size == 32

    def sample(index: int) -> None:
        assert 0 <= index < len(records)
        prepared.append(("peer", cv2.getNumThreads()))
        time.sleep(4 * SECONDS)

    return sample


@TASKS.register_module()
class PeeredTask(Classification):
    data_peers = {"slow": slow_peer}  # noqa: RUF012


@pytest.fixture
def sleepy_config(small_config):
    """A function: a config whose whole pipeline is reading and sleeping."""

    def write(**settings):
        pipeline = [dict(type="aicore.LoadImage"), dict(type="aicore.Sleep"),
                    dict(type="mmpretrain.PackInputs")]  # fmt: skip
        return small_config(train_pipeline=pipeline, **settings)

    prepared.clear()
    return write


def test_the_pipeline_and_its_steps(sleepy_config):
    threads = cv2.getNumThreads(), torch.get_num_threads()

    report = benchmark_data(sleepy_config(), rounds=2, images=3)

    assert [row["what"] for row in report.rows] == [
        "pipeline", "step LoadImage", "step Sleep", "step PackInputs"
    ]  # fmt: skip
    whole, load, sleep, pack = (row["milliseconds"] for row in report.rows)
    assert whole >= 10 and sleep >= 10
    assert load > 0 and pack > 0
    for row in report.rows:
        assert row["speed_up"] is None
        assert row["images_per_second"] == pytest.approx(1000 / row["milliseconds"], rel=0.2)
    assert len(prepared) == (3 + 2) * 3 + 2 * 3  # three rounds to warm up, then the steps
    assert {number for _, number in prepared} == {1}  # OpenCV's word for none of its own
    assert (cv2.getNumThreads(), torch.get_num_threads()) == threads
    assert "24 images, to 32 pixels" in str(report)


def test_a_peer_takes_turns_with_the_pipeline(sleepy_config):
    config = sleepy_config(task=dict(type="aicore.PeeredTask"))

    report = benchmark_data(config, rounds=2, images=3)

    names = [name for name, _ in prepared]
    assert names == (["own"] * 3 + ["peer"] * 3) * 5 + ["own"] * 6
    own, peer, *_ = report.rows
    assert peer["what"] == "slow"
    assert peer["milliseconds"] >= 40
    assert peer["speed_up"] > 0
    assert own["speed_up"] is None


def test_wrong_counts(sleepy_config):
    for counts in (dict(rounds=0), dict(images=0)):
        with pytest.raises(ConfigError, match="both have to be at least 1"):
            benchmark_data(sleepy_config(), **counts)


def test_an_unknown_step_is_explained(small_config):
    config = small_config(train_pipeline=[dict(type="aicore.LoadImages")])

    with pytest.raises(ConfigError, match="Did you mean"):
        benchmark_data(config)
