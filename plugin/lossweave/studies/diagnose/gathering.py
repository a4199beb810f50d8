"""The terms' own gradients, taken beside a training's one backward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import register_multi_grad_hook

from lossweave.backward import GraphCache, reach, reachability_of, term_rows, unwatched
from lossweave.combination import LossCombination
from lossweave.combination.entries import LossEntries, sorted_into
from lossweave.studies.diagnose.record import Table
from lossweave.studies.diagnose.taken import Rows, Steps, added, table_of
from lossweave.utils.torch_compat import edge_of, takes_edges

__all__ = ["Gathered", "Gatherer"]


@dataclass
class Gathered:
    """What is known of the update that is being looked at.

    Args:
        stage: the stage of training that it belongs to.
        rest: the term whose gradient is what the others leave of the whole one; None takes each.
    """

    stage: str
    rest: int | None = None
    rows: Rows = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)
    features: Table | None = None
    before: dict[str, Tensor] = field(default_factory=dict)
    steps: Steps | None = None
    waiting: Any = None

    def done_waiting(self) -> None:
        """No more gradients come."""
        if self.waiting is not None:
            self.waiting.remove()
            self.waiting = None

    def whole_rows(self, sizes: Mapping[str, int], device: torch.device) -> list[Tensor]:
        """Each term's gradient as one vector, the parameters in order.

        Args:
            sizes: of the parameters, by name.
            device: of what has no gradient.
        """
        return [
            torch.cat([
                self.rows[name][k].reshape(-1).float()
                if k in self.rows.get(name, {})
                else torch.zeros(size, device=device)
                for name, size in sizes.items()
            ])
            for k in range(len(self.values))
        ]  # fmt: skip


class Gatherer:
    """Takes the terms' gradients of a model.

    Args:
        model: without a wrapper.
        combination: its plain sum.
    """

    def __init__(self, model: nn.Module, combination: LossCombination) -> None:
        self.combination = combination
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        #: The trained parameters' names by the ``id``, and their sizes by name.
        self.names = {id(p): name for name, p in trained.items()}
        self.sizes = {name: p.numel() for name, p in trained.items()}
        self.device = next(iter(trained.values())).device
        #: The last module whose output all heads see.
        self.last = _features_module(model)
        self._cache = GraphCache()
        self._features: list[Any] = []

    def caught(self, output: Any) -> None:
        """Take note of what that module returned; nothing of it is changed."""
        found = (x for x in _tensors(output) if x.grad_fn is not None)
        self._features = [
            (x.grad_fn, edge_of(x.grad_fn, x.output_nr) if takes_edges() else x) for x in found
        ]

    def forget(self) -> None:
        """Let go of it."""
        self._features = []

    def take(self, due: Gathered, losses: Mapping[str, Any], share: float) -> None:
        """Take the gradients of one forward, before its backward.

        With ``due.rest`` one pass is spared: that term's gradient follows when the backward has
        come to the parameters, before anything is clipped.

        Args:
            due: where they go.
            losses: the raw losses by name.
            share: of the forward in the update.
        """
        entries = LossEntries.of(losses)
        split = self.combination.terms.split(entries, entries.lists)
        found, extras = sorted_into(self.combination.terms, split, self.combination.extra)
        others = sum(extras[1:], extras[0]) if extras else None
        terms = [x if x is not None and x.requires_grad else None for x in (*found, others)]
        reachability = reachability_of(terms, [], self._cache)
        if due.rest is not None and terms[due.rest] is None:
            due.rest = None
        edges = _lowest(self._features) if due.rest is None else []
        self.forget()
        asked = [None if k == due.rest else term for k, term in enumerate(terms)]
        rows = term_rows(asked, reachability, edges)
        values = [0.0 if x is None else float(x.detach()) for x in (*found, others)]
        due.values = due.values or [0.0] * len(terms)
        due.present = due.present or [False] * len(terms)
        for k, value in enumerate(values):
            due.values[k] += share * value
            due.present[k] |= terms[k] is not None
        for leaf, own in zip(reachability.leaves, rows, strict=False):
            if id(leaf) in self.names:
                kept = due.rows.setdefault(self.names[id(leaf)], {})
                for k, row in own.items():
                    row = row if share == 1 else share * row
                    kept[k] = kept[k] + row if k in kept else row
        if edges:
            table = table_of(rows[len(reachability.leaves) :], len(terms))
            scaled = [[share**2 * x for x in row] for row in table]
            due.features = scaled if due.features is None else added(due.features, scaled)
        if due.rest is not None:
            reached = reachability.terms[due.rest]
            self._wait(due, due.rest, [reachability.leaves[i] for i in reached])

    def _wait(self, due: Gathered, rest: int, leaves: Sequence[Tensor]) -> None:
        """Take what the others leave when the whole gradient is there."""

        @torch.no_grad()
        def come(grads: Sequence[Tensor | None]) -> None:
            for leaf, grad in zip(leaves, grads, strict=True):
                if grad is not None and id(leaf) in self.names:
                    kept = due.rows.setdefault(self.names[id(leaf)], {})
                    left = grad.clone()
                    for row in kept.values():
                        left -= row
                    kept[rest] = left

        with unwatched():
            due.waiting = register_multi_grad_hook(leaves, come)


def _features_module(model: Any) -> nn.Module | None:
    for name in ("neck", "backbone"):
        module = getattr(model, name, None)
        if isinstance(module, nn.Module):
            return module
    return None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _tensors(part)


def _lowest(features: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Of the features, those that no other one is needed for: every path from the heads down
    passes one of them once (the P7 of a pyramid is computed from its P6)."""
    nodes = {node for node, _ in features}
    kept = []
    for node, edge in features:
        below = [following for following in node.next_functions if following[0] is not None]
        if not reach(below, nodes - {node}).cut:
            kept.append(edge)
    return kept
