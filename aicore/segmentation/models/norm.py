"""Batch normalisation that takes a batch of one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from aicore.registry import MODELS


@MODELS.register_module()
class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that uses its running statistics where there is nothing to average.

    Heads that pool the whole image (PSPNet, DeepLabV3) have a single value per channel for a batch
    of one image, such as the last one of an epoch may be; torch's own raises an error then.
    See :class:`torch.nn.BatchNorm2d` for the arguments.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Returns the normalised N x C x H x W."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)
