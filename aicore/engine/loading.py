"""The data loader of every stage: seeded samples, and workers that leave signals to the run."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any
from weakref import WeakSet

from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from aicore.datasets.base import base_datasets
from aicore.datasets.seeded import SeededBatchSampler, SeededDataset

# What a data loader takes and keeps under the same name, beside data set and samplers.
_KEPT = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
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
        self._iterators: WeakSet[Any] = WeakSet()
        self._workers: WeakSet[BaseProcess] = WeakSet()
        context = loader.multiprocessing_context
        super().__init__(
            SeededDataset(loader.dataset, list(base_datasets(loader.dataset))),
            batch_sampler=SeededBatchSampler(loader.batch_sampler, seed),
            worker_init_fn=partial(_init_worker, then=loader.worker_init_fn),
            multiprocessing_context=(
                _worker_context(context, self._workers) if loader.num_workers else None
            ),
            **{name: getattr(loader, name) for name in _KEPT},
        )
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
        for iterator in list(self._iterators) if self.num_workers else ():
            iterator._shutdown_workers()  # torch has no public way
        # Those that hang in a read or a transform, or whose iterator could not be completed.
        for worker in list(self._workers):
            with suppress(RuntimeError):  # torch's, that a worker was killed
                worker.kill()
                worker.join()
        self._iterator = None


class _BatchQueue(Queue):
    """A queue that sends the error in place of a batch that cannot be sent.

    Python's own prints it, and the receiver waits for ever: where shared memory is full, say.
    """

    def _on_queue_feeder_error(self, error: Exception, item: tuple[int, Any] | bytes) -> None:
        if isinstance(item, tuple):  # not yet turned into the bytes that nobody may receive
            self.put((item[0], ExceptionWrapper(where="in a data worker that sent a batch")))


def _worker_context(given: BaseContext | None, workers: WeakSet[BaseProcess]) -> BaseContext:
    """Returns a context that starts processes as ``given`` does.

    Its queues are :class:`_BatchQueue`, and each process is added to ``workers``.
    """

    class Context(type(given or multiprocessing.get_context())):
        def Queue(self, maxsize: int = 0) -> _BatchQueue:  # noqa: N802
            return _BatchQueue(maxsize, ctx=self)

        def Process(self, *args: Any, **kwargs: Any) -> BaseProcess:  # noqa: N802
            process = super().Process(*args, **kwargs)
            workers.add(process)
            return process

    return Context()


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
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(300))
    if then is not None:
        then(worker)
