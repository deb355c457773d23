from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader

from aicore.datasets.seeded import (
    Draw,
    SeededBatchSampler,
    SeededDataset,
    derive_seed,
    seed_generators,
    seeded,
)


class Noise:
    """Every sample is its index and three random numbers, one of each generator."""

    def __init__(self) -> None:
        self.metainfo = {"classes": ("a",)}

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> list[float]:
        return [index, random.random(), np.random.rand(), float(torch.rand(()))]


class Order:
    """Indices 0 to 9 in an order that the seed and the epoch give, as MMEngine's sampler does."""

    def __init__(self) -> None:
        self.seed, self.epoch = 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 10

    def __iter__(self):
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(10))


def batches(workers: int, epoch: int = 0, first: int = 0, seed: int = 0) -> list:
    sampler = SeededBatchSampler(BatchSampler(Order(), 3, drop_last=False), seed)
    sampler.set_position(epoch, first)
    loader = DataLoader(
        SeededDataset(Noise()),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        persistent_workers=workers > 0,
    )
    return list(loader)


def test_samples_do_not_depend_on_the_workers():
    assert batches(0) == batches(1) == batches(2)


def test_an_epoch_taken_up_in_the_middle_goes_on_with_the_same_samples():
    assert batches(0, epoch=2, first=2) == batches(2, epoch=2)[2:]


def test_each_epoch_and_each_seed_gives_other_samples():
    numbers = [
        sample[1]
        for epoch, seed in ((0, 0), (1, 0), (0, 1))
        for batch in batches(0, epoch, seed=seed)
        for sample in batch
    ]
    assert len(set(numbers)) == 30


def test_persistent_workers_are_told_of_the_next_epoch():
    loader = DataLoader(
        SeededDataset(Noise()),
        batch_sampler=SeededBatchSampler(BatchSampler(Order(), 5, drop_last=False), 0),
        num_workers=1,
        collate_fn=list,
        persistent_workers=True,
    )

    passes = [list(loader), list(loader)]

    assert passes == [batches_of(5, 0), batches_of(5, 1)]


def batches_of(size: int, epoch: int) -> list:
    sampler = SeededBatchSampler(BatchSampler(Order(), size, drop_last=False), 0)
    sampler.set_position(epoch)
    return [[SeededDataset(Noise())[draw] for draw in batch] for batch in sampler]


def test_an_index_drawn_twice_is_augmented_in_two_ways():
    sampler = SeededBatchSampler([[4, 4], [4]], seed=0)

    first, second = [draw for batch in sampler for draw in batch][:2]

    assert first.index == second.index == 4
    assert first.seed != second.seed


def test_the_second_draw_is_the_same_after_a_start_in_the_middle():
    whole = list(SeededBatchSampler([[4, 4], [4, 5]], seed=0))
    sampler = SeededBatchSampler([[4, 4], [4, 5]], seed=0)
    sampler.set_position(0, first_batch=1)

    assert list(sampler) == whole[1:]


def test_a_resumed_seed_holds_for_the_order_and_for_the_augmentation():
    sampler = SeededBatchSampler(BatchSampler(Order(), 3, drop_last=False), 0)
    sampler.set_seed(7)

    other = SeededBatchSampler(BatchSampler(Order(), 3, drop_last=False), 7)
    other.sampler.seed = 7
    assert list(sampler) == list(other)


def test_the_number_of_batches_is_that_of_a_whole_epoch():
    sampler = SeededBatchSampler(BatchSampler(Order(), 3, drop_last=False), 0)
    sampler.set_position(0, first_batch=2)

    assert len(sampler) == 4
    assert len(list(sampler)) == 2


def test_the_generators_of_the_main_process_stay_as_they_are():
    seed_generators(3)
    expected = Noise()[0]
    seed_generators(3)

    SeededDataset(Noise())[Draw(1, 99)]

    assert Noise()[0] == expected


def test_they_do_so_if_a_sample_fails():
    seed_generators(3)
    expected = Noise()[0]
    seed_generators(3)

    with pytest.raises(ValueError, match="broken"), seeded(99):
        random.random()
        raise ValueError("broken")

    assert Noise()[0] == expected


def test_all_else_is_the_data_sets_own():
    dataset = SeededDataset(Noise())

    assert dataset.metainfo == {"classes": ("a",)}
    assert len(dataset) == 10
    assert dataset[3][0] == 3
    assert not hasattr(dataset, "unknown")
    assert pickle.loads(pickle.dumps(dataset)).metainfo == dataset.metainfo


def test_seeds_of_neighbours_differ_in_every_place():
    seeds = {derive_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**32 for seed in seeds)


class Told(Noise):
    """A data set that says for which epoch it prepares a sample."""

    epoch = 0

    def __getitem__(self, index: int) -> int:
        return self.epoch


@pytest.mark.parametrize("workers", [0, 2])
def test_data_sets_are_told_the_epoch_of_their_samples(workers):
    dataset = Told()
    sampler = SeededBatchSampler(BatchSampler(Order(), 3, drop_last=False), 0)
    loader = DataLoader(
        SeededDataset(dataset, [dataset]),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        persistent_workers=workers > 0,
    )
    for epoch in (4, 5):
        sampler.set_position(epoch)
        assert {seen for batch in loader for seen in batch} == {epoch}
