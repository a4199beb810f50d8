"""Which part of the graph one term alone reaches, and weighting its gradient where it leaves it."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from torch import Tensor

from lossweave.backward._graph import LEAF, following, reach
from lossweave.backward._hooks import unwatched

__all__ = ["NOT_EXACT", "Apart"]

#: What is said of a hook where a row that has not passed it makes up for the term's weight.
NOT_EXACT = (
    "changes the gradient of a tensor that one term shares with a loss that belongs to no term, "
    "where private='plain' cannot be exact; name that loss in `terms`, or use private='weighted'"
)


class Apart:
    """Which nodes of the graph one term alone reaches.

    Args:
        terms: attached scalars; None where a term is absent.
        others: what else a backward is going to run through the graph.
        met: tensors that count as reached by several.

    Example:
        >>> import torch
        >>> x, y = (torch.ones(1, requires_grad=True) for _ in range(2))
        >>> terms = [(3 * x * y).sum(), (5 * x).sum()]
        >>> apart = Apart(terms, [], [])
        >>> apart.weigh(0, 10.0)
        >>> (terms[0] + 100 * terms[1]).backward()
        >>> x.grad, y.grad
        (tensor([530.]), tensor([3.]))
    """

    def __init__(
        self, terms: Sequence[Tensor | None], others: Iterable[Tensor], met: Sequence[Tensor]
    ) -> None:
        ends = {tensor.grad_fn for tensor in met if tensor.grad_fn is not None}
        leaves = {id(tensor) for tensor in met}
        self._walks = [reach([] if term is None else [term], ends) for term in terms]
        times: dict[Any, int] = {}
        for walk in (*self._walks, *(reach([other], ends) for other in others)):
            for node in walk.nodes:
                times[node] = times.get(node, 0) + 1
        self._alone = {
            node
            for node, count in times.items()
            if count == 1 and not (type(node).__name__ == LEAF and id(node.variable) in leaves)
        }
        self._leaves = {id(node.variable) for node in self._alone if type(node).__name__ == LEAF}

    def starts(self, term: Tensor) -> bool:
        """Whether a term starts in a part of its own."""
        return term.grad_fn in self._alone

    def has(self, leaf: Tensor) -> bool:
        """Whether a leaf is in such a part."""
        return id(leaf) in self._leaves

    def meets_others(self, node: Any, leaves: Collection[int]) -> bool:
        """Whether a node that one term and what is no term go through leads to any of these
        leaves, by their ``id``."""
        if node in self._alone:
            return False
        return any(id(leaf) in leaves for leaf in reach(following(node, 0)).leaves)

    def weigh(self, term: int, weight: float) -> None:
        """In the next backward, weight a term's gradient where it leaves what is its own."""
        with unwatched():
            for node in self._walks[term].nodes & self._alone:
                edges = node.next_functions
                leaving = [other is not None and other not in self._alone for other, _ in edges]
                if any(leaving):
                    _Once(node, weight, leaving)


class _Once:
    """A hook on a node that weights some of the gradients that it hands on, once."""

    def __init__(self, node: Any, weight: float, chosen: Sequence[bool]) -> None:
        self.weight, self.chosen = weight, chosen
        self.remove: Callable[[], None] = node.register_hook(self).remove

    def __call__(self, grads: tuple[Tensor | None, ...], _: Any) -> tuple[Tensor | None, ...]:
        self.remove()
        return tuple(
            self.weight * grad if one and grad is not None else grad
            for grad, one in zip(grads, self.chosen, strict=True)
        )
