"""What a test leaves behind: predictions.json, metrics.json, and the task's own pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from aicore.registry import HOOKS
from aicore.task import build_task, inspection_record, write_records


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes a test's results into the runner's ``work_dir``.

    ``predictions.json`` holds one record per image: its path, truth, prediction and scores, or why
    it was not inspected. ``metrics.json`` holds the metrics, what a metric keeps besides as
    ``figures`` (a dict ready for JSON), and what the task's report adds.

    Args:
        task: Config of the task, which knows what a record holds and what to draw.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = build_task(task)
        self._records: list[dict[str, Any]] = []

    def before_test_epoch(self, runner: Runner) -> None:
        """Begins anew."""
        self._records = []

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Keeps what the batch's data samples say."""
        classes = runner.test_dataloader.dataset.metainfo["classes"]
        self._records += [inspection_record(self.task, sample, classes) for sample in outputs or ()]

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Collects the records of all processes and writes everything."""
        dataset = runner.test_dataloader.dataset
        records = collect_results(self._records, len(dataset), device="gpu")  # by messages
        if not is_main_process():
            return
        folder = Path(runner.work_dir)
        try:
            table, figures = self.task.report(records, tuple(dataset.metainfo["classes"]), folder)
        finally:  # the report may complete the records, but its failure must not cost them
            write_records(folder / "predictions.json", records)
        # JSON has no NaN: what is not defined is null.
        defined = {k: None if value != value else value for k, value in (metrics or {}).items()}
        # A metric may keep more than its numbers: tables, curves.
        metrics_used = runner.test_loop.evaluator.metrics
        details = {k: v for m in metrics_used for k, v in getattr(m, "figures", {}).items()}
        content = {**defined, **details, **figures}
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "metrics.json").write_text(text, encoding="utf-8")
        runner.logger.info(f"{table}\nResults: {folder}")
