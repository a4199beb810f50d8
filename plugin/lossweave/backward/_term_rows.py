"""Each term's own gradient, to be looked at: the graph and its one backward stay as they are."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossweave.backward._hooks import Aside
from lossweave.backward._passes import Pass, explained, run_pass
from lossweave.backward._reach import Reachability

__all__ = ["term_rows"]


def term_rows(
    terms: Sequence[Tensor | None], reachability: Reachability, more: Sequence[Any] = ()
) -> list[dict[int, Tensor]]:
    """Each term's gradient of every leaf that it reaches, and of further places.

    The graph is kept, no hook of the user's is called, and nothing is written to ``grad``, so the
    backward that follows finds everything as if nobody had looked.

    Args:
        terms: K attached scalars; None where a term is absent.
        reachability: what :func:`~lossweave.backward.reachability_of` found for them without a
            boundary.
        more: tensors, or edges of the graph.

    Returns:
        By leaf, then by further place, the gradients by term. A term that does not reach it is
        not there.

    Raises:
        LossweaveError: the graph is good for one backward only.

    Example:
        >>> from lossweave.backward import reachability_of
        >>> x = torch.ones(2, requires_grad=True)
        >>> middle = 2 * x
        >>> terms = [(3 * middle).sum(), middle.sum()]
        >>> rows = term_rows(terms, reachability_of(terms, []), [middle])
        >>> rows[0][0], rows[0][1], rows[1][0]
        (tensor([6., 6.]), tensor([2., 2.]), tensor([3., 3.]))
    """
    places = [*reachability.leaves, *more]
    rows: list[dict[int, Tensor]] = [{} for _ in places]
    further = range(len(reachability.leaves), len(places))
    aside = Aside(reachability.leaves, [])
    for k, (term, ends) in enumerate(zip(terms, reachability.terms, strict=True)):
        if term is None:
            continue
        one = Pass(k, True, [], [], [*ends, *further], keep=True)
        scale = torch.ones((), device=term.device)
        with aside.taken(k), explained(boundary=False, again=k > 0):
            found = run_pass(one, term, scale, {}, places, retain=True)
        for i, grad in found:
            rows[i][k] = grad.to_dense() if grad.is_sparse else grad
    aside.done()
    return rows
