"""Batch norms of a fixed network, made part of its convolutions: fewer passes over memory."""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


@torch.no_grad()
def fold_batch_norms(network: nn.Module, images: Tensor) -> nn.Module:
    """Returns a copy of a network whose batch norms are part of the convolutions before them.

    Args:
        network: In evaluation mode; images to a sequence of feature maps.
        images: N x C x H x W, to find out which batch norm follows which convolution, and to see
            that the copy computes the same. The network itself comes back if it does not, as where
            a convolution's output is read by others too.
    """
    folded = copy.deepcopy(network)
    for convolution, name in _pairs(folded, images):
        norm = folded.get_submodule(name)
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        has_more = isinstance(norm, BatchNormAct2d)
        folded.set_submodule(
            name, nn.Sequential(norm.drop, norm.act) if has_more else nn.Identity()
        )
    agree = all(
        torch.allclose(new, old, rtol=1e-3, atol=1e-3 * float(old.abs().max()))
        for new, old in zip(folded(images), network(images), strict=True)
    )
    return folded if agree else network


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Returns each convolution whose output a batch norm reads, with the batch norm's name."""
    found: list[tuple[nn.Conv2d, str]] = []
    outputs: list[tuple[Tensor, nn.Conv2d]] = []
    names = {module: name for name, module in network.named_modules()}

    def after(convolution: nn.Conv2d, _: Any, output: Tensor) -> None:
        outputs.append((output, convolution))

    def before(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        found.extend((c, names[norm]) for output, c in outputs if output is inputs[0])

    handles = []
    for module in names:
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(before))
    network(images)
    for handle in handles:
        handle.remove()
    return found
