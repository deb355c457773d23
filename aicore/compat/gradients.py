"""Backward passes by autograd, for ops whose caller hands over the forward pass's inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor
) -> tuple[Tensor, ...]:
    """Returns the gradient of ``function(*inputs)`` for each of ``inputs``, in their shapes.

    Args:
        function: Gives one tensor of ``grad_output``'s shape.
        inputs: Floating-point tensors; they stay untouched.
        grad_output: The gradient that comes from above.
    """
    with torch.enable_grad():  # mmcv's backward functions run without it
        leaves = [value.detach().requires_grad_() for value in inputs]
        output = function(*leaves)
    return torch.autograd.grad(output, leaves, grad_output)
