"""What a test leaves behind: predictions.json, metrics.json, and the task's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from aicore.registry import HOOKS
from aicore.runtime.files import as_json, atomic_write
from aicore.task import RecordWriter, build_task, inspection_record, write_records


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes a test's results into the runner's ``work_dir``.

    ``predictions.json`` holds one record per image: its path, truth, prediction and scores, or why
    it was not inspected. ``metrics.json`` holds the metrics, what a metric keeps besides as
    ``figures`` (a dict ready for JSON), and what the task's report adds.

    Records are written as they come. A test that stops leaves those of the images it has finished
    (with several processes, of the first one's share); one that stops before the first leaves what
    was there.

    Args:
        task: Config of the task, which knows what a record holds and what to draw.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = build_task(task)
        self._records: list[dict[str, Any]] = []
        self._writer: RecordWriter | None = None

    def before_test_epoch(self, runner: Runner) -> None:
        """Begins anew."""
        self._records = []
        if is_main_process():
            self._writer = RecordWriter(_file(runner))
            runner.on_exit.push(partial(self._keep_finished, runner))

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Keeps what the batch's data samples say."""
        classes = runner.test_dataloader.dataset.metainfo["classes"]
        for sample in outputs or ():
            record = inspection_record(self.task, sample, classes)
            self._records.append(record)
            if self._writer is not None:
                self._writer.write(record)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Collects the records of all processes and writes everything."""
        dataset = runner.test_dataloader.dataset
        records = collect_results(self._records, len(dataset), device="gpu")  # by messages
        if not is_main_process():
            return
        self._close_writer()
        folder = Path(runner.work_dir)
        try:
            table, figures = self.task.report(records, tuple(dataset.metainfo["classes"]), folder)
        finally:  # the report may complete the records, but its failure must not cost them
            write_records(_file(runner), records)
        # JSON has no NaN: what is not defined is null.
        defined = {k: None if value != value else value for k, value in (metrics or {}).items()}
        # A metric may keep more than its numbers: tables, curves.
        metrics_used = runner.test_loop.evaluator.metrics
        details = {k: v for m in metrics_used for k, v in getattr(m, "figures", {}).items()}
        content = {**defined, **details, **figures}
        with atomic_write(folder / "metrics.json") as stream:
            stream.write(as_json(content, indent=1))
        runner.logger.info(f"{table}\nResults: {folder}")

    def _keep_finished(
        self, runner: Runner, kind: Any, error: BaseException | None, trace: Any
    ) -> None:
        if self._writer is None:  # the test has come to its end
            return
        self._close_writer(error)
        count, total = len(self._records), len(runner.test_dataloader.dataset)
        if count:
            runner.logger.warning(
                f"The test stopped: {_file(runner)} holds {count} of {total} images, the other "
                f"{total - count} are missing. Other results in that folder are of an earlier test."
            )

    def _close_writer(self, error: BaseException | None = None) -> None:
        writer, self._writer = self._writer, None
        writer.close(error)


def _file(runner: Runner) -> Path:
    return Path(runner.work_dir) / "predictions.json"
