from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from aicore.engine.hooks import SummaryHook


def summary(caplog, **info) -> list[str]:
    runner = SimpleNamespace(
        message_hub=SimpleNamespace(runtime_info=info), logger=logging.getLogger("test_summary")
    )
    with caplog.at_level(logging.INFO, "test_summary"):
        SummaryHook(monitor="accuracy/top1").after_train(runner)
    return caplog.messages


def test_the_best_result_and_where_it_lies(caplog):
    lines = summary(caplog, best_score=98.76543, best_ckpt="w/best.pth", last_ckpt="w/epoch_3.pth")

    assert lines == [
        "Best accuracy/top1: 98.7654, checkpoint: w/best.pth",
        "Last checkpoint: w/epoch_3.pth",
    ]


@pytest.mark.parametrize(
    ("info", "lines"), [({}, []), ({"last_ckpt": "a.pth"}, ["Last checkpoint: a.pth"])]
)
def test_without_a_validation_there_is_no_best(caplog, info, lines):
    assert summary(caplog, **info) == lines
