from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time

import pytest
import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader, Dataset, IterableDataset

from aicore.datasets.seeded import SeededBatchSampler, SeededDataset
from aicore.engine import Runner
from aicore.engine.loading import SeededLoader


class Numbers(Dataset):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(torch.rand(()))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(7))


def config(**settings: object) -> dict:
    sampler = dict(type=DefaultSampler, shuffle=True)
    return dict(dataset=Numbers(), sampler=sampler, batch_size=3, num_workers=0, **settings)


def test_the_batches_are_those_of_mmengine():
    loader = Runner.build_dataloader(config(), seed=3)
    plain = Runner.__mro__[1].build_dataloader(config(), seed=3)

    assert indices_of(loader) == indices_of(plain)


def indices_of(loader: DataLoader) -> list[list[int]]:
    """Returns the indices of each batch; MMEngine's collation gives one list for each field."""
    return [[int(index) for index in batch[0]] for batch in loader]


@pytest.mark.parametrize("drop_last", [True, False])
def test_settings_of_the_loader_are_kept(drop_last):
    loader = Runner.build_dataloader(config(drop_last=drop_last, pin_memory=False), seed=3)

    assert isinstance(loader, SeededLoader)
    assert isinstance(loader.dataset, SeededDataset)
    assert isinstance(loader.batch_sampler, SeededBatchSampler)
    assert len(loader) == len(list(loader)) == (2 if drop_last else 3)


def test_a_stream_has_no_indices_and_stays_as_it_is():
    loader = DataLoader(Stream(), batch_size=3)

    assert Runner.build_dataloader(loader, seed=3) is loader


def test_closing_ends_persistent_workers_at_once():
    plain = DataLoader(Numbers(), batch_size=3, num_workers=1, persistent_workers=True)
    loader = SeededLoader(plain, seed=0)
    list(loader)
    workers = loader._iterator._workers

    loader.close()

    assert not any(worker.is_alive() for worker in workers)


def test_a_process_with_open_workers_ends_at_once():
    script = """
import torch
from torch.utils.data import DataLoader
from aicore.engine.loading import SeededLoader

numbers = torch.utils.data.TensorDataset(torch.arange(7))
plain = DataLoader(numbers, batch_size=3, num_workers=1, persistent_workers=True)
loader = SeededLoader(plain, seed=0)
list(loader)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=100)  # of 300 it would wait


class Broken(Numbers):
    def __getitem__(self, index: int) -> tuple[int, float]:
        if index == 4:
            raise ValueError("a bug")
        return super().__getitem__(index)


class Endless(Numbers):
    def __getitem__(self, index: int) -> tuple[int, float]:
        while True:
            time.sleep(1)


@pytest.mark.parametrize("persistent", [True, False])
def test_closing_ends_the_workers_of_an_epoch_that_an_error_has_left(persistent):
    plain = DataLoader(Broken(), batch_size=3, num_workers=2, persistent_workers=persistent)
    loader = SeededLoader(plain, seed=0)
    with pytest.raises(ValueError, match="a bug") as caught:
        list(loader)
    assert len(multiprocessing.active_children()) == 2

    loader.close()

    assert not multiprocessing.active_children()
    assert "a bug" in str(caught.value)  # which holds the frames, and so the iterator


def test_a_worker_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)  # seconds
    loader = SeededLoader(DataLoader(Endless(), num_workers=1), seed=0)
    iterator = iter(loader)

    loader.close()

    assert not multiprocessing.active_children()
    del iterator


class Unsendable(Numbers):
    def __getitem__(self, index: int) -> object:
        return threading.Lock() if index == 4 else index


def test_a_batch_that_cannot_be_sent_is_an_error_of_the_run():
    plain = DataLoader(
        Unsendable(), batch_size=1, num_workers=2, collate_fn=list, timeout=30
    )  # seconds; else it would wait for ever
    loader = SeededLoader(plain, seed=0)

    with pytest.raises(TypeError, match=r"(?s)in a data worker that sent a batch.*cannot pickle"):
        list(loader)
    loader.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_way_in_which_workers_start_is_kept(method):
    plain = DataLoader(Numbers(), num_workers=1, multiprocessing_context=method)

    loader = SeededLoader(plain, seed=0)

    assert loader.multiprocessing_context.get_start_method() == method
    if method == "fork":
        assert len(list(loader)) == 7
        loader.close()
