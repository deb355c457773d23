"""The threshold of a training: found over all processes, kept in checkpoints, told in a test."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import distributed, nn
from torch.utils.data import Dataset

from aicore.anomaly.threshold_hook import ThresholdHook
from aicore.datasets import InspectionDataset
from aicore.engine import Runner
from aicore.engine.checkpoint import read_checkpoint
from aicore.errors import CheckpointError, ConfigError, DataError
from aicore.evaluation import BestF1Threshold, FixedThreshold, QuantileThreshold
from aicore.registry import DATASETS, HOOKS, METRICS, MODELS
from aicore.structures import AnomalyDataSample

RANKS = 2
QUANTILE = dict(type="aicore.QuantileThreshold", false_alarm_rate=0.25)
SCORES = [3.0, 1.0, 5.0, 2.0, 4.0, 9.0, 7.0]
LABELS = [0, 0, 0, 0, 0, 1, 1]
UNREADABLE = 1  # its number


def above(score: float) -> float:
    return float(np.nextafter(np.float32(score), np.float32(np.inf)))


def sample_of(score: float, label: int, number: int = -1) -> AnomalyDataSample:
    sample = AnomalyDataSample(gt_label=torch.tensor(label), pred_score=torch.tensor(score))
    if number == UNREADABLE:
        sample.set_metainfo({"not_inspected": "it is empty"})
        sample.pred_score = torch.tensor(1e6)
    return sample


class Judge(nn.Module):
    """Holds a threshold as an anomaly detector does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(torch.nan))

    def set_threshold(self, value: float) -> None:
        self.threshold.fill_(value)


# ---- a stand-in for the Runner ----


def runner_of(count: int = 7, model: nn.Module | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        model=Judge() if model is None else model,
        val_loop=object(),
        val_dataloader=SimpleNamespace(dataset=range(count)),
        logger=logging.getLogger("test_threshold_hook"),
    )


def validate(hook: ThresholdHook, runner: Any, samples: list[AnomalyDataSample]) -> None:
    hook.before_val_epoch(runner)
    for index in range(0, len(samples), 3):
        hook.after_val_iter(runner, index // 3, outputs=samples[index : index + 3])
    hook.after_val_epoch(runner)


def samples_of(scores, labels, unreadable: bool = False) -> list[AnomalyDataSample]:
    numbers = range(len(scores)) if unreadable else [-1] * len(scores)
    return [sample_of(*item) for item in zip(scores, labels, numbers, strict=True)]


def saved(hook: ThresholdHook, runner: Any) -> dict[str, Any]:
    checkpoint = {"meta": {}}
    hook.before_save_checkpoint(runner, checkpoint)
    return checkpoint


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "test_threshold_hook")
    return caplog


@pytest.mark.parametrize(
    ("config", "rule"),
    [(QUANTILE, QuantileThreshold(0.25)), (dict(type="aicore.BestF1Threshold"), BestF1Threshold())],
)
def test_a_validation_gives_the_model_the_rules_threshold(config, rule, log):
    hook, runner = ThresholdHook(config), runner_of()
    expected = rule(SCORES, LABELS)

    hook.before_train(runner)
    hook.before_train_epoch(runner)
    assert saved(hook, runner) == {"meta": {}}
    validate(hook, runner, samples_of(SCORES, LABELS))

    assert runner.model.threshold == expected.value
    assert saved(hook, runner) == {"meta": {"threshold": expected.as_dict()}}
    assert log.messages == [str(expected)]


def test_every_validation_begins_anew_and_training_drops_the_threshold():
    hook, runner = ThresholdHook(QUANTILE), runner_of()
    hook.before_train(runner)
    validate(hook, runner, samples_of(SCORES, LABELS))
    hook.before_train_epoch(runner)
    assert runner.model.threshold.isnan()
    assert saved(hook, runner) == {"meta": {}}

    validate(hook, runner, samples_of([score + 10 for score in SCORES], LABELS))

    assert runner.model.threshold == above(15)  # five images: the highest of k = 4.5
    assert hook._threshold.good == 5


