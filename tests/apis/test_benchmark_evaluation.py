from __future__ import annotations

from aicore.apis.benchmark.evaluation import benchmark_evaluation


def test_the_evaluation_beside_pycocotools():
    report = benchmark_evaluation(rounds=2, images=12)

    (row,) = report.rows
    assert row["images"] == 12
    assert row["largest_difference"] <= 1e-6
    assert row["aicore_seconds"] >= 0
    assert row["pycocotools_seconds"] > 0
    assert row["speed_up"] > 0
    assert report.facts["rounds"] == "2"
    assert {"pycocotools", "faster-coco-eval"} <= set(report.facts)
