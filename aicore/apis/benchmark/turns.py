"""Times of several pieces of work that take turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tqdm import tqdm

from aicore.apis.benchmark.variant import synchronize

_WARM_UP = 3


def measure_in_turns(
    works: Sequence[Callable[[], object]], rounds: int, warm_up: int = _WARM_UP
) -> list[list[float]]:
    """Returns the seconds of each piece of work in each round.

    In a round each has its turn, so that what else the machine does meets all alike.

    Args:
        works: What to time.
        rounds: How often.
        warm_up: Rounds before those that count.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for number in tqdm(range(warm_up + rounds), "rounds", leave=False, disable=None):
        for work, found in zip(works, seconds, strict=True):
            synchronize()
            began = time.perf_counter()
            work()
            synchronize()
            if number >= warm_up:
                found.append(time.perf_counter() - began)
    return seconds
