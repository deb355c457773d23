"""The quick part of the data check, before a training or test."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from aicore.datasets.base import base_datasets
from aicore.datasets.check.records import Split, read_split
from aicore.datasets.findings import ERROR, WARNING
from aicore.errors import DataError
from aicore.registry import HOOKS

_EXAMPLES = 3
_FULL_CHECK = "tools/data/check_dataset.py gives the full report."


@HOOKS.register_module()
class DatasetCheckHook(Hook):
    """Counts the images and labels of the data of a run, and stops on faults.

    It reads the annotations and asks for each image file's size; it opens no image. Logs a line
    for each split. Warns of annotations that are left out or odd, of files that are missing or
    empty, of classes without a label, and of files that are in both splits.

    A test goes on with any number of missing files, which count as not inspected, and with what
    makes a training meaningless (good images alone, say).

    Args:
        max_bad_share: Share of a split's images in [0, 1] that may be missing or empty in training.
    """

    def __init__(self, max_bad_share: float = 0.05) -> None:
        self.max_bad_share = max_bad_share

    def before_train(self, runner: Runner) -> None:
        """Checks the data sets of the run.

        Raises:
            DataError: More than ``max_bad_share`` of the images of a split are missing or empty,
                or an annotation is faulty.
        """
        datasets = {"train": runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            datasets["val"] = runner.val_dataloader.dataset
        splits = self._read(runner, datasets)
        for split in splits:
            self._check_findings(runner, split, {ERROR})
            self._check_files(runner, split, self.max_bad_share)
        if len(splits) == 2:
            self._check_leak(runner, *splits)

    def before_test(self, runner: Runner) -> None:
        """Checks the data set of the test.

        Raises:
            DataError: An annotation is faulty.
        """
        for split in self._read(runner, {"test": runner.test_dataloader.dataset}):
            self._check_findings(runner, split, set())
            self._check_files(runner, split, 1)

    def _read(self, runner: Runner, datasets: dict[str, Dataset]) -> list[Split]:
        """Returns the splits that can be checked; none of them has a faulty annotation."""
        splits = []
        for name, dataset in datasets.items():
            if any(base_datasets(dataset)):
                splits.append(read_split(name, dataset))
            else:
                runner.logger.warning(
                    f"{name}: {type(dataset).__name__} is not checked, it is "
                    "no InspectionDataset of aicore."
                )
        for split in splits:
            runner.logger.info(split.summary())
            self._check_annotations(runner, split)
            if split.missing_classes():
                runner.logger.warning(
                    f"{split.name} has no label of {_first(split.missing_classes(), ', ')}."
                )
        return splits

    def _check_annotations(self, runner: Runner, split: Split) -> None:
        faulty = split.faulty()
        if faulty:
            raise DataError(
                f"Faults in the annotations of {split.name} ({len(faulty)}): {_first(faulty)}. "
                f"Fix them; {_FULL_CHECK}"
            )
        noted = split.noted()
        if noted:
            runner.logger.warning(
                f"In the annotations of {split.name}, left out, clipped or odd ({len(noted)}): "
                f"{_first(noted)}. {_FULL_CHECK}"
            )

    def _check_findings(self, runner: Runner, split: Split, stopping: set[str]) -> None:
        for finding in split.findings:
            cases = f": {_first(list(finding.cases))}" if finding.cases else ""
            sentence = f"{split.name}: {finding.text}{cases}. {_FULL_CHECK}"
            if finding.level in stopping:
                raise DataError(sentence)
            if finding.level in (ERROR, WARNING):
                runner.logger.warning(sentence)

    def _check_files(self, runner: Runner, split: Split, max_bad_share: float) -> None:
        missing = split.missing_files()
        if not missing:
            return
        share = len(missing) / len(split.paths)
        message = (
            f"{len(missing)} of {len(split.paths)} {split.name} images ({share:.1%}) are missing "
            f"or empty: {_first([f'{path} ({reason})' for path, reason in missing.items()])}."
        )
        if share > max_bad_share:
            raise DataError(
                f"{message} Allowed are {max_bad_share:.0%}: repair data_root and the lists, "
                f"or raise default_hooks.dataset_check.max_bad_share. {_FULL_CHECK}"
            )
        runner.logger.warning(message)

    def _check_leak(self, runner: Runner, train: Split, val: Split) -> None:
        known = {Path(path).resolve() for path in train.paths}
        shared = [path for path in val.paths if Path(path).resolve() in known]
        if shared:
            runner.logger.warning(
                f"{len(shared)} of {len(val.paths)} val images are train images as well, so the "
                f"validation's figures are too good: {_first(shared)}. {_FULL_CHECK}"
            )


def _first(texts: list[str], separator: str = "; ") -> str:
    rest = f"{separator}and {len(texts) - _EXAMPLES} more" if len(texts) > _EXAMPLES else ""
    return separator.join(texts[:_EXAMPLES]) + rest
