"""Samples whose augmentation depends on the seed, the epoch and their index, and on nothing else.

Neither the worker that prepares a sample nor what it did before plays a role: a training is the
same with any number of workers, and one that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import BatchSampler


def derive_seed(*numbers: int) -> int:
    """Returns a seed in [0, 2^32) for a tuple of whole numbers >= 0; no two give related ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_generators(seed: int) -> None:
    """Seeds the global generators of python, numpy and torch, on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators of the CPU, and puts them back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class Draw(NamedTuple):
    """One sample of an epoch, as the batch sampler hands it to the data set."""

    index: int
    seed: int
    epoch: int = 0


class SeededDataset:
    """A data set that seeds the random generators before it prepares a :class:`Draw`.

    All else (``metainfo``, ``get_data_info``, plain indices ...) is the wrapped data set's own.

    The epoch comes with the draw, so that a worker knows it whether it was started for this epoch
    or for another one, and however far ahead it works.

    Args:
        dataset: The data set, the outermost one where several are nested.
        told: Data sets, itself or those inside, whose attribute ``epoch`` is set before a sample
            is prepared.
    """

    def __init__(self, dataset: Any, told: Sequence[Any] = ()) -> None:
        self.dataset = dataset
        self.told = told

    def __getattr__(self, name: str) -> Any:
        # While it is unpickled in a worker there is no data set yet.
        if name in ("dataset", "told") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw | int) -> Any:
        """Returns the sample; with an index alone, its augmentation is not seeded."""
        if not isinstance(draw, Draw):
            return self.dataset[draw]
        for dataset in self.told:
            dataset.epoch = draw.epoch
        with seeded(draw.seed):
            return self.dataset[draw.index]


class SeededBatchSampler:
    """Gives every index of a batch sampler its seed, and can begin in the middle of an epoch.

    An index that is drawn several times in an epoch gets another seed each time. Every pass over
    it is another epoch, until :meth:`set_position` says which.

    Args:
        batch_sampler: Yields lists of indices.
        seed: Of the run.
    """

    def __init__(self, batch_sampler: BatchSampler, seed: int) -> None:
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.epoch = 0
        self.first_batch = 0

    @property
    def sampler(self) -> Any:
        """The sampler of single indices, where MMEngine's ``DistSamplerSeedHook`` looks for it."""
        return getattr(self.batch_sampler, "sampler", None)

    @property
    def batch_size(self) -> int:
        """Samples a batch; the last batch of an epoch may have less."""
        return self.batch_sampler.batch_size

    def set_seed(self, seed: int) -> None:
        """Sets the seed of a training that is resumed, of the order and of the augmentation."""
        self.seed = seed
        if hasattr(self.sampler, "seed"):
            self.sampler.seed = seed

    def set_position(self, epoch: int, first_batch: int = 0) -> None:
        """Sets where the next iteration over this sampler begins, each counted from 0."""
        self.epoch = epoch
        self.first_batch = first_batch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Returns the number of batches of a whole epoch."""
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[Draw]]:
        drawn: Counter[int] = Counter()  # also of the batches left out, as if they had been used
        for number, batch in enumerate(self.batch_sampler):
            draws = []
            for index in batch:
                if number >= self.first_batch:
                    seed = derive_seed(self.seed, self.epoch, int(index), drawn[index])
                    draws.append(Draw(index, seed, self.epoch))
                drawn[index] += 1
            if draws:
                yield draws
        self.set_position(self.epoch + 1)
