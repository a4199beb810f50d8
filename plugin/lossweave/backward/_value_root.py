"""The autograd root: where the combined scalar meets the terms' own graphs."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lossweave.utils.torch_compat import uncompiled

__all__ = ["weighted_root"]


class _WeightedRoot(torch.autograd.Function):
    """A scalar with a given value whose gradient is a given weighting of its inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        on_reached: Callable[[], None] | None,
        value: Tensor,
        weights: Tensor,
        *terms: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(weights)
        ctx.on_reached = on_reached
        return value.clone()

    @staticmethod
    @uncompiled
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        if ctx.on_reached is not None:
            ctx.on_reached()
        return None, None, None, *(grads[0] * weights).unbind()


def weighted_root(
    value: Tensor,
    weights: Tensor,
    terms: Iterable[Tensor],
    on_reached: Callable[[], None] | None = None,
) -> Tensor:
    r"""A scalar of the given value with the gradient :math:`\sum_k w_k \nabla L_k`.

    What backward hands down is scaled by the incoming gradient, so a loss scaler's factor and
    the division by accumulated iterations pass through.

    Args:
        value: the scalar's value, detached, shape ``()``.
        weights: one weight per term, detached, shape ``(K,)``.
        terms: K attached scalars of the same type as ``weights``.
        on_reached: called when a backward reaches the scalar.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> root = weighted_root(torch.tensor(7.0), torch.tensor([2.0, 0.5]), [x * 1, x * 4])
        >>> root.backward()
        >>> root.item(), x.grad.item()
        (7.0, 4.0)
    """
    return _WeightedRoot.apply(on_reached, value, weights, *terms)
