"""Mean and covariance at every position of an image, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from torch import Tensor

from aicore.errors import DataError

_POSITIONS_AT_ONCE = 256  # that are finished in float64 at a time
_POSITIONS_IN_CACHE = 64  # whose sums are read and written at a time


class GaussianStatistics:
    """Sums of x and of x·xᵀ at every position; memory does not depend on the number of images.

    The sums are taken in float32 around the mean of the first batch, so that nothing cancels, and
    finished in float64. Several processes each gather their own; :meth:`synchronise` brings them
    together. It is the :class:`aicore.engine.fitting.Learner` of PaDiM.
    """

    def __init__(self) -> None:
        self.count: Tensor | None = None
        """Images that count at each position, P; None before the first batch."""
        self.shift: Tensor | None = None
        """What the sums are taken around, P x D."""
        self.total: Tensor | None = None
        """Sum of x - shift, P x D."""
        self.scatter: Tensor | None = None
        """Sum of (x - shift)(x - shift)ᵀ, P x D x D."""

    @property
    def images(self) -> int:
        """Images gathered by this process, at the position that has most."""
        return 0 if self.count is None else int(self.count.max())

    @torch.no_grad()
    def update(self, features: Tensor, counts: Tensor | None = None) -> None:
        """Adds a batch; of several processes all make their first call together.

        Args:
            features: B x P x D, float32; B may be 0.
            counts: B x P, 1 where a position of an image counts and 0 elsewhere; None for all.
        """
        if self.shift is None:
            self._begin(features, counts)
        if not len(features):
            return
        self.count += len(features) if counts is None else counts.sum(dim=0)
        for start in range(0, len(self.shift), _POSITIONS_IN_CACHE):
            part = slice(start, start + _POSITIONS_IN_CACHE)
            x = features[:, part].transpose(0, 1) - self.shift[part].unsqueeze(1)  # p x B x D
            if counts is not None:
                x *= counts[:, part].t().unsqueeze(2)
            x = x.contiguous()
            self.total[part] += x.sum(dim=1)
            self.scatter[part].baddbmm_(x.transpose(1, 2), x)

    def _begin(self, features: Tensor, counts: Tensor | None) -> None:
        """Takes the mean of all processes' first batch as what the sums are taken around."""
        _, positions, size = features.shape
        new = features.new_zeros
        if counts is None:
            count, total = new(positions).fill_(len(features)), features.sum(dim=0)
        else:
            counts = counts.to(features.dtype)
            count, total = counts.sum(dim=0), torch.einsum("bp,bpd->pd", counts, features)
        all_reduce(count)
        all_reduce(total)
        self.shift = total / count.clamp(min=1).unsqueeze(1)
        self.count, self.total = new(positions), new(positions, size)
        self.scatter = new(positions, size, size)

    def synchronise(self) -> None:
        """Brings the sums of all processes to the first one; the others begin again at zero."""
        if get_world_size() == 1 or self.shift is None:
            return
        for sums in (self.count, self.total, self.scatter):
            all_reduce(sums)
            if get_rank() != 0:
                sums.zero_()

    def gaussian(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns count, mean and covariance of the positions from ``start`` to ``stop``.

        Returns:
            N; N x D; N x D x D, with the divisor count - 1; all float64. Where less than two images
            count, the covariance is zero.
        """
        count = self.count[start:stop].double()
        total = self.total[start:stop].double()
        scatter = self.scatter[start:stop].double()
        number = count.clamp(min=1)[:, None]
        mean = total / number
        scatter -= total.unsqueeze(2) * mean.unsqueeze(1)
        covariance = scatter / (count - 1).clamp(min=1)[:, None, None]
        covariance[count < 2] = 0
        return count, self.shift[start:stop].double() + mean, covariance

    def whitening(self, regularisation: float) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yields what a distance is computed with, some positions at a time.

        Args:
            regularisation: Added to the variances.

        Yields:
            The positions; their ``mean``, N x D; and their ``factor`` L⁻¹, N x D x D lower
            triangles, where L·Lᵀ is the regularised covariance: the Mahalanobis distance of x is
            |L⁻¹(x - mean)|. All float64. At positions where less than two images count the factor
            is zero, and so is every distance.

        Raises:
            DataError: No image was gathered, or the sums are not finite.
        """
        if not self.images:
            raise DataError("no image could be fitted: none of the training images was readable.")
        positions, size = self.shift.shape
        identity = torch.eye(size, dtype=torch.float64, device=self.shift.device)
        for start in range(0, positions, _POSITIONS_AT_ONCE):
            stop = min(start + _POSITIONS_AT_ONCE, positions)
            count, mean, covariance = self.gaussian(start, stop)
            lower, failed = torch.linalg.cholesky_ex(covariance + regularisation * identity)
            if failed.any():
                raise DataError(
                    "the statistics of the training images are not finite, no distance can be "
                    "computed: look for images with values that are not numbers, or fit in float32."
                )
            inverse = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)
            inverse[count < 2] = 0
            yield slice(start, stop), mean, inverse

    def state_dict(self) -> dict[str, Any]:
        """Returns the sums; empty before the first batch."""
        if self.shift is None:
            return {}
        return {name: getattr(self, name) for name in ("count", "shift", "total", "scatter")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from saved sums, which the first process takes; see :meth:`synchronise`."""
        for name, value in state.items():
            keeps = name == "shift" or get_rank() == 0
            setattr(self, name, value.clone() if keeps else torch.zeros_like(value))
