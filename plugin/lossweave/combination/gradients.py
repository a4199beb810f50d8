"""The root of a combination of gradients."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossweave.backward import (
    Boundary,
    GraphCache,
    gradient_root,
    reachability_of,
    weighted_root,
)
from lossweave.combination.step import Applied
from lossweave.combiners import GradientCombiner
from lossweave.errors import LossweaveError
from lossweave.utils import distributed
from lossweave.utils.sharding import refuse_sharded
from lossweave.utils.shown_rows import Shown

__all__ = ["GradientRoot", "Gradients"]


class GradientRoot(NamedTuple):
    """A root, and its terms' weights.

    Args:
        root: the attached scalar.
        kept: the weights, where they are kept from an earlier update.
        applied: told by the backward pass, where that computes them; those of the last one until
            then.
    """

    root: Tensor
    kept: Tensor | None
    applied: Applied


class Gradients:
    """Combines the terms' gradients at a boundary.

    Args:
        combiner: what makes weights of them.
    """

    def __init__(self, combiner: GradientCombiner) -> None:
        self.combiner = combiner
        self.boundary = Boundary(combiner.boundary)
        self._graph_cache = GraphCache()
        self._warned = False
        self._applied: list[float] | None = None  # in the last backward

    def root(
        self,
        attached: Sequence[Tensor | None],
        value: Tensor,
        extras: Sequence[Tensor],
        model: nn.Module | None,
        log: Callable[[str], None],
        on_reached: Callable[[], None],
    ) -> GradientRoot:
        """The root for one forward's terms.

        Args:
            attached: the terms; None where one is absent.
            value: the root's value.
            extras: the losses that belong to no term, added as they are.
            model: whose losses these are.
            log: where remarks go.
            on_reached: called when a backward reaches the root.

        Raises:
            LossweaveError: the boundary does not fit, or several processes and no model.
        """
        combiner = self.combiner
        if model is None and distributed.world_size() > 1:
            raise LossweaveError(
                f"{type(combiner).__name__} needs the model where several processes train"
            )
        terms = [x if x is None or x.requires_grad else None for x in attached]
        if not any(term is not None for term in terms):
            value = value.detach().requires_grad_()  # a backward runs, and trains nothing
        kept, applied = None, Applied(self._applied if combiner.computes else None)
        if combiner.computes:
            root, unrelated = self._computed(terms, value, extras, model, applied, on_reached)
            self._warn_of_unrelated(unrelated, log)
        else:
            self.boundary.take([])
            kept = combiner.kept_weights(value)
            used = [k for k, term in enumerate(terms) if term is not None]
            weights = torch.stack([kept[k] for k in used]) if used else kept[:0]
            present = [term for term in terms if term is not None]
            root = weighted_root(value, weights, present, on_reached)
        for x in extras:
            root = root + x.to(value.dtype)
        return GradientRoot(root, kept, applied)

    def _computed(
        self,
        terms: Sequence[Tensor | None],
        value: Tensor,
        extras: Sequence[Tensor],
        model: nn.Module | None,
        applied: Applied,
        on_reached: Callable[[], None],
    ) -> tuple[Tensor, list[tuple[int, int]]]:
        combiner = self.combiner
        reachability = reachability_of(terms, self.boundary.take(terms), self._graph_cache)

        def term_of(leaf: Tensor) -> str:
            return combiner.terms[reachability.term_of(leaf)]

        parameters = reachability.leaves  # an order of its own will do where nobody else's matters
        ordered = combiner.elementwise or combiner.remembers or distributed.world_size() > 1
        if model is not None and ordered:
            parameters = [p for p in model.parameters() if p.requires_grad]
        refuse_sharded(combiner.boundary, reachability.leaves, parameters)
        self.boundary.check(reachability.boundary, reachability.leaves, term_of, model)
        method = _Noted(combiner, partial(self._note, applied))
        unrelated = reachability.unrelated()
        root = gradient_root(value, terms, reachability, parameters, method, extras, on_reached)
        return root, unrelated

    def _note(self, applied: Applied, weights: list[float]) -> None:
        applied.weights = self._applied = weights

    def _warn_of_unrelated(
        self, pairs: Sequence[tuple[int, int]], log: Callable[[str], None]
    ) -> None:
        if pairs and not self._warned:
            self._warned = True
            terms = self.combiner.terms
            names = " or ".join(f"{terms[a]} with {terms[b]}" for a, b in pairs)
            log(
                f"at boundary={self.combiner.boundary!r} the gradients of some terms have nothing "
                f"in common ({names}), so they are not reconciled with each other; a boundary "
                "further down ('features', 'parameters') would"
            )


class _Noted:
    """A combiner, as the gradient root asks it: for one forward's losses, whose weights are noted
    for the logs."""

    def __init__(self, combiner: GradientCombiner, note: Callable[[list[float]], None]) -> None:
        self.combiner, self.note = combiner, note
        self.private, self.elementwise = combiner.private, combiner.elementwise
        self.remembers = combiner.remembers
        self.losses = combiner.root_losses

    def weights_of(self, gramian: Tensor) -> list[float]:
        self.combiner.root_losses = self.losses  # other forwards may have come in between
        weights = self.combiner.weights_of(gramian)
        self.note(weights)
        return weights

    def remember(self, shown: Shown) -> list[dict[int, Tensor]] | None:
        self.combiner.root_losses = self.losses
        return self.combiner.remember(shown)

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        return self.combiner.mix(rows, key)
