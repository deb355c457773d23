"""Metrics over the images that were inspected, and the count of those that were not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import Evaluator as BaseEvaluator
from mmengine.structures import BaseDataElement

from aicore.errors import DataError
from aicore.registry import EVALUATOR


@EVALUATOR.register_module()
class Evaluator(BaseEvaluator):
    """MMEngine's evaluator, which keeps what was not inspected out of the metrics and counts it.

    The data sample of such an image carries the reason as ``not_inspected``: it cannot be read
    (:class:`aicore.datasets.InspectionDataset`), or the network's output for it is no number
    (:func:`aicore.engine.outputs.mark_not_finite`). The metric ``not_inspected`` is their number.

    Args:
        metrics: Configs of the metrics.
    """

    def __init__(self, metrics: dict | Sequence[dict]) -> None:
        super().__init__(metrics)
        for metric in self.metrics:
            # By messages, for CPUs too: MMEngine's other way needs a disk common to all machines.
            metric.collect_device = "gpu"
        self._not_inspected = 0
        self._reason = ""  # of the first such image

    def process(
        self, data_samples: Sequence[BaseDataElement], data_batch: Any | None = None
    ) -> None:
        """Passes the inspected samples on to the metrics."""
        inspected = [s for s in data_samples if s.get("not_inspected") is None]
        missed = [s for s in data_samples if s.get("not_inspected") is not None]
        if missed and not self._reason:
            self._reason = f", the first: {missed[0].get('img_path')}: {missed[0].not_inspected}"
        self._not_inspected += len(missed)
        if inspected:
            super().process(inspected, data_batch)

    def evaluate(self, size: int) -> dict[str, float]:
        """Returns the metrics, and ``not_inspected``.

        Args:
            size: Number of images of the data set.

        Raises:
            DataError: No image at all could be inspected.
        """
        count = torch.tensor(self._not_inspected)
        all_reduce(count)
        self._not_inspected = 0
        not_inspected = int(count)
        if not_inspected >= size:
            raise DataError(
                f"none of the {size} images could be inspected, there is nothing to evaluate"
                f"{self._reason}."
            )
        return {**super().evaluate(size - not_inspected), "not_inspected": not_inspected}
