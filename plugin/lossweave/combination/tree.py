"""Combiners over terms, and over the results of other combiners."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossweave.backward import weighted_root
from lossweave.combination.terms import TermMap
from lossweave.combiners import Combiner, GradientCombiner, build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

__all__ = ["TermNode", "flat_node", "term_tree"]


class _Evaluated(NamedTuple):
    value: Tensor
    weights: Tensor  # of the LEAVES, shape (number of leaves,)
    present: Tensor


class TermNode(nn.Module):
    """A combiner over terms, each of which is a leaf or the result of an inner node.

    Args:
        combiner: the combiner of this node.
        children: by term name, the index of a leaf in the vector of all leaves, or a node;
            none where the terms are not known yet: such a node only holds its combiner.
        leaves: number of leaves in the whole tree.
    """

    #: The losses that the terms follow from, as bytes, where they were not known from the start.
    settled_losses: Tensor
    window_totals: Tensor
    window_counts: Tensor

    def __init__(
        self, combiner: Combiner, children: Mapping[str, "int | TermNode"], leaves: int
    ) -> None:
        super().__init__()
        self.combiner = combiner
        self.inner = nn.ModuleDict({k: v for k, v in children.items() if isinstance(v, TermNode)})
        for name, node in self.inner.items():
            if isinstance(node, TermNode) and isinstance(node.combiner, GradientCombiner):
                raise LossweaveError(
                    f"terms: {type(node.combiner).__name__} combines gradients, so it can only "
                    f"be the outermost combiner, not that of the nested term {name!r}"
                )
        self._seen: tuple[Tensor, Tensor] | None = None
        self._parts: dict[str, _Evaluated] = {}
        self._bind(children, leaves)

    def _bind(self, children: Mapping[str, "int | TermNode"], leaves: int) -> None:
        """Tell the combiner its terms, and size what belongs to them."""
        if children:
            self.combiner.bind(tuple(children))
        self.slots: list[int | str] = [
            name if isinstance(child, TermNode) else child for name, child in children.items()
        ]
        self.leaves = leaves
        self.flat = self.slots == list(range(leaves))
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

    def inner_nodes(self) -> list["TermNode"]:
        """The inner nodes, typed."""
        return [node for node in self.inner.values() if isinstance(node, TermNode)]

    def nodes(self) -> list["TermNode"]:
        """This node and all below it."""
        return [self, *(n for inner in self.inner_nodes() for n in inner.nodes())]

    def evaluate(self, losses: Tensor, present: Tensor) -> _Evaluated:
        """Value and leaf weights at the given leaf losses, both of shape ``(leaves,)``."""
        if self.flat:
            self._seen = losses, present
            value, weights = self.combiner.combine(losses, present)
            return _Evaluated(value, weights, present.any())
        inner = {name: self._inner(name).evaluate(losses, present) for name in self.inner}
        self._parts = inner
        at = [inner[s] if isinstance(s, str) else s for s in self.slots]
        values = torch.stack([a.value if isinstance(a, _Evaluated) else losses[a] for a in at])
        there = torch.stack([a.present if isinstance(a, _Evaluated) else present[a] for a in at])
        self._seen = values, there
        value, own = self.combiner.combine(values, there)
        return _Evaluated(value, self.leaf_weights(own), there.any())

    def leaf_weights(self, own: Tensor) -> Tensor:
        """The leaves' weights for weights of this node's terms, after :meth:`evaluate`."""
        if self.flat:
            return own
        weights = torch.zeros(self.leaves, dtype=own.dtype, device=own.device)
        for k, slot in enumerate(self.slots):
            if isinstance(slot, str):
                # A weight of 0 keeps an inner infinity out (0 * inf would be nan).
                inner = self._parts[slot].weights
                weights = weights + (own[k] * inner).masked_fill(own[k] == 0, 0)
            else:
                weights[slot] = own[k]
        return weights

    def attached(self, leaves: Sequence[Tensor | None]) -> list[Tensor | None]:
        """This node's terms as attached scalars, after :meth:`evaluate`; None where absent."""
        terms: list[Tensor | None] = []
        for slot in self.slots:
            if isinstance(slot, int):
                terms.append(leaves[slot])
                continue
            part = self._parts[slot]
            used = [k for k in self._inner(slot).all_leaves() if leaves[k] is not None]
            parts = [x for k in used if (x := leaves[k]) is not None]
            weights = [part.weights[k] for k in used]
            terms.append(weighted_root(part.value, torch.stack(weights), parts) if parts else None)
        return terms

    def all_leaves(self) -> list[int]:
        """The leaves below this node, in order."""
        found: list[int] = []
        for slot in self.slots:
            found.extend([slot] if isinstance(slot, int) else self._inner(slot).all_leaves())
        return sorted(found)

    def active_leaves(self) -> list[bool]:
        """Which leaves take part in this update."""
        own = self.combiner.active() or (True,) * len(self.slots)
        active = [False] * self.leaves
        for slot, on in zip(self.slots, own, strict=True):
            if isinstance(slot, int):
                active[slot] = on
            elif on:
                for leaf, leaf_on in enumerate(self._inner(slot).active_leaves()):
                    active[leaf] = active[leaf] or leaf_on
        return active

    @torch.no_grad()
    def learn(self, progress: Progress, skip: bool = False) -> None:
        """Let the combiners learn from what :meth:`evaluate` saw, once per optimizer update.

        Args:
            progress: the position of this iteration.
            skip: the update is not going to happen, so nothing is learned from its window.
        """
        for node in self.inner_nodes():
            node.learn(progress, skip)
        if not self.combiner.learns or self._seen is None:
            return
        losses, present = self._seen
        if progress.first_of_update and progress.last_of_update:
            if not skip:
                self.combiner.update(losses, present)
            return
        if progress.first_of_update:  # a checkpoint of an unfinished window may be loaded here
            self.window_totals.zero_()
            self.window_counts.zero_()
        if not skip:
            self.window_totals += losses.masked_fill(~present, 0).to(self.window_totals.dtype)
            self.window_counts += present
        if progress.last_of_update:
            if not skip:
                seen = self.window_counts > 0
                mean = self.window_totals / self.window_counts.clamp(min=1)
                self.combiner.update(mean, seen)
            self.window_totals.zero_()
            self.window_counts.zero_()

    def relearn(self) -> None:
        """Let the combiners that asked for it learn from what :meth:`evaluate` saw."""
        for node in self.nodes():
            if getattr(node.combiner, "recompute", False) and node._seen is not None:
                node.combiner.relearn(*node._seen)

    def held_out(self, progress: Progress) -> None:
        """Let the combiners whose turn it is learn from the held-out losses that
        :meth:`evaluate` saw."""
        for node in self.nodes():
            every = node.combiner.held_out_interval
            if every and (progress.update + 1) % every == 0 and node._seen is not None:
                node.combiner.held_out(*node._seen)

    def _inner(self, name: str) -> "TermNode":
        node = self.inner[name]
        assert isinstance(node, TermNode)
        return node


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
    """The tree that a dict of terms describes, and the patterns of its leaves.

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