def test_images_that_were_not_inspected_do_not_count():
    hook, runner = ThresholdHook(QUANTILE), runner_of()
    hook.before_train(runner)
    validate(hook, runner, samples_of(SCORES, LABELS, unreadable=True))

    assert hook._threshold == QuantileThreshold(0.25)(SCORES[:1] + SCORES[2:], LABELS[1:])
    assert hook._threshold.good == 4


def test_a_validation_outside_of_a_training_changes_nothing(log):
    hook, runner = ThresholdHook(QUANTILE), runner_of()
    validate(hook, runner, samples_of(SCORES, LABELS))
    assert runner.model.threshold.isnan()

    hook.before_train(runner)
    validate(hook, runner, samples_of(SCORES, LABELS))
    hook.after_train(runner)
    validate(hook, runner, samples_of([1.0] * 7, LABELS))

    assert runner.model.threshold == above(5)
    assert len(log.messages) == 1


def test_validation_images_from_which_nothing_follows():
    hook, runner = ThresholdHook(dict(type="aicore.BestF1Threshold")), runner_of()
    hook.before_train(runner)

    with pytest.raises(DataError, match="found 7 good and 0 defective"):
        validate(hook, runner, samples_of(SCORES, [0] * 7))


class Parts(InspectionDataset):
    """Validation images of which the labels are known."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = labels
        super().__init__(pipeline=[])

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{"gt_label": label} for label in self.labels]


def test_what_the_rule_lacks_is_said_before_the_training():
    hook, runner = ThresholdHook(dict(type="aicore.BestF1Threshold")), runner_of()
    runner.val_dataloader.dataset = Parts([0, 0, 0])
    with pytest.raises(DataError, match="found 3 good and 0 defective"):
        hook.before_train(runner)

    runner.val_dataloader.dataset = Parts([0, 1])
    hook.before_train(runner)
    runner.val_loop = None  # a training without a validation
    hook.before_train(runner)


def test_a_fixed_threshold_holds_from_the_beginning(log):
    hook, runner = ThresholdHook(dict(type="aicore.FixedThreshold", value=2.5)), runner_of()
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    assert runner.model.threshold == 2.5

    validate(hook, runner, samples_of(SCORES, LABELS))

    assert runner.model.threshold == 2.5
    assert saved(hook, runner)["meta"]["threshold"]["rule"] == "FixedThreshold"
    assert log.messages == ["threshold 2.5: given in the config"]


# ---- tests of a checkpoint ----


@pytest.fixture
def kept() -> dict[str, Any]:
    """The meta of a checkpoint with a threshold of 4."""
    return {"meta": {"threshold": FixedThreshold(4)([], []).as_dict(), "epoch": 1}}


def test_a_test_tells_how_the_threshold_came_about(kept, log):
    hook, runner = ThresholdHook(QUANTILE), runner_of()
    hook.after_load_checkpoint(runner, kept)
    runner.model.set_threshold(4)  # with the weights
    hook.before_test(runner)

    assert log.messages == ["threshold 4: given in the config"]
    assert runner.model.threshold == 4
    assert saved(hook, runner)["meta"]["threshold"] == kept["meta"]["threshold"]


@pytest.mark.parametrize("told", [True, False])
def test_a_test_with_a_threshold_of_another_origin(kept, told, log):
    hook, runner = ThresholdHook(QUANTILE), runner_of()
    hook.after_load_checkpoint(runner, kept if told else {"meta": {}})
    runner.model.set_threshold(5)
    hook.before_test(runner)

    assert log.messages == ["threshold 5: as the model holds it, how it came about is not known"]


def test_a_test_without_a_threshold_warns(log):
    hook, runner = ThresholdHook(QUANTILE), runner_of()
    hook.after_load_checkpoint(runner, {"meta": {}})
    hook.before_test(runner)

    (record,) = log.records
    assert record.levelname == "WARNING"
    assert "gives scores, but calls no image OK or NG" in record.getMessage()


def test_a_fixed_threshold_replaces_the_checkpoints_in_a_test(kept, log):
    hook, runner = ThresholdHook(dict(type="aicore.FixedThreshold", value=6)), runner_of()
    hook.after_load_checkpoint(runner, kept)
    runner.model.set_threshold(4)
    hook.before_test(runner)

    assert runner.model.threshold == 6
    assert log.messages == ["threshold 6: given in the config"]


def test_a_damaged_threshold_in_a_checkpoint():
    with pytest.raises(CheckpointError, match="the threshold in the checkpoint is 'high'"):
        ThresholdHook(QUANTILE).after_load_checkpoint(runner_of(), {"meta": {"threshold": "high"}})


@pytest.mark.parametrize("rule", [0.01, "aicore.QuantileThreshold", None, {"value": 3}])
def test_the_rule_has_to_be_a_config(rule):
    with pytest.raises(ConfigError, match=r"ThresholdHook\.rule = .*expected the config of a rule"):
        ThresholdHook(rule)


@pytest.mark.parametrize("stage", ["before_train", "before_test"])
def test_the_model_has_to_take_a_threshold(stage):
    with pytest.raises(ConfigError, match=r"Linear has no set_threshold\. Take the hook out"):
        getattr(ThresholdHook(QUANTILE), stage)(runner_of(model=nn.Linear(1, 1)))


# ---- with the Runner ----


@MODELS.register_module()
class JudgingModel(Judge, BaseModel):
    """The score of an image is its number times a weight, which training does not move."""

    def __init__(self) -> None:
        BaseModel.__init__(self)
        self.register_buffer("threshold", torch.tensor(torch.nan))
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs: list, data_samples: list, mode: str) -> Any:
        """Returns a loss without gradient, or the samples with their scores."""
        if mode == "loss":
            return {"loss": 0 * self.weight}
        for value, sample in zip(inputs, data_samples, strict=True):
            sample.pred_score = value * self.weight
        return data_samples


@DATASETS.register_module()
class NumbersDataset(Dataset):
    """``SCORES`` with ``LABELS``."""

    metainfo = {"classes": ("ok", "ng")}  # noqa: RUF012

    def __len__(self) -> int:
        return len(SCORES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = AnomalyDataSample(gt_label=torch.tensor(LABELS[index]))
        return {"inputs": torch.tensor(SCORES[index]), "data_samples": sample}


@METRICS.register_module()
class CountOfImages(BaseMetric):
    """How many images there were."""

    def process(self, data_batch, data_samples) -> None:
        self.results += [1 for _ in data_samples]

    def compute_metrics(self, results) -> dict[str, float]:
        return {"count": len(results)}


@pytest.fixture
def build(tmp_path):
    """A function that builds a Runner with a rule, and further settings."""

    def build_runner(rule: dict[str, Any], name: str, **settings: Any) -> Runner:
        loader = dict(
            batch_size=3,
            dataset=dict(type="aicore.NumbersDataset"),
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="pseudo_collate"),
        )
        evaluator = dict(type="aicore.Evaluator", metrics=[dict(type="aicore.CountOfImages")])
        return Runner(
            model=dict(type="aicore.JudgingModel"),
            work_dir=str(tmp_path / name),
            train_dataloader=loader,
            val_dataloader=loader,
            test_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=2),
            val_cfg={},
            test_cfg={},
            val_evaluator=evaluator,
            test_evaluator=evaluator,
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
            default_hooks=dict(
                checkpoint=dict(type="aicore.CheckpointHook", save_best="count", max_keep_ckpts=3)
            ),
            custom_hooks=[dict(type="aicore.ThresholdHook", rule=rule)],
            experiment_name=f"{tmp_path.name}-{name}",
            randomness=dict(seed=0),
            **settings,
        )

    return build_runner


def test_checkpoints_hold_the_threshold_and_a_test_judges_by_it(build, tmp_path, caplog):
    assert HOOKS.get("aicore.ThresholdHook") is ThresholdHook
    build(QUANTILE, "train").train()

    expected = QuantileThreshold(0.25)(SCORES, LABELS)
    files = sorted((tmp_path / "train").glob("*.pth"))
    assert [file.name for file in files] == ["best_count_epoch_1.pth", "epoch_1.pth", "epoch_2.pth"]
    for file in files:
        checkpoint = read_checkpoint(file)
        assert checkpoint["meta"]["threshold"] == expected.as_dict()
        assert checkpoint["state_dict"]["threshold"] == expected.value

    for rule, value in ((QUANTILE, above(5)), (dict(type="aicore.FixedThreshold", value=6), 6)):
        runner = build(rule, f"test_{value}", load_from=str(files[0]))
        runner.logger.addHandler(caplog.handler)
        caplog.clear()
        runner.test()
        runner.logger.removeHandler(caplog.handler)
        assert runner.model.threshold == value
        (sentence,) = [text for text in caplog.messages if text.startswith("threshold ")]
        assert sentence == str(expected if value == above(5) else FixedThreshold(6)([], []))


def test_a_training_that_is_resumed_keeps_it_until_it_goes_on(build, tmp_path):
    build(QUANTILE, "train").train()
    expected = QuantileThreshold(0.25)(SCORES, LABELS)

    last = str(tmp_path / "train" / "epoch_2.pth")
    done = build(QUANTILE, "done", resume=last)
    done.train()
    assert done.model.threshold == expected.value

    first = str(tmp_path / "train" / "epoch_1.pth")
    other = dict(type="aicore.BestF1Threshold")
    build(other, "on", resume=first).train()
    meta = read_checkpoint(tmp_path / "on" / "epoch_2.pth")["meta"]
    assert meta["threshold"] == BestF1Threshold()(SCORES, LABELS).as_dict()


# ---- two processes ----


def _work(rank: int, folder: Path) -> None:
    """What each of the processes runs: every other image, the last one padded by the first."""
    distributed.init_process_group(
        "gloo",
        store=distributed.FileStore(str(folder / "store"), RANKS),
        rank=rank,
        world_size=RANKS,
    )
    samples = samples_of(SCORES, LABELS, unreadable=True)
    found = {}
    for name, images in (("padded", [*samples, samples[0]]), ("uneven", samples)):
        hook, runner = ThresholdHook(QUANTILE), runner_of()
        hook.before_train(runner)
        validate(hook, runner, images[rank::RANKS])
        found[name] = (saved(hook, runner)["meta"]["threshold"], float(runner.model.threshold))
    hook, runner = ThresholdHook(dict(type="aicore.BestF1Threshold")), runner_of()
    hook.before_train(runner)
    try:
        validate(hook, runner, samples_of(SCORES, [0] * 7)[rank::RANKS])
    except DataError as error:
        found["error"] = str(error)
    torch.save(found, folder / f"{rank}.pth")
    distributed.destroy_process_group()


def test_two_processes_find_the_threshold_of_one(tmp_path):
    context = multiprocessing.get_context("fork")  # the imports take longer than all the rest
    processes = [context.Process(target=_work, args=(rank, tmp_path)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()  # one that hangs
    assert [process.exitcode for process in processes] == [0] * RANKS

    one = QuantileThreshold(0.25)(SCORES[:1] + SCORES[2:], LABELS[1:])
    for rank in range(RANKS):
        found = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        for name in ("padded", "uneven"):
            assert found[name] == (one.as_dict(), one.value)
        assert "found 7 good and 0 defective" in found["error"]
