"""Combiners over terms, and over the results of other combiners."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossweave.backward import weighted_root
from lossweave.combination.terms import TermMap
from lossweave.combiners import Combined, Combiner, GradientCombiner, build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

__all__ = ["Evaluation", "TermNode", "flat_node", "term_tree"]


class Evaluation(NamedTuple):
    """What a node made of the losses of one forward.

    Args:
        value: the node's, shape ``()``.
        weights: of ALL terms of the tree, shape ``(number of terms,)``; 0 beside the node's own.
        present: whether any of its terms is.
        losses: the values of the node's own terms.
        there: which of those are present.
        parts: by name, what inner nodes made of them.
    """

    value: Tensor
    weights: Tensor
    present: Tensor
    losses: Tensor
    there: Tensor
    parts: Mapping[str, "Evaluation"]


class TermNode(nn.Module):
    """A combiner over terms, each of which is a raw one or the result of an inner node.

    Args:
        combiner: the combiner of this node.
        children: by name, the position of a raw term in the vector of all, or a node; none where
            the terms are not known yet: such a node only holds its combiner.
        count: number of raw terms in the whole tree.
    """

    #: The losses that the terms follow from, as bytes, where they were not known from the start.
    settled_losses: Tensor
    window_totals: Tensor
    window_counts: Tensor

    def __init__(
        self, combiner: Combiner, children: Mapping[str, "int | TermNode"], count: int
    ) -> None:
        super().__init__()
        self.combiner = combiner
        self.inner = nn.ModuleDict({k: v for k, v in children.items() if isinstance(v, TermNode)})
        for name, node in self.inner_nodes().items():
            if isinstance(node.combiner, GradientCombiner):
                raise LossweaveError(
                    f"terms: {type(node.combiner).__name__} combines gradients, so it can only "
                    f"be the outermost combiner, not that of the nested term {name!r}"
                )
        # What a combiner remembers of gradients comes late, and averages of models go through all
        # state in order, so it is the last.
        self._modules["combiner"] = self._modules.pop("combiner")
        self._bind(children, count)

    def _bind(self, children: Mapping[str, "int | TermNode"], count: int) -> None:
        """Tell the combiner its terms, and size what belongs to them."""
        if children:
            self.combiner.bind(tuple(children))
        self.slots: list[int | str] = [
            name if isinstance(child, TermNode) else child for name, child in children.items()
        ]
        self.count = count
        self.flat = self.slots == list(range(count))
        if self.combiner.learns and children:
            # What an accumulation window has seen so far; saved, for checkpoints inside one.
            self.register_buffer("window_totals", torch.zeros(len(children)))
            self.register_buffer("window_counts", torch.zeros(len(children)))

    def settle(self, names: Sequence[str], losses: Sequence[str], device: torch.device) -> None:
        """Give a node without inner nodes these terms, as if training began anew.

        Args:
            names: the terms.
            losses: the losses that they follow from, which the node's state remembers.
            device: where its state belongs.
        """
        self._bind(_by_index(names), len(names))
        stored = torch.tensor(list("\n".join(losses).encode()), dtype=torch.uint8)
        self.register_buffer("settled_losses", stored)
        self.to(device)

    @property
    def settled_for(self) -> list[str]:
        """The losses that its terms follow from; none where they were known from the start."""
        stored = self._buffers.get("settled_losses")
        return [] if stored is None else bytes(stored.tolist()).decode().split("\n")

    def inner_nodes(self) -> dict[str, "TermNode"]:
        """The inner nodes by name, typed."""
        return {name: node for name, node in self.inner.items() if isinstance(node, TermNode)}

    def nodes(self) -> list["TermNode"]:
        """This node and all below it."""
        return [self, *(n for inner in self.inner_nodes().values() for n in inner.nodes())]

    def evaluate(self, losses: Tensor, present: Tensor) -> Evaluation:
        """Value and weights at the given losses of all terms, both of shape ``(count,)``."""
        if self.flat:
            value, weights = _preferring(self.combiner, losses, present)
            return Evaluation(value, weights, present.any(), losses, present, {})
        parts = {n: node.evaluate(losses, present) for n, node in self.inner_nodes().items()}
        values = torch.stack([parts[s].value if isinstance(s, str) else losses[s]
                              for s in self.slots])  # fmt: skip
        there = torch.stack([parts[s].present if isinstance(s, str) else present[s]
                             for s in self.slots])  # fmt: skip
        value, own = _preferring(self.combiner, values, there)
        weights = self.spread(own, parts)
        return Evaluation(value, weights, there.any(), values, there, parts)

    def spread(self, own: Tensor, parts: Mapping[str, Evaluation]) -> Tensor:
        """The weights of all terms, for weights of this node's.

        Args:
            own: of this node's terms.
            parts: what inner nodes made of the losses.
        """
        if self.flat:
            return own
        weights = torch.zeros(self.count, dtype=own.dtype, device=own.device)
        for k, slot in enumerate(self.slots):
            if isinstance(slot, str):
                # A weight of 0 keeps an inner infinity out (0 * inf would be nan).
                inner = parts[slot].weights
                weights = weights + (own[k] * inner).masked_fill(own[k] == 0, 0)
            else:
                weights[slot] = own[k]
        return weights

    def attached(
        self, terms: Sequence[Tensor | None], parts: Mapping[str, Evaluation]
    ) -> list[Tensor | None]:
        """This node's terms as attached scalars; None where absent.

        Args:
            terms: the raw ones.
            parts: what inner nodes made of their values.
        """
        inner = self.inner_nodes()
        found: list[Tensor | None] = []
        for slot in self.slots:
            if isinstance(slot, int):
                found.append(terms[slot])
                continue
            used = [k for k in inner[slot].below() if terms[k] is not None]
            there = [x for k in used if (x := terms[k]) is not None]
            weights = [parts[slot].weights[k] for k in used]
            value = parts[slot].value
            found.append(weighted_root(value, torch.stack(weights), there) if there else None)
        return found

    def below(self) -> list[int]:
        """The raw terms of this node and of those below it, in order."""
        inner = self.inner_nodes()
        found: list[int] = []
        for slot in self.slots:
            found.extend([slot] if isinstance(slot, int) else inner[slot].below())
        return sorted(found)

    def active(self) -> tuple[bool, ...]:
        """Which raw terms take part in this update."""
        own = self.combiner.active() or (True,) * len(self.slots)
        active = [False] * self.count
        inner = self.inner_nodes()
        for slot, on in zip(self.slots, own, strict=True):
            if isinstance(slot, int):
                active[slot] = on
            elif on:
                for k, inner_on in enumerate(inner[slot].active()):
                    active[k] = active[k] or inner_on
        return tuple(active)

    @torch.no_grad()
    def learn(self, seen: Sequence[Evaluation], progress: Progress, skip: bool = False) -> None:
        """Let the combiners learn, once per optimizer update, from the mean over it.

        Args:
            seen: what the iteration's forwards gave.
            progress: the position of the iteration.
            skip: the update is not going to happen, so nothing is learned from its window.
        """
        for name, node in self.inner_nodes().items():
            node.learn([one.parts[name] for one in seen], progress, skip)
        if not self.combiner.learns:
            return
        if progress.first_of_update and progress.last_of_update and len(seen) == 1:
            if not skip:
                self.combiner.update(seen[0].losses, seen[0].there)
            return
        if progress.first_of_update:  # a checkpoint of an unfinished window may be loaded here
            self.window_totals.zero_()
            self.window_counts.zero_()
        for one in () if skip else seen:
            losses = one.losses.masked_fill(~one.there, 0)
            self.window_totals += losses.to(self.window_totals.dtype)
            self.window_counts += one.there
        if progress.last_of_update:
            if not skip:
                mean = self.window_totals / self.window_counts.clamp(min=1)
                self.combiner.update(mean, self.window_counts > 0)
            self.window_totals.zero_()
            self.window_counts.zero_()

    def relearn(self, seen: Evaluation) -> None:
        """Let the combiners that asked for it learn from the same batch's losses."""
        if self.combiner.recompute:
            self.combiner.relearn(seen.losses, seen.there)
        for name, node in self.inner_nodes().items():
            node.relearn(seen.parts[name])

    def held_out(self, seen: Evaluation, progress: Progress) -> None:
        """Let the combiners whose turn it is learn from held-out losses."""
        if progress.ends_every(self.combiner.held_out_interval):
            self.combiner.held_out(seen.losses, seen.there)
        for name, node in self.inner_nodes().items():
            node.held_out(seen.parts[name], progress)


