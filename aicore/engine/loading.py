"""The data loader of every stage: seeded samples, and workers that leave signals to the run."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from aicore.datasets.base import base_datasets
from aicore.datasets.seeded import SeededBatchSampler, SeededDataset

# What a data loader takes and keeps under the same name, beside data set and samplers.
_KEPT = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "in_order",
)


class SeededLoader(DataLoader):
    """A loader of the same batches as another, whose augmentation is seeded for every sample.

    Its ``dataset`` is a :class:`SeededDataset`, its ``batch_sampler`` a
    :class:`SeededBatchSampler`.

    Args:
        loader: As MMEngine builds it, with indices; not used any more.
        seed: Of the run.
    """

    def __init__(self, loader: DataLoader, seed: int) -> None:
        super().__init__(
            SeededDataset(loader.dataset, list(base_datasets(loader.dataset))),
            batch_sampler=SeededBatchSampler(loader.batch_sampler, seed),
            worker_init_fn=partial(_init_worker, then=loader.worker_init_fn),
            **{name: getattr(loader, name) for name in _KEPT},
        )
        self._iterators: weakref.WeakSet[Any] = weakref.WeakSet()
        # Else python would ask the workers to end by a signal, which they leave to the run.
        atexit.register(_close, weakref.ref(self))

    def __iter__(self) -> Iterator[Any]:
        """Begins an epoch; :meth:`close` ends its workers, wherever it is left."""
        iterator = super().__iter__()
        self._iterators.add(iterator)
        return iterator

    def close(self) -> None:
        """Ends the workers.

        An error that left an epoch keeps its iterator, and so the workers, alive; persistent ones
        take 5 seconds each when they are left to the garbage collector.
        """
        for iterator in self._iterators if self.num_workers else ():
            iterator._shutdown_workers()  # torch has no public way
            for worker in iterator._workers:
                worker.kill()  # one that hangs in a read or a transform
        self._iterator = None


def _close(loader: weakref.ref[SeededLoader]) -> None:
    alive = loader()
    if alive is not None:
        alive.close()


def _init_worker(worker: int, then: Callable[[int], Any] | None) -> None:
    """Lets the main process decide what to do at a signal that the whole group receives.

    A worker that is still there long after has lost its main process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(300))
    if then is not None:
        then(worker)
