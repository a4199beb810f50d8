"""One ordinary backward of the weighted terms, for hooks on tensors that it passes."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from lossweave.backward._graph import LEAF, following, reach
from lossweave.backward._hooks import unwatched

__all__ = ["combined_pass"]


def combined_pass(
    roots: Sequence[Tensor | None],
    weights: Sequence[float],
    plain: Collection[int],
    weighted: Sequence[Tensor],
    inputs: Sequence[Tensor],
    scale: Tensor,
    retain: bool,
) -> list[Tensor | None]:
    r"""The gradient of :math:`\sum_k w_k L_k`, but of some terms where they alone reach.

    A term that has parameters of its own, which are to get its plain gradient, is weighted
    where its part of the graph meets another term's, or the tensors that are to be weighted.

    Args:
        roots: K attached scalars; None where a term is absent.
        weights: of the terms.
        plain: the positions of the terms with parameters of their own.
        weighted: tensors whose gradients are weighted whoever reaches them.
        inputs: with respect to what the gradient is taken, ``weighted`` among them.
        scale: the gradient of the combination.
        retain: keep the graph.

    Example:
        >>> x, y = (torch.ones(1, requires_grad=True) for _ in range(2))
        >>> terms = [(3 * x * y).sum(), (5 * x).sum()]
        >>> combined_pass(terms, [10.0, 100.0], [0], [x], [x, y], torch.ones(()), False)
        [tensor([530.]), tensor([3.])]
    """
    outputs, grads = [], []
    with ExitStack() as stack:
        apart = _Apart(roots, weighted) if plain else None
        for k, root in enumerate(roots):
            if root is None:
                continue
            weight = weights[k]
            if apart is not None and k in plain and apart.own(root.grad_fn):
                stack.enter_context(apart.weighted(k, weight))
                weight = 1.0
            outputs.append(root)
            grads.append((scale * weight).to(root.dtype).expand_as(root))
        if not outputs or not inputs:
            return [None] * len(inputs)
        found = torch.autograd.grad(
            outputs, list(inputs), grads, retain_graph=retain, allow_unused=True
        )
    return [grad.to_dense() if grad is not None and grad.is_sparse else grad for grad in found]


class _Apart:
    """Which nodes one term alone reaches.

    Args:
        roots: the terms.
        weighted: tensors that count as reached by several.
    """

    def __init__(self, roots: Sequence[Tensor | None], weighted: Sequence[Tensor]) -> None:
        ends = {tensor.grad_fn for tensor in weighted if tensor.grad_fn is not None}
        leaves = {id(tensor) for tensor in weighted}
        self.walks = [reach([] if root is None else [root], ends) for root in roots]
        times: dict[Any, int] = {}
        for walk in self.walks:
            for node in walk.nodes:
                times[node] = times.get(node, 0) + 1
        self.alone = {
            node
            for node, count in times.items()
            if count == 1 and not (type(node).__name__ == LEAF and id(node.variable) in leaves)
        }

    def own(self, node: Any) -> bool:
        """Whether one term alone reaches a node."""
        return node in self.alone

    @contextmanager
    def weighted(self, term: int, weight: float) -> Iterator[None]:
        """The term's gradient is weighted meanwhile where it leaves what the term alone reaches."""
        handles = []
        with unwatched():
            for node in self.walks[term].nodes & self.alone:
                if all(self.own(other) for other, _ in following(node, 0)):
                    continue
                leaving = [n is not None and not self.own(n) for n, _ in node.next_functions]
                handles.append(node.register_hook(_times(weight, leaving)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _times(weight: float, chosen: Sequence[bool]) -> Any:
    """A hook on a node that weights some of the gradients that it hands on."""

    def hook(grads: tuple[Tensor | None, ...], _: Any) -> tuple[Tensor | None, ...]:
        return tuple(
            weight * grad if one and grad is not None else grad
            for grad, one in zip(grads, chosen, strict=True)
        )

    return hook