def _preferring(combiner: Combiner, losses: Tensor, present: Tensor) -> Combined:
    """Value and weights, with the combiner's importances where it does not see to them itself."""
    where = combiner.preference.where
    if combiner.prefer is None or where not in ("losses", "weights"):
        return combiner.combine(losses, present)
    shares = combiner.importance_vector.to(losses.dtype)
    if where == "losses":
        value, weights = combiner.combine(shares * losses, present)
        return Combined(value, shares * weights)
    value, weights = combiner.combine(losses, present)
    if isinstance(combiner, GradientCombiner):  # in the backward, where its weights are
        return Combined(value, weights)
    more = ((shares - 1) * weights * losses).masked_fill(weights == 0, 0).sum()
    return Combined(value + more, shares * weights)


def flat_node(combiner: Any, terms: TermMap) -> TermNode:
    """A combiner over a map's terms; it can be settled for others where the map has a view.

    Args:
        combiner: a name, ``dict(type=name, ...)`` or a combiner.
        terms: the map.

    Raises:
        LossweaveError: wrong arguments of the combiner.
    """
    return TermNode(build_combiner(combiner), _by_index(terms.names), len(terms.names))


def _by_index(names: Sequence[str]) -> dict[str, int | TermNode]:
    return {name: index for index, name in enumerate(names)}


