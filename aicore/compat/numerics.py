"""What the ops share: a precision that torchvision takes, and backward passes by autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor


def at_least_float32(*values: Tensor) -> list[Tensor]:
    """Returns the tensors in one floating-point type that holds them all, float32 or float64.

    torchvision's ops want one type, and have no bfloat16.
    """
    dtype = reduce(torch.promote_types, (value.dtype for value in values), torch.float32)
    return [value.to(dtype) for value in values]


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
    return torch.autograd.grad(output, leaves, grad_output.to(output.dtype))
