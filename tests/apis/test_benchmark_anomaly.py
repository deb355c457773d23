from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from aicore.apis.benchmark.anomaly import benchmark_anomaly
from aicore.datasets.sample import make_sample
from aicore.errors import ConfigError
from tests.conftest import REPOSITORY

CONFIG = REPOSITORY / "configs/anomaly/padim_resnet18_sample.py"
SMALL = dict(image_size=64, num_features=10, num_workers=0)


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict:
    root = make_sample(tmp_path_factory.mktemp("sample") / "data", images=40, size=64)
    return {"sample_data": None, "data_root": str(Path(root) / "anomaly"), **SMALL}


def test_the_own_side(options):
    report = benchmark_anomaly(CONFIG, peer=False, options=options)

    (row,) = report.rows
    assert row["what"] == "aicore"
    assert row["fit_seconds"] > 0
    assert row["fit_peak_mb"] > 100
    assert row["test_images_per_second"] > 0
    assert 0 <= row["image_AUROC"] <= 100
    assert 0 <= row["AUPRO"] <= 100
    assert report.facts["images"].endswith("to test, batches of 32")


@pytest.mark.skipif(find_spec("anomalib") is not None, reason="anomalib is installed")
def test_without_the_peer_there_is_a_sentence(options):
    with pytest.raises(ConfigError, match=r"anomalib is not installed: .* --no-peer"):
        benchmark_anomaly(CONFIG, options=options)


@pytest.mark.skipif(find_spec("anomalib") is None, reason="anomalib is not installed")
def test_what_anomalib_does_not_have_is_refused(options):
    with pytest.raises(ConfigError, match="no counterpart"):
        benchmark_anomaly(CONFIG, options={**options, "reduction": None})
