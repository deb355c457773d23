"""PaDiM: how far the features of each position are from those of good parts.

Source: Defard et al., PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and
Localization, 2020. The semi-orthogonal reduction: Kim et al., Semi-orthogonal Embedding for
Efficient Unsupervised Anomaly Segmentation, 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from aicore.anomaly.folding import fold_batch_norms
from aicore.errors import ConfigError
from aicore.registry import MODELS

REDUCTIONS = ("random", "semi_orthogonal", None)
_SMALLEST_SIDE = 32  # pixels: the smoothing kernel has to fit in, reflected


@MODELS.register_module()
class PaDiM(nn.Module):
    """Features, embedding, distance map, smoothed map, score: the whole of PaDiM but its fit.

    Each position of the largest feature map has a Gaussian, whose mean and whitening factor come
    from :meth:`set_gaussian`. The distance is Mahalanobis'.

    Args:
        backbone: Images N x C x H x W to feature maps, the largest first. It stays in evaluation
            mode, has no gradients, and its batch norms become part of its convolutions.
        image_size: Height and width of the images in pixels, at least 32 each.
        num_features: Size of the embedding; at most what the feature maps have together.
        reduction: How the embedding is made of all channels: ``random``, a seeded choice of them,
            as published; ``semi_orthogonal``, a seeded projection; None: all of them.
        seed: Of the reduction.
        sigma: Standard deviation in pixels of the Gaussian that smooths the map.
        half: Whether the whitening factors are kept in float16, at half the memory;
            :attr:`half_error` tells what it costs.

    Raises:
        ConfigError: An argument is outside its values.
    """

    def __init__(
        self,
        backbone: nn.Module,
        image_size: Sequence[int],
        num_features: int = 100,
        reduction: str | None = "random",
        seed: int = 0,
        sigma: float = 4.0,
        half: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = _check_size(image_size)
        images = torch.randn(
            1,
            _input_channels(backbone),
            *self.image_size,
            generator=torch.Generator().manual_seed(0),
        )
        self.backbone = fold_batch_norms(backbone.eval().requires_grad_(False), images)
        shapes = [feature.shape for feature in self.backbone(images)]
        self.channels = [shape[1] for shape in shapes]
        """Channels of each feature map."""
        self.grid: tuple[int, int] = tuple(shapes[0][2:])
        """Rows and columns of positions."""
        self.reduction = reduction
        total = sum(self.channels)
        if reduction is None:
            num_features = total
        _check_reduction(reduction, num_features, total, sigma)
        generator = torch.Generator().manual_seed(seed)
        if reduction == "random":
            chosen = torch.randperm(total, generator=generator)[:num_features].sort().values
            self.register_buffer("chosen", chosen)
            self.register_load_state_dict_post_hook(lambda *_: self._divide_chosen())
            self._divide_chosen()
        elif reduction == "semi_orthogonal":
            drawn = torch.randn(total, num_features, generator=generator)
            self.register_buffer("projection", torch.linalg.qr(drawn).Q.t().contiguous())
        self.register_buffer("reduction_seed", torch.tensor(seed))
        positions = self.grid[0] * self.grid[1]
        factor_type = torch.float16 if half else torch.float32
        self.register_buffer("count", torch.zeros(positions))
        self.register_buffer("mean", torch.zeros(positions, num_features))
        # Takes no memory before it is written to: in a fit that is its end.
        self.register_buffer(
            "factor", torch.empty(positions, num_features, num_features, dtype=factor_type)
        )
        self.register_buffer("half_error", torch.tensor(0.0))
        """Largest relative error of a distance that keeping the factors in float16 makes."""
        for name, cells, side in zip(("down", "across"), self.grid, self.image_size, strict=True):
            self.register_buffer(name, _growth(cells, side, sigma), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> PaDiM:
        """Stays in evaluation mode: the features are those of a fixed network."""
        return super().train(False)

    @property
    def is_fitted(self) -> bool:
        """Whether :meth:`set_gaussian` has been called, or a fitted state been loaded."""
        return bool(self.count.any())

    # ---- from images to the embedding ----

    def embed(self, images: Tensor) -> Tensor:
        """Returns the embedding of each position.

        Args:
            images: N x C x H x W, normalised as the backbone expects.

        Returns:
            N x P x D, float32; P = rows x columns of :attr:`grid`.
        """
        features = self.backbone(images)
        parts = self._reduce(features)
        rows, columns = self.grid
        # An embedding lies in one piece, as the maps grow and as the distances read it.
        pieces = [part.float().contiguous(memory_format=torch.channels_last) for part in parts]
        grown = [F.interpolate(piece, size=(rows, columns)) for piece in pieces]
        joined = sum(grown) if self.reduction == "semi_orthogonal" else torch.cat(grown, dim=1)
        return joined.flatten(2).transpose(1, 2)

    def _reduce(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Reduces each map at its own size, which equals reducing all of them at the largest."""
        if self.reduction is None:
            return list(features)
        if self.reduction == "random":
            return [
                feature[:, places]
                for feature, places in zip(features, self._chosen_of_maps, strict=True)
            ]
        parts = self.projection.split(self.channels, dim=1)
        return [
            F.conv2d(feature, part[:, :, None, None].to(feature.dtype))
            for feature, part in zip(features, parts, strict=True)
        ]

    def _divide_chosen(self) -> None:
        """Notes which channels of each map are chosen: by construction, or by what was loaded."""
        self._chosen_of_maps, first = [], 0
        for channels in self.channels:
            inside = (self.chosen >= first) & (self.chosen < first + channels)
            self._chosen_of_maps.append((self.chosen[inside] - first).tolist())
            first += channels

    # ---- the Gaussians ----

    @torch.no_grad()
    def set_gaussian(self, count: Tensor, parts: Iterable[tuple[slice, Tensor, Tensor]]) -> None:
        """Takes the Gaussians, position by position.

        Args:
            count: Images that each position was fitted on, P.
            parts: What :meth:`aicore.anomaly.statistics.GaussianStatistics.whitening` yields:
                positions, their means and their factors.
        """
        self.half_error.zero_()
        for positions, mean, factor in parts:
            self.mean[positions] = mean.to(self.mean)
            self.factor[positions] = factor.to(self.factor)
            if self.factor.dtype == torch.float16:
                error = _distance_error(factor.float(), self.factor[positions].float())
                self.half_error.copy_(torch.maximum(self.half_error, error))
        self.count.copy_(count)

    def distances(self, embedding: Tensor) -> Tensor:
        """Returns the Mahalanobis distance at each position.

        Args:
            embedding: N x P x D.

        Returns:
            N x rows x columns, 0 or more.
        """
        difference = (embedding - self.mean).transpose(0, 1)  # P x N x D
        whitened = torch.bmm(difference, self.factor.to(difference.dtype).transpose(1, 2))
        return torch.linalg.vector_norm(whitened, dim=2).t().unflatten(1, self.grid)

    # ---- from images to maps and scores ----

    def forward(self, images: Tensor, roi: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the score and the map of each image.

        Args:
            images: N x C x H x W, normalised as the backbone expects.
            roi: N x 1 x H x W, 1 where pixels count and 0 elsewhere; None for all.

        Returns:
            Scores, N, the map's largest value; and maps, N x H x W, smoothed distances, 0 where
            pixels do not count.
        """
        return self.judge(self.embed(images), roi)

    def judge(self, embedding: Tensor, roi: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, from the embedding, N x P x D."""
        distances = self.distances(embedding)
        if roi is None:
            maps = self._grow(distances)
        else:
            inside = self.positions_inside(roi).to(distances.dtype)
            # What lies outside takes no part in the mean: neither as a distance, nor as a zero.
            maps = self._grow(distances * inside) / self._grow(inside).clamp(min=1e-6)
            maps = maps * roi.squeeze(1)
        return maps.amax(dim=(1, 2)), maps

    def positions_inside(self, roi: Tensor) -> Tensor:
        """Returns the positions of which half the area or more counts.

        Args:
            roi: N x 1 x H x W, 0 or 1.

        Returns:
            N x rows x columns, bool.
        """
        return F.interpolate(roi.float(), size=self.grid, mode="area").squeeze(1) >= 0.5

    def _grow(self, maps: Tensor) -> Tensor:
        """Returns maps, N x rows x columns, in the size of the images, smoothed."""
        return self.down.to(maps.dtype) @ maps @ self.across.to(maps.dtype).t()


def _check_size(image_size: Sequence[int]) -> tuple[int, int]:
    sides = tuple(image_size) if isinstance(image_size, Sequence) else ()
    if len(sides) != 2 or not all(type(s) is int and s >= _SMALLEST_SIDE for s in sides):
        raise ConfigError(
            f"PaDiM.image_size = {image_size!r}: expected (height, width) in pixels, each at least "
            f"{_SMALLEST_SIDE}."
        )
    return sides


def _check_reduction(reduction: str | None, num_features: int, total: int, sigma: float) -> None:
    if reduction not in REDUCTIONS:
        raise ConfigError(
            f"PaDiM.reduction = {reduction!r}: expected 'random', 'semi_orthogonal' or None."
        )
    if type(num_features) is not int or not 0 < num_features <= total:
        raise ConfigError(
            f"PaDiM.num_features = {num_features!r}: expected a whole number from 1 to {total}, "
            "the channels that the backbone's feature maps have together."
        )
    if not 0 <= sigma <= 7:
        raise ConfigError(f"PaDiM.sigma = {sigma!r}: expected a number of pixels from 0 to 7.")


def _input_channels(backbone: nn.Module) -> int:
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    return first.in_channels


def _growth(cells: int, side: int, sigma: float) -> Tensor:
    """Returns what grows a line of cells bilinearly to a side's pixels and smooths it.

    Both are linear, so that one product does both. The smoothing Gaussian is cut off at four
    standard deviations, and the line is reflected at its ends.

    Returns:
        side x cells; each row sums to 1.
    """
    grown = F.interpolate(torch.eye(cells)[None, None], size=(side, cells), mode="bilinear")
    reach = int(4 * sigma + 0.5)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-(x**2) / (2 * max(sigma, 1e-6) ** 2))
    padded = F.pad(grown, (0, 0, reach, reach), mode="reflect")
    return F.conv2d(padded, (weights / weights.sum()).view(1, 1, -1, 1))[0, 0]


def _distance_error(factor: Tensor, rounded: Tensor, drawn: int = 64) -> Tensor:
    """Returns the largest relative error of distances, over random directions at each position."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(factor.shape[1], drawn, generator=generator).to(factor.device)
    exact, near = (torch.linalg.vector_norm(f @ directions, dim=1) for f in (factor, rounded))
    return ((near - exact).abs() / exact.clamp(min=1e-12)).max()
