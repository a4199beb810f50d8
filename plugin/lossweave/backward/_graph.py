"""Walks over the autograd graph: what is reached from where."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossweave.errors import LossweaveError

__all__ = [
    "COMPILED",
    "DDP_SINK",
    "LEAF",
    "REENTRANT",
    "Caught",
    "Point",
    "Reach",
    "following",
    "point_of",
    "reach",
    "reached_leaves",
    "refuse_hidden",
]

#: Names of nodes that a walk tells from others.
DDP_SINK = "_DDPSinkBackward"
REENTRANT = "CheckpointFunctionBackward"
LEAF = "AccumulateGrad"
COMPILED = "CompiledFunctionBackward"


class Reach(NamedTuple):
    """What a walk from some tensors met.

    Args:
        leaves: the leaf tensors, in the order in which they were met.
        cut: the nodes of the cut at which the walk turned back.
        nodes: every node walked over, the cut's left out.
        reentrant: whether a reentrant activation checkpoint is among them.
        compiled: the outputs at which it came to nodes of ``torch.compile``.
    """

    leaves: list[Tensor]
    cut: list[Any]
    nodes: set[Any]
    reentrant: bool
    compiled: dict[Any, set[int]]


class Point(NamedTuple):
    """A place in the graph through which all that follows consumes a tensor.

    Args:
        tensor: the tensor there; the gradient with respect to it is what comes from above.
        alias: what follows, and hooks of the user's, are put on.
        entry: a backward from it goes by the alias and its hooks to the tensor, and on below.
    """

    tensor: Tensor
    alias: Tensor
    entry: Tensor

    @property
    def node(self) -> Any:
        """The tensor's node."""
        return self.tensor.grad_fn

    @property
    def alias_node(self) -> Any:
        """The alias's node, as it was made."""
        return self.entry.grad_fn.next_functions[0][0]  # type: ignore[union-attr]


#: A module's name, and what a call of it returned.
Caught = tuple[str, Point]


class _Alias(torch.autograd.Function):
    """The same values under another name, so that what is done to the alias in place, as by a
    ReLU, leaves its place in the graph where it is (a view would move)."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def point_of(tensor: Tensor) -> tuple[Tensor, Point]:
    """An alias of an attached tensor, to be used in its place, and the point that it marks.

    Example:
        >>> x = torch.ones(1, requires_grad=True)
        >>> alias, point = point_of(3 * x)
        >>> torch.autograd.grad(5 * alias.relu_(), point.tensor)
        (tensor([5.]),)
    """
    kept = _Alias.apply(tensor)  # never changed in place, so it stays where it is in the graph
    alias = _Alias.apply(kept)
    return alias, Point(kept, alias, _Alias.apply(alias))


def following(node: Any, output: int) -> list[tuple[Any, int]]:
    """The edges that a backward follows out of one of a node's outputs.

    With ``find_unused_parameters`` DDP passes all outputs of the model through one node;
    each of them is followed to its own input there, or every loss would seem to reach what
    any loss does.
    """
    edges = node.next_functions
    if type(node).__name__ == DDP_SINK:
        edges = edges[output : output + 1]
    return [edge for edge in edges if edge[0] is not None]


def reach(
    roots: Iterable[Any], cut: Collection[Any] = (), edges: dict[Any, list[Any]] | None = None
) -> Reach:
    """Walk the graph from the roots down to the leaves, or to a cut.

    Args:
        roots: attached tensors (others reach nothing), or edges ``(node, output)``.
        cut: nodes that are not walked over.
        edges: gathers, of the nodes walked over, the edges followed; a leaf's node has none. Walks
            that share it ask the graph only once.

    Example:
        >>> a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
        >>> middle = a * 2
        >>> found = reach([middle * b], cut=[middle.grad_fn])
        >>> [leaf is b for leaf in found.leaves], len(found.cut)
        ([True], 1)
    """
    leaves: list[Tensor] = []
    turned: list[Any] = []
    nodes: set[Any] = set()
    sinks: set[tuple[Any, int]] = set()  # DDP's, each of whose outputs is a way of its own
    known = {} if edges is None else edges
    reentrant = False
    compiled: dict[Any, set[int]] = {}
    stack: list[tuple[Any, int]] = []
    for root in roots:
        if not isinstance(root, Tensor):
            stack.append(root)
        elif root.grad_fn is not None:
            stack.append((root.grad_fn, root.output_nr))
        elif root.requires_grad:
            leaves.append(root)
    while stack:
        node, output = stack.pop()
        if node in nodes:
            continue
        name = type(node).__name__
        if name == DDP_SINK:
            if (node, output) not in sinks:
                sinks.add((node, output))
                followed = following(node, output)
                known.setdefault(node, []).extend(followed)
                stack.extend(followed)
            continue
        if name == COMPILED:
            met = node in compiled
            compiled.setdefault(node, set()).add(output)
            if met:
                continue
        else:
            nodes.add(node)
        if node in cut:
            turned.append(node)
        elif name == LEAF:
            leaves.append(node.variable)
        else:
            reentrant = reentrant or name == REENTRANT
            if node not in known:
                known[node] = following(node, output)
            stack.extend(known[node])
    nodes.difference_update(turned)
    nodes.update(node for node, _ in sinks)
    nodes.update(compiled)
    return Reach(leaves, turned, nodes, reentrant, compiled)


def refuse_hidden(walks: Sequence[Reach]) -> None:
    """Refuse terms that leave one compiled graph by different outputs.

    Such a graph is one node, which seems to reach all that any of its outputs is computed from.
    Where terms share its outputs, as those of a compiled backbone, they do reach the same.

    Args:
        walks: per term, what it reaches.

    Raises:
        LossweaveError: there is one.
    """
    outputs: dict[Any, set[int]] = {}
    for walk in walks:
        for node, own in walk.compiled.items():
            if outputs.setdefault(node, own) != own:
                raise LossweaveError(
                    "torch.compile: one compiled graph computes what several terms are made of, "
                    "each from outputs of its own, and hides which parameters each of them "
                    "reaches; compile what they share, or each head by itself, or take a combiner "
                    "of loss values"
                )


def reached_leaves(roots: Iterable[Tensor]) -> list[Tensor]:
    """The leaf tensors that a backward from any of the roots would reach.

    What is computed inside a reentrant activation checkpoint is invisible from outside, so
    leaves that are used only there are not listed.

    Args:
        roots: attached tensors; detached ones reach nothing.

    Example:
        >>> a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
        >>> [leaf is a for leaf in reached_leaves([a * b.detach()])]
        [True]
    """
    return reach([root for root in roots if root.grad_fn is not None]).leaves
