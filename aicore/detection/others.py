"""The other images that a mosaic or a mixup needs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from aicore.datasets.transforms.arguments import wrong
from aicore.detection.transforms import BOX_KEYS
from aicore.errors import ConfigError, DataError, ImageError
from aicore.registry import TRANSFORMS

_KEYS = ("img", *BOX_KEYS)
_TRIES = 10


@TRANSFORMS.register_module()
class LoadOthers(BaseTransform):
    """Gives the steps behind it other images of the data set, drawn at random and loaded.

    Without a cache every other image is read anew, and a sample follows from its seed alone.

    With ``cache_size`` the images that were loaded last are kept, and once there are so many the
    others are drawn from them: only a record's own image is read. Every image still comes equally
    often, and none twice in one sample, but neighbouring samples share images; and a sample
    depends on what its worker loaded before it, so that a training that was interrupted does not
    go on bit by bit as if it had not been, and another number of workers gives other samples. With
    a :class:`aicore.datasets.ClassBalancedSampler` the others are balanced as the sampler's own.
    Each worker holds a cache of its own: 40 images of 640 x 480 pixels in colour take 37 MB.

    Required keys: those that ``load`` sets. ``draw_another``, a callable that returns the record of
    an image drawn at random, is taken out; without it the record stays as it is. Set key:
    ``others``, an endless iterator over loaded records.

    Args:
        load: The steps that load image and boxes, the same that stand before this one.
        cache_size: How many loaded images are kept; 0: none.

    Raises:
        ConfigError: ``cache_size`` is not a whole number of at least 0, or ``load`` gives images
            with other channels than the record's.
        DataError: Ten others in a row cannot be read.
    """

    def __init__(self, load: Sequence[Mapping[str, Any]], cache_size: int = 0) -> None:
        if type(cache_size) is not int or cache_size < 0:
            raise wrong("LoadOthers", "cache_size", cache_size, "a whole number of images, 0: none")
        self.load = Compose(load)
        self.cache_size = cache_size
        self._cache: deque[dict[str, Any]] = deque(maxlen=cache_size)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sets ``others`` in the record."""
        draw = results.pop("draw_another", None)
        if draw is None:
            self._cache.clear()  # mosaic is over
            return results
        ready: list[dict[str, Any]] = []
        if self.cache_size:
            if len(self._cache) == self.cache_size:
                ready = [self._cache[index] for index in np.random.permutation(self.cache_size)]
            # A copy, as a step of the user's own may change its image in place.
            self._cache.append(
                {**{key: results[key] for key in _KEYS}, "img": results["img"].copy()}
            )
        results["others"] = self._others(draw, ready, results["img"].ndim)
        return results

    def _others(
        self, draw: Callable[[], dict[str, Any]], ready: list[dict[str, Any]], dimensions: int
    ) -> Iterator[dict[str, Any]]:
        yield from ready
        while True:
            other = self._load(draw)
            if other["img"].ndim != dimensions:
                raise ConfigError(
                    "aicore.LoadOthers: load gives images with other channels than the steps "
                    "before it: use the same steps with the same in_channels in both places."
                )
            self._cache.append(other)
            yield other

    def _load(self, draw: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        for _ in range(_TRIES):
            try:
                other = self.load(draw())
            except ImageError as error:  # listed as a bad image when its own turn comes
                reason = error
            else:
                return {key: other[key] for key in _KEYS}
        raise DataError(
            f"{_TRIES} images drawn for a mosaic cannot be read. The last one: {reason} Run "
            "tools/data/check_dataset.py on the config for the list of what is wrong."
        ) from reason

    def __repr__(self) -> str:
        return f"LoadOthers(load={self.load!r}, cache_size={self.cache_size})"