def term_tree(combiner: Any, terms: Mapping[str, Any]) -> tuple[TermNode, TermMap]:
    """The tree that a dict of terms describes, and the patterns of its raw terms.

    Args:
        combiner: the outermost combiner: a name, ``dict(type=name, ...)`` or a combiner.
        terms: from term names to patterns, or to ``dict(combiner=..., terms={...})``.

    Raises:
        LossweaveError: anything wrong with them, in one line.

    Example:
        >>> inner = dict(combiner="Sum", terms={"cls": "loss_cls", "loc": "loss_bbox"})
        >>> node, patterns = term_tree("Max", {"rpn": "loss_rpn*", "roi": inner})
        >>> patterns.names, [type(n.combiner).__name__ for n in node.nodes()]
        (('rpn', 'roi.cls', 'roi.loc'), ['Max', 'Sum'])
    """
    patterns: dict[str, Any] = {}
    _flatten(terms, "", patterns)
    term_map = TermMap(patterns)
    order = {name: index for index, name in enumerate(term_map.names)}
    return _tree(combiner, terms, "", order), term_map


def _flatten(terms: Mapping[str, Any], prefix: str, patterns: dict[str, Any]) -> None:
    for name, value in terms.items():
        if f"{prefix}{name}" in patterns:
            raise LossweaveError(
                f"terms: {prefix + str(name)!r} is there twice, by itself and nested; rename one"
            )
        if isinstance(value, Mapping):
            unknown = [key for key in value if key not in ("combiner", "terms")]
            if unknown or not isinstance(value.get("terms"), Mapping) or not value["terms"]:
                raise LossweaveError(
                    f"terms: the nested term {prefix + str(name)!r} should be "
                    f"dict(combiner=..., terms=dict(...)), but is {dict(value)!r}"
                )
            if not str(name).isidentifier() or hasattr(nn.ModuleDict(), name):
                raise LossweaveError(
                    f"terms: {name!r} cannot be the name of a nested term; choose another "
                    "Python identifier"
                )
            _flatten(value["terms"], f"{prefix}{name}.", patterns)
        else:
            patterns[f"{prefix}{name}"] = value


def _tree(combiner: Any, terms: Mapping[str, Any], prefix: str, order: dict[str, int]) -> TermNode:
    children: dict[str, int | TermNode] = {}
    for name, value in terms.items():
        children[name] = (
            _tree(value.get("combiner", "Sum"), value["terms"], f"{prefix}{name}.", order)
            if isinstance(value, Mapping)
            else order[f"{prefix}{name}"]
        )
    return TermNode(build_combiner(combiner), children, len(order))
