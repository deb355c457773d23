"""The threshold of a model: found in the validation of its training, kept in its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import collect_results
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from aicore.datasets.base import base_datasets
from aicore.engine.distributed import broadcast_object, plain_model
from aicore.errors import ConfigError
from aicore.evaluation.thresholds import Threshold, ThresholdRule
from aicore.registry import HOOKS, TASK_UTILS


@HOOKS.register_module()
class ThresholdHook(Hook):
    """Gives the model its threshold after each validation of a training, by a rule.

    The model holds the value (``model.set_threshold``), ``checkpoint['meta']['threshold']`` how it
    came about. A threshold is of one state of the model: when training goes on, it is dropped
    until the next validation. A validation outside of a training changes nothing, since the model
    that was loaded is the one to be measured.

    A rule that needs no images (:class:`aicore.evaluation.FixedThreshold`) holds from the
    beginning, in a test too, whatever the checkpoint says.

    Example:
        >>> rule = dict(type="aicore.QuantileThreshold", false_alarm_rate=0.01)
        >>> custom_hooks = [dict(type="aicore.ThresholdHook", rule=rule)]

    Args:
        rule: Config of a rule, see :mod:`aicore.evaluation.thresholds`.

    Raises:
        ConfigError: ``rule`` is no config; or, before a training or test, the model takes no
            threshold.
    """

    priority = "NORMAL"  # before CheckpointHook saves what a validation found

    def __init__(self, rule: dict[str, Any]) -> None:
        if not isinstance(rule, dict) or "type" not in rule:
            raise ConfigError(
                f"ThresholdHook.rule = {rule!r}: expected the config of a rule, such as "
                "dict(type='aicore.QuantileThreshold', false_alarm_rate=0.01)."
            )
        self.rule: ThresholdRule = TASK_UTILS.build(rule)
        self._threshold: Threshold | None = None
        self._training = False
        # Of each image: score, whether it is defective, whether it was inspected.
        self._found: list[tuple[float, bool, bool]] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes how the checkpoint's threshold came about; its value comes with the weights.

        Raises:
            CheckpointError: It is damaged.
        """
        kept = checkpoint["meta"].get("threshold")
        self._threshold = None if kept is None else Threshold.from_dict(kept)

    def before_train(self, runner: Runner) -> None:
        """Sets a threshold that needs no images, or makes sure that the right images are there.

        Raises:
            DataError: No threshold follows from the validation images, whatever their scores.
        """
        _model(runner)
        self._training = True
        self._set_if_fixed(runner)
        if self.rule.needs_images and runner.val_loop is not None:
            self._rehearse(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Drops the threshold of the model as it was."""
        if self.rule.needs_images:
            self._threshold = None
            _model(runner).set_threshold(math.nan)

    def before_val_epoch(self, runner: Runner) -> None:
        """Begins anew."""
        self._found = []

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Keeps the scores of the batch."""
        if not self._finds_threshold():
            return
        for sample in outputs or ():
            inspected = sample.get("not_inspected") is None
            score = float(sample.pred_score) if inspected else math.nan
            self._found.append((score, bool(sample.gt_label), inspected))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Sets the threshold that follows from the images of all processes.

        Raises:
            DataError: None follows from them.
        """
        if not self._finds_threshold():
            return
        # Unreadable images among them: the last ones beyond the data set's size are repetitions.
        size = len(runner.val_dataloader.dataset)
        found = collect_results(self._found, size, device="gpu")  # by messages; None but on rank 0
        self._found = []
        self._set(runner, broadcast_object(lambda: self._apply(found)))

    def after_train(self, runner: Runner) -> None:
        """From here on validations change nothing."""
        self._training = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds how the threshold came about."""
        if self._threshold is not None:
            checkpoint["meta"]["threshold"] = self._threshold.as_dict()

    def before_test(self, runner: Runner) -> None:
        """Sets a threshold that needs no images; logs what images are judged by."""
        self._set_if_fixed(runner)
        if not self.rule.needs_images:
            return
        value = float(_model(runner).threshold)
        if math.isnan(value):
            runner.logger.warning(
                "The model has no threshold: the test gives scores, but calls no image OK or NG. "
                "Train with a validation, or give rule = dict(type='aicore.FixedThreshold', "
                "value=...) to ThresholdHook."
            )
        elif self._threshold is None or np.float32(self._threshold.value) != np.float32(value):
            runner.logger.info(
                f"threshold {value:.4g}: as the model holds it, how it came about is not known"
            )
        else:
            runner.logger.info(str(self._threshold))

    def _finds_threshold(self) -> bool:
        return self._training and self.rule.needs_images

    def _rehearse(self, runner: Runner) -> None:
        """Has the rule say before the training, not after it, which images it lacks."""
        labels = [
            bool(part.get_data_info(index)["gt_label"])
            for part in base_datasets(runner.val_dataloader.dataset)
            for index in range(len(part))
        ]
        if labels:
            self.rule(range(1, len(labels) + 1), labels)

    def _apply(self, found: list[tuple[float, bool, bool]]) -> Threshold:
        inspected = [(score, defective) for score, defective, seen in found if seen]
        return self.rule([s for s, _ in inspected], [defective for _, defective in inspected])

    def _set_if_fixed(self, runner: Runner) -> None:
        if not self.rule.needs_images:
            self._set(runner, self.rule([], []))

    def _set(self, runner: Runner, threshold: Threshold) -> None:
        self._threshold = threshold
        _model(runner).set_threshold(threshold.value)
        runner.logger.info(str(threshold))


def _model(runner: Runner) -> nn.Module:
    model = plain_model(runner.model)
    if not hasattr(model, "set_threshold"):
        raise ConfigError(
            "ThresholdHook: expected a model that takes a threshold, such as "
            f"aicore.AnomalyDetector; {type(model).__name__} has no set_threshold. Take the hook "
            "out of the config."
        )
    return model
