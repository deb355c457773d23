from __future__ import annotations

from types import SimpleNamespace

import pytest

from aicore.engine.hooks import EarlyStoppingHook
from aicore.errors import ConfigError


def runner() -> SimpleNamespace:
    return SimpleNamespace(
        train_loop=SimpleNamespace(stop_training=False),
        logger=SimpleNamespace(info=lambda text: None),
        _resume=True,
    )


def hook(**options: object) -> EarlyStoppingHook:
    return EarlyStoppingHook(monitor="top1", rule="greater", min_delta=0, **options)


def epochs_until_stop(scores: list[float], resume_after: int | None, **options: object) -> int:
    """Returns after how many epochs a training stops, resumed by another hook in between."""
    current, run = hook(**options), runner()
    current.before_train(run)
    for epoch, score in enumerate(scores, start=1):
        if run.train_loop.stop_training:
            return epoch - 1
        current.after_val_epoch(run, {"top1": score})
        if epoch == resume_after:
            checkpoint: dict = {}
            current.before_save_checkpoint(run, checkpoint)
            current, run = hook(**options), runner()
            current.after_load_checkpoint(run, checkpoint)
            current.before_train(run)
    return len(scores)


SCORES = [0.5, 0.7, 0.6, 0.65, 0.69, 0.2, 0.1]


@pytest.mark.parametrize("resume_after", [None, 1, 2, 3, 4, 5])
def test_a_resume_changes_nothing(resume_after):
    assert epochs_until_stop(SCORES, resume_after, patience=3) == 5


@pytest.mark.parametrize("resume_after", [None, 1, 2])
def test_a_threshold_that_was_reached_holds(resume_after):
    assert epochs_until_stop(SCORES, resume_after, patience=9, stopping_threshold=0.65) == 2


def test_fine_tuning_begins_anew():
    run, fresh = runner(), hook(patience=3)
    run._resume = False

    fresh.after_load_checkpoint(run, {"early_stopping": dict(wait_count=3, best_score=0.9)})
    fresh.before_train(run)

    assert not run.train_loop.stop_training


def test_a_patience_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"patience = 0: expected at least 1"):
        hook(patience=0)
