from __future__ import annotations

from collections import Counter

import pytest
from mmengine.dataset import RepeatDataset
from torch.utils.data import Dataset

from aicore.datasets import ClassBalancedSampler, InspectionDataset
from aicore.errors import ConfigError
from aicore.registry import DATA_SAMPLERS

# Of ten images all show class 0, two show class 1 as well, one class 2.
LABELS = [[0]] * 7 + [[0, 1]] * 2 + [[0, 2]]


class Labelled(InspectionDataset):
    """Records that are their labels."""

    METAINFO = {"classes": ("a", "b", "c")}  # noqa: RUF012

    def __init__(self, labels: list[list[int]]) -> None:
        self.labels = labels
        super().__init__(serialize_data=False)

    def load_data_list(self) -> list[dict]:
        return [{"img_path": str(i), "labels": labels} for i, labels in enumerate(self.labels)]

    def labels_of(self, record: dict) -> list[int]:
        return record["labels"]


@pytest.fixture
def dataset() -> Labelled:
    return Labelled(LABELS)


def drawn(sampler: ClassBalancedSampler, epochs: int) -> Counter[int]:
    counts: Counter[int] = Counter()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        counts.update(sampler)
    return counts


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_shares_follow_the_rarest_class(dataset, balance):
    sampler = ClassBalancedSampler(dataset, balance, seed=0)

    counts = drawn(sampler, 2000)

    weights = [(10 / n) ** balance for n in [10] * 7 + [2] * 2 + [1]]
    for index, weight in enumerate(weights):
        expected = 20000 * weight / sum(weights)
        assert counts[index] == pytest.approx(expected, rel=0.1)


def test_with_full_balance_every_rare_class_has_an_equal_share(dataset):
    counts = drawn(ClassBalancedSampler(dataset, 1.0, seed=0), 400)

    assert counts[7] + counts[8] == pytest.approx(counts[9], rel=0.05)


def test_an_epoch_keeps_its_length_and_draws_by_shares(dataset):
    sampler = ClassBalancedSampler(dataset, 1.0, seed=3)
    share = sampler.weights / sampler.weights.sum() * len(dataset)

    for epoch in range(20):
        sampler.set_epoch(epoch)
        counts = Counter(sampler)
        assert counts.total() == len(sampler) == 10
        for index, expected in enumerate(share.tolist()):
            assert int(expected) <= counts[index] <= int(expected) + 1


def test_without_balance_every_image_comes_once(dataset):
    assert sorted(ClassBalancedSampler(dataset, 0.0, seed=0)) == list(range(10))


def test_the_draw_follows_from_seed_and_epoch(dataset):
    first, second = (ClassBalancedSampler(dataset, 0.5, seed=5) for _ in range(2))
    other = ClassBalancedSampler(dataset, 0.5, seed=6)

    assert list(first) == list(second)
    assert list(first) == list(first)
    assert list(first) != list(other)
    second.set_epoch(1)
    assert list(first) != list(second)


def test_processes_share_an_epoch(dataset, monkeypatch):
    whole = list(ClassBalancedSampler(dataset, 1.0, seed=0))
    parts = []
    for rank in range(2):
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, 2))
        parts.append(list(ClassBalancedSampler(dataset, 1.0, seed=0)))

    assert [len(part) for part in parts] == [5, 5]
    assert [index for pair in zip(*parts, strict=True) for index in pair] == whole


def test_repeated_data_sets(dataset):
    sampler = ClassBalancedSampler(RepeatDataset(dataset, 3), 1.0, seed=0)

    counts = drawn(sampler, 100)

    assert len(sampler) == 30
    assert max(counts) >= 20  # repetitions are drawn too


def test_images_without_any_label_count_as_common(dataset):
    sampler = ClassBalancedSampler(Labelled([[], [], [0]]), 1.0, seed=0)

    assert sampler.weights.tolist() == [1, 1, 3]


def test_it_is_built_by_its_name(dataset):
    settings = dict(type="aicore.ClassBalancedSampler", balance=1.0)

    sampler = DATA_SAMPLERS.build(settings, default_args=dict(dataset=dataset, seed=1))

    assert isinstance(sampler, ClassBalancedSampler)
    assert sampler.seed == 1


@pytest.mark.parametrize("balance", [-0.1, 1.5, "much"])
def test_a_balance_outside_its_range(dataset, balance):
    with pytest.raises(ConfigError, match=r"balance is .*; expected a number in \[0, 1\]"):
        ClassBalancedSampler(dataset, balance, seed=0)


def test_a_data_set_that_tells_no_labels():
    class Plain(Dataset):
        def __len__(self) -> int:
            return 3

    with pytest.raises(ConfigError, match="Plain does not tell the labels"):
        ClassBalancedSampler(Plain(), 0.5, seed=0)
