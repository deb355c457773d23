from __future__ import annotations

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.structures import BaseDataElement

from aicore.errors import DataError
from aicore.evaluation import Evaluator
from aicore.registry import EVALUATOR, METRICS


@METRICS.register_module()
class MeanOfTests(BaseMetric):
    """The mean of the samples' values, and of how many."""

    default_prefix = "mean"

    def process(self, data_batch, data_samples) -> None:
        self.results += [sample["value"] for sample in data_samples]

    def compute_metrics(self, results) -> dict[str, float]:
        return {"value": sum(results) / len(results), "count": len(results)}


@pytest.fixture
def evaluator():
    return EVALUATOR.build(dict(type="aicore.Evaluator", metrics=[dict(type="aicore.MeanOfTests")]))


def sample_of(value: float, reason: str | None = None) -> BaseDataElement:
    sample = BaseDataElement(value=value)
    if reason:
        sample.set_metainfo({"not_inspected": reason})
    return sample


def test_all_images_inspected(evaluator):
    assert type(evaluator) is Evaluator
    evaluator.process([sample_of(1), sample_of(2)])
    evaluator.process([sample_of(6)])

    assert evaluator.evaluate(3) == {"mean/value": 3, "mean/count": 3, "not_inspected": 0}


def test_images_that_were_not_inspected_are_counted_apart(evaluator):
    evaluator.process([sample_of(1), sample_of(100, "it is empty")])
    evaluator.process([sample_of(100, "it is empty")])
    evaluator.process([sample_of(3)])

    assert evaluator.evaluate(4) == {"mean/value": 2, "mean/count": 2, "not_inspected": 2}


def test_each_evaluation_counts_anew(evaluator):
    evaluator.process([sample_of(1), sample_of(100, "it is empty")])
    evaluator.evaluate(2)
    evaluator.process([sample_of(5), sample_of(7)])

    assert evaluator.evaluate(2) == {"mean/value": 6, "mean/count": 2, "not_inspected": 0}


def test_no_image_at_all(evaluator):
    evaluator.process([sample_of(1, "it is empty"), sample_of(2, "it is empty")])

    with pytest.raises(DataError, match=r"none of the 2 images could be inspected"):
        evaluator.evaluate(2)


def test_the_dataset_meta_reaches_the_metrics(evaluator):
    evaluator.dataset_meta = {"classes": ("a", "b")}

    assert evaluator.metrics[0].dataset_meta == {"classes": ("a", "b")}
