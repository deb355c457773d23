"""Drawing images with rare classes more often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dataset import DefaultSampler

from aicore.datasets.base import base_datasets
from aicore.errors import ConfigError
from aicore.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(DefaultSampler):
    """Draws images with rare classes more often; an epoch keeps its length.

    An image counts ``(images / images with its rarest class) ** balance`` times as much as one
    whose class every image has. From epoch to epoch other images are left out; within one, an
    image comes as often as its share says, rounded down or up. Works for every task whose data
    sets tell the labels of a record.
    The idea is that of repeat factor sampling: Gupta et al., LVIS, CVPR 2019.

    Args:
        dataset: An :class:`aicore.datasets.InspectionDataset`, or a wrapper around several.
        balance: 0 draws all images alike, 1 every class in equal shares.
        seed: Of the drawing, the same in all processes.
        **kwargs: Further arguments of :class:`mmengine.dataset.DefaultSampler`.

    Raises:
        ConfigError: ``balance`` is not in [0, 1], or the data set tells no labels.
        DataError: An annotation cannot be read.
    """

    def __init__(
        self, dataset: Any, balance: float = 0.5, seed: int | None = None, **kwargs: Any
    ) -> None:
        if not isinstance(balance, int | float) or not 0 <= balance <= 1:
            raise ConfigError(
                f"aicore.ClassBalancedSampler: balance is {balance!r}; expected a number in [0, 1]."
            )
        super().__init__(dataset, shuffle=True, seed=seed, **kwargs)
        self.weights = _weights(dataset, balance)
        """How often an image is drawn in relation to the others, float64, one for each index."""

    def __iter__(self) -> Iterator[int]:
        """Yields the indices of this process."""
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        # Systematic sampling over a random order: equal steps through the summed-up weights.
        order = torch.randperm(len(self.weights), generator=generator)
        reached = self.weights[order].cumsum(0)
        start = torch.rand(1, generator=generator, dtype=torch.float64)
        steps = (torch.arange(self.total_size) + start) * reached[-1] / self.total_size
        drawn = order[torch.searchsorted(reached, steps).clamp(max=len(order) - 1)]
        drawn = drawn[torch.randperm(self.total_size, generator=generator)]
        return iter(drawn[self.rank : self.total_size : self.world_size].tolist())


def _weights(dataset: Any, balance: float) -> torch.Tensor:
    labels = [
        set(part.labels_of(part.get_data_info(index)))
        for part in base_datasets(dataset)
        for index in range(len(part))
    ]
    if not labels or len(dataset) % len(labels):
        raise ConfigError(
            f"aicore.ClassBalancedSampler: {type(dataset).__name__} does not tell the labels of "
            "its images. Expected a data set that inherits from aicore.datasets.InspectionDataset."
        )
    images_of = Counter(label for found in labels for label in found)
    fewest = [min((images_of[label] for label in found), default=len(labels)) for found in labels]
    weights = (len(labels) / torch.tensor(fewest, dtype=torch.float64)) ** balance
    return weights.repeat(len(dataset) // len(labels))  # wrappers such as RepeatDataset
