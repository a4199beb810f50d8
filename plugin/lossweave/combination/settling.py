"""Terms that are settled in the first training forward, or by a checkpoint."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lossweave.combination.terms import TermMap
from lossweave.combination.tree import TermNode

__all__ = ["SettledTerms"]


class SettledTerms(nn.Module):
    """What has a map of terms and a tree of combiners over them.

    Where the map has a view (``terms='loss'``, 'layer', 'level', 'auto'), the losses of the first
    training forward, on all ranks, say what the terms are: before any update, and the same on
    every rank, so a combiner's state has its size before anything is learned. They are part of
    that state; a resumed run takes them from its checkpoint.

    Args:
        node: the combiner, or tree of combiners.
        terms: the terms' names and patterns.
    """

    def __init__(self, node: TermNode, terms: TermMap) -> None:
        super().__init__()
        self.node = node
        self.terms = terms
        #: Whether a checkpoint's state has been loaded.
        self.loaded = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms, in order; none yet where their view is not settled."""
        return self.terms.names

    def settle(
        self,
        losses: Sequence[str],
        device: torch.device,
        resumed: bool,
        log: Callable[[str], None],
    ) -> None:
        """Say what the losses of the first training forward are.

        Args:
            losses: their names on any rank, in an order that all ranks share.
            device: where the combiners' state belongs.
            resumed: whether it is a run that goes on: what its checkpoint says stays.
            log: where remarks go.

        Raises:
            LossweaveError: the view fits none of them, or the combiner's arguments do not fit
                the terms.
        """
        if self.terms.view is None or (resumed and self.names):
            return
        found = self.terms.settled_for(losses)
        if found.patterns == self.terms.patterns:
            return
        if self.terms.view == "auto":
            log(
                "terms: the losses have no classification and localisation by name, so each of "
                "them is a term (terms='loss')"
            )
        self._take(found, losses, device)

    def _take(self, terms: TermMap, losses: Sequence[str], device: torch.device) -> None:
        self.terms = terms
        self.node.settle(terms.names, losses, device)
        self.node_last()

    def node_last(self) -> None:
        """State that comes later is the last: averages of models go through all in order."""
        self._modules["node"] = self._modules.pop("node")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        stored = state_dict.get(f"{prefix}node.settled_losses")
        if stored is not None and self.terms.view is not None:
            losses = bytes(stored.tolist()).decode().split("\n")
            if losses != self.node.settled_for:
                self._take(self.terms.settled_for(losses), losses, stored.device)
        self.loaded = any(key.startswith(f"{prefix}node.") for key in state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args)
