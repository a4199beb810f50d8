"""The terms' passes, above a cut and then below it, so that what is above is released first.

A pass per term through a whole graph would keep all activations until the last pass, beside
that pass's own intermediate gradients. With a cut, every term's gradient is first brought to it;
then the graph above is gone before the early, large feature maps are differentiated.
"""

from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossweave.backward._graph import Reach
from lossweave.errors import LossweaveError
from lossweave.utils.torch_compat import edge_of, takes_edges

__all__ = ["Pass", "cut_passes", "enterable", "explained", "run_pass", "whole_passes"]

#: How much of what two or more terms share lies above the cut, by the sizes of the gradients
#: there. From 0.3 to 0.4, one cut takes as little memory on the demo's three detectors as any
#: number of them, and more of them take time.
_ABOVE = 1 / 3
#: How many cuts are looked at.
_TRIES = 8
#: What errors say where a graph is good for one ordinary backward only, and what they say where
#: the user looks for values that are not finite.
_ONCE = ("donated buffer", "retain_graph", "is not compatible with .grad()", "heckpoint")
_ANOMALY = "returned nan values"
_Edge = tuple[Any, int]  # a node, and which of its outputs


class Pass(NamedTuple):
    """One term's way through the graph on one side of the cut.

    Args:
        term: its position.
        root: whether it begins at the term itself.
        above: the edges at which it goes on from earlier passes.
        below: the edges at which later passes go on.
        ends: the positions of the leaves, or the boundary's points, that it reaches.
        keep: whether a later pass needs the graph that this one goes through.
    """

    term: int
    root: bool
    above: list[_Edge]
    below: list[_Edge]
    ends: list[int]
    keep: bool


def whole_passes(walks: Sequence[Reach], ends: Sequence[list[int]]) -> list[Pass]:
    """One pass per term, for what takes little memory.

    Args:
        walks: per term, what it reaches.
        ends: per term, the positions of its leaves and of the boundary's points.
    """
    passes = []
    for k, walk in enumerate(walks):
        if ends[k]:
            keep = any(not walk.nodes.isdisjoint(later.nodes) for later in walks[k + 1 :])
            passes.append(Pass(k, True, [], [], ends[k], keep))
    return passes


def cut_passes(
    roots: Sequence[Tensor | None],
    walks: Sequence[Reach],
    ends: Sequence[list[int]],
    place: Mapping[int, int],
    children: Mapping[Any, Sequence[_Edge]],
) -> list[Pass]:
    """Divide the terms' graphs, down to the leaves, in two.

    A cut is allowed where all that consume one tensor, and all that use one leaf, lie on one
    side: then no gradient at the cut is a part of another one. A node is put as late as what
    it hands its gradient to allows, so that a feature pyramid's lateral convolutions go with
    the backbone's stages, and cuts between these are found. Hooks are set aside meanwhile, or
    those at the cut would be called on either side.

    Args:
        roots: the terms; None where one is absent.
        walks: per term, what it reaches.
        ends: per term, the positions of its leaves.
        place: the position of a leaf by its ``id``.
        children: the edges that these walks followed.

    Returns:
        The passes in the order in which they are to run; one per term where there is no cut, or
        torch cannot start at one.

    Example:
        >>> from lossweave.backward import reach
        >>> x, y, z = (torch.ones(2, requires_grad=True) for _ in range(3))
        >>> shared = (x * y).exp().sin()
        >>> terms = [(z * shared).sum(), (2 * shared).sum()]
        >>> place = {id(x): 0, id(y): 1, id(z): 2}
        >>> edges = {}
        >>> walks = [reach([term], edges=edges) for term in terms]
        >>> passes = cut_passes(terms, walks, [[0, 1, 2], [0, 1]], place, edges)
        >>> [(p.term, p.ends, p.keep) for p in passes]  # of torch from 2.6 on
        [(0, [2], True), (1, [], False), (0, [0, 1], True), (1, [0, 1], False)]
    """
    cut = _cut(children, walks) if takes_edges() else None
    begin = [None if root is None else root.grad_fn for root in roots]
    if cut is None or any(wanted and begin[k] is None for k, wanted in enumerate(ends)):
        return whole_passes(walks, ends)
    last, crossing = cut
    first = children.keys() - last
    late = {place[id(c.variable)] for node in last for c, _ in children[node] if c not in children}
    passes = []
    for above in (True, False):
        inside = [walk.nodes & (first if above else last) for walk in walks]
        for k, wanted in enumerate(ends):
            if not wanted or not inside[k]:
                continue
            across = [e for e, users in crossing.items() if not users.isdisjoint(walks[k].nodes)]
            passes.append(
                Pass(
                    term=k,
                    root=(begin[k] in first) == above,
                    above=[] if above else across,
                    below=across if above else [],
                    ends=[i for i in wanted if (i in late) != above],
                    keep=any(not inside[k].isdisjoint(later) for later in inside[k + 1 :]),
                )
            )
    return passes


