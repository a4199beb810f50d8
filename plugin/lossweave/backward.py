"""The autograd root: where the combined scalar meets the terms' own graphs."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["reached_leaves", "weighted_root"]

_DDP_SINK = "_DDPSinkBackward"


class _WeightedRoot(torch.autograd.Function):
    """A scalar with a given value whose gradient is a given weighting of its inputs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weights: Tensor, *terms: Tensor) -> Tensor:
        ctx.save_for_backward(weights)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        return None, None, *(grads[0] * weights).unbind()


def weighted_root(value: Tensor, weights: Tensor, terms: Iterable[Tensor]) -> Tensor:
    r"""A scalar of the given value with the gradient :math:`\sum_k w_k \nabla L_k`.

    What backward hands down is scaled by the incoming gradient, so a loss scaler's factor and
    the division by accumulated iterations pass through.

    Args:
        value: the scalar's value, detached, shape ``()``.
        weights: one weight per term, detached, shape ``(K,)``.
        terms: K attached scalars of the same type as ``weights``.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> root = weighted_root(torch.tensor(7.0), torch.tensor([2.0, 0.5]), [x * 1, x * 4])
        >>> root.backward()
        >>> root.item(), x.grad.item()
        (7.0, 4.0)
    """
    return _WeightedRoot.apply(value, weights, *terms)


def reached_leaves(roots: Iterable[Tensor]) -> list[Tensor]:
    """The leaf tensors that a backward from any of the roots would reach.

    With ``find_unused_parameters`` DDP passes all outputs through one node; each of them is
    followed to its own input there, or every loss would seem to reach what any loss does.

    What is computed inside a reentrant activation checkpoint is invisible from outside, so
    leaves that are used only there are not listed.

    Args:
        roots: attached tensors; detached ones reach nothing.

    Example:
        >>> a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
        >>> [leaf is a for leaf in reached_leaves([a * b.detach()])]
        [True]
    """
    leaves: list[Tensor] = []
    seen: set[Any] = set()
    stack: list[Any] = [(root.grad_fn, root.output_nr) for root in roots if root.grad_fn]
    while stack:
        node, output = stack.pop()
        # DDP, when it looks for unused parameters, passes all outputs of the model through one
        # node, input by input; to follow all its inputs would merge what the terms reach.
        sink = type(node).__name__ == _DDP_SINK
        key = (node, output) if sink else node
        if key in seen:
            continue
        seen.add(key)
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves.append(variable)
        following = node.next_functions[output : output + 1] if sink else node.next_functions
        stack.extend(edge for edge in following if edge[0] is not None)
    return leaves