def run_pass(
    one: Pass,
    root: Tensor | None,
    scale: Tensor,
    held: dict[tuple[int, _Edge], Tensor],
    places: Sequence[Any],
    retain: bool,
) -> list[tuple[int, Tensor]]:
    """Run a pass.

    Args:
        one: the pass.
        root: its term.
        scale: the gradient of the term.
        held: the gradients at the cuts, by term and edge; those used are taken out, those found
            are put in.
        places: with respect to what autograd differentiates, by position.
        retain: keep the graph in any case.

    Returns:
        Positions and gradients of the ends.
    """
    outputs: list[Any] = []
    grads: list[Tensor] = []
    if one.root and root is not None:
        outputs.append(root)
        grads.append(scale.to(root.dtype).expand_as(root))
    for edge in one.above:
        grad = held.pop((one.term, edge), None)
        if grad is not None:
            outputs.append(edge_of(*edge))
            grads.append(grad)
            del grad
    inputs = [*(edge_of(*edge) for edge in one.below), *(places[i] for i in one.ends)]
    if not outputs or not inputs:
        return []
    found = torch.autograd.grad(
        outputs, inputs, grads, retain_graph=retain or one.keep, allow_unused=True
    )
    for edge, grad in zip(one.below, found, strict=False):
        if grad is not None:
            held[one.term, edge] = grad
    ended = zip(one.ends, found[len(one.below) :], strict=True)
    return [(i, grad) for i, grad in ended if grad is not None]


@contextmanager
def explained(boundary: bool, again: bool) -> Iterator[None]:
    """Say what helps where a graph cannot be differentiated more than once.

    Args:
        boundary: whether the passes end at tensors of a boundary.
        again: whether the graph has been differentiated before.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        words = str(error)
        once = any(word in words for word in _ONCE) or (again and _ANOMALY not in words)
        if isinstance(error, LossweaveError) or not once:
            raise
        kind, first = type(error).__name__, (words.splitlines() or [""])[0]
        where = "above the boundary" if boundary else "down to the parameters"
        raise LossweaveError(
            f"the graph {where} cannot be differentiated once per term ({kind}: {first}); what is "
            "compiled, checkpointed or frees what it saved must lie below the boundary: use "
            "boundary='features' where it lies below the heads, else a combiner of loss values"
        ) from error


def _cut(
    children: Mapping[Any, Sequence[_Edge]], walks: Sequence[Reach]
) -> tuple[set[Any], dict[_Edge, set[Any]]] | None:
    """The nodes below the cut, and the edges across it with the nodes that follow them; None
    where there is no good one."""
    some: set[Any] = set()
    shared: set[Any] = set()
    for walk in walks:
        shared |= some & walk.nodes
        some |= walk.nodes
    shared &= children.keys()
    over = children.keys() - shared  # what is a single term's has nothing shared above it
    fixed = {child for node in over for child, _ in children[node]}
    order = _order(shared, children, fixed)
    sizes = list(accumulate(map(_size, order), initial=0))
    aim = bisect(sizes, _ABOVE * sizes[-1])
    nearest = sorted(_cuts(order, children, fixed), key=lambda number: abs(number - aim))
    for cut in nearest[:_TRIES]:
        last = set(order[cut:])
        crossing: dict[_Edge, set[Any]] = {}
        for node in (*order[:cut], *over):
            for edge in children[node]:
                if edge[0] in last:
                    crossing.setdefault(edge, set()).add(node)
        if enterable(crossing):
            return last, crossing
    return None


def _order(
    nodes: Iterable[Any], children: Mapping[Any, Sequence[_Edge]], fixed: Collection[Any]
) -> list[Any]:
    """The nodes in an order in which gradients flow and which leaves many cuts; empty if the
    nodes do not tell their own order (they were made by several threads)."""
    made = {node: node._sequence_nr() for node in nodes}
    for node, own in made.items():
        for child, _ in children[node]:
            if made.get(child, -1) >= own:
                return []
    order = sorted(made, key=made.__getitem__, reverse=True)
    rank: dict[Any, tuple[int, int]] = {}  # between which cuts, and how far from the lower one
    ends = [0, *_cuts(order, children, fixed), len(order)]
    for group in range(len(ends) - 1, 0, -1):
        for node in reversed(order[ends[group - 1] : ends[group]]):
            far = 0
            for child, _ in children[node]:
                found = rank.get(child)
                if found is not None and found[0] == group and found[1] <= far:
                    far = found[1] - 1
            rank[node] = group, far
    return sorted(order, key=rank.__getitem__)


def _cuts(
    order: Sequence[Any], children: Mapping[Any, Sequence[_Edge]], fixed: Collection[Any]
) -> list[int]:
    """How many nodes may lie above a cut: those numbers that part no tensor's consumers.

    Args:
        order: nodes, as gradients flow.
        children: the edges out of them.
        fixed: what nodes above all of these consume as well.
    """
    last: dict[Any, int] = {}
    for number, node in enumerate(order):
        for child, _ in children[node]:
            last[child] = number
    until = max((last[child] for child in fixed if child in last), default=0)
    found = []
    seen: set[Any] = set()
    for number, node in enumerate(order):
        if number and until < number:
            found.append(number)
        for child, _ in children[node]:
            if child not in seen:
                seen.add(child)
                if last[child] > until:
                    until = last[child]
    return found


def _size(node: Any) -> int:
    """Elements of a node's gradient, which has the shape of what the node returned."""
    like = node._input_metadata
    return prod(like[0].shape) if like else 0


def enterable(crossing: Iterable[_Edge]) -> bool:
    """Whether the graph may be entered at these edges: not at a function written in Python, whose
    node belongs to the graph above and would go with it."""
    return not any(isinstance(node, torch._C._FunctionBase) for node, _ in crossing)
