"""The terms' graphs in stages, so that what one stage kept is released before the next begins.

A pass per term through a whole graph would keep all activations until the last pass, beside
that pass's own intermediate gradients. Stage by stage, every term's gradient is brought to the
next cut, and then the graph above it is gone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from lossweave.backward._graph import Reach

__all__ = ["Pass", "run_pass", "staged", "unstaged"]

#: About as many stages are aimed at. More of them save little memory and take time: on the demo's
#: three detectors 3 stay within stock + K copies of the shared gradients, and 2 do not on SSD.
_STAGES = 3
_Edge = tuple[Any, int]  # a node, and which of its outputs


class Pass(NamedTuple):
    """One term's way through one stage.

    Args:
        term: its position.
        root: whether it begins at the term itself.
        above: the edges at which it goes on from earlier stages.
        below: the edges at which later stages go on.
        ends: the positions of the leaves, or the boundary's points, that it reaches.
        keep: whether a later pass needs the graph of this stage.
    """

    term: int
    root: bool
    above: list[_Edge]
    below: list[_Edge]
    ends: list[int]
    keep: bool


def unstaged(walks: Sequence[Reach], ends: Sequence[list[int]]) -> list[Pass]:
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


def staged(
    roots: Sequence[Tensor | None],
    walks: Sequence[Reach],
    ends: Sequence[list[int]],
    place: Mapping[int, int],
) -> list[Pass]:
    """Divide the terms' graphs, down to the leaves, into stages.

    A cut is allowed where all that consume one tensor, and all that use one leaf, lie on one
    side: then no gradient at the cut is a part of another one. A node is put as late as what
    it hands its gradient to allows, so that a feature pyramid's lateral convolutions go with
    the backbone's stages, and cuts between these are found. No cut is made at a tensor with a
    hook that changes its gradient, since the hook is called on either side.

    Args:
        roots: the terms; None where one is absent.
        walks: per term, what it reaches.
        ends: per term, the positions of its leaves.
        place: the position of a leaf by its ``id``.

    Returns:
        The passes in the order in which they are to run.

    Example:
        >>> from lossweave.backward import reach
        >>> x, y, z = (torch.ones(2, requires_grad=True) for _ in range(3))
        >>> shared = (x * y).exp()
        >>> terms = [(z * shared).sum(), (2 * shared).sum()]
        >>> place = {id(x): 0, id(y): 1, id(z): 2}
        >>> passes = staged(terms, [reach([t]) for t in terms], [[0, 1, 2], [0, 1]], place)
        >>> [(p.term, p.ends, p.keep) for p in passes]
        [(0, [2], False), (1, [], False), (0, [0, 1], True), (1, [0, 1], False)]
    """
    union = set().union(*(walk.nodes for walk in walks))
    children = {
        node: [edge for edge in node.next_functions if edge[0] in union]
        for node in union
        if getattr(node, "variable", None) is None
    }
    order = _order(children)
    begin = [None if root is None else root.grad_fn for root in roots]
    if not order or any(wanted and begin[k] is None for k, wanted in enumerate(ends)):
        return unstaged(walks, ends)
    stage_of: dict[Any, int] = {}
    cuts = _chosen(order, children, walks)
    for stage, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(order)], strict=True)):
        stage_of.update((node, stage) for node in order[start:end])
    count = len(cuts) + 1
    passes: list[list[Pass]] = [[] for _ in range(count)]
    inside: list[list[set[Any]]] = [[] for _ in range(count)]
    for k, walk in enumerate(walks):
        if not ends[k]:
            continue
        nodes: list[set[Any]] = [set() for _ in range(count)]
        above: list[dict[_Edge, None]] = [{} for _ in range(count)]
        below: list[dict[_Edge, None]] = [{} for _ in range(count)]
        leaves: list[set[int]] = [set() for _ in range(count)]
        for node in walk.nodes:
            stage = stage_of.get(node, -1)
            if stage < 0:
                continue
            nodes[stage].add(node)
            for edge in children[node]:
                if edge[0] not in walk.nodes:
                    continue
                later = stage_of.get(edge[0])
                if later is None:
                    leaves[stage].add(place[id(edge[0].variable)])
                elif later > stage:
                    below[stage][edge] = above[later][edge] = None
        for stage in range(count):
            root = stage_of[begin[k]] == stage
            passes[stage].append(
                Pass(k, root, list(above[stage]), list(below[stage]), sorted(leaves[stage]), False)
            )
            inside[stage].append(nodes[stage])
    return [
        one._replace(keep=any(not own.isdisjoint(later) for later in inside[stage][i + 1 :]))
        for stage in range(count)
        for i, (one, own) in enumerate(zip(passes[stage], inside[stage], strict=True))
    ]


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
            outputs.append(GradientEdge(*edge))
            grads.append(grad)
            del grad
    inputs = [*(GradientEdge(*edge) for edge in one.below), *(places[i] for i in one.ends)]
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


def _order(children: Mapping[Any, Sequence[_Edge]]) -> list[Any]:
    """The nodes in an order in which gradients flow and which leaves many cuts; empty if the
    nodes do not tell their own order (they were made by several threads)."""
    made = {node: node._sequence_nr() for node in children}
    for node, edges in children.items():
        if any(made.get(child, -1) >= made[node] for child, _ in edges):
            return []
    order = sorted(children, key=made.__getitem__, reverse=True)
    cuts = _cuts(order, children)
    group: dict[Any, int] = {}
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(order)], strict=True)):
        group.update((node, number) for node in order[start:end])
    level: dict[Any, int] = {}
    for node in reversed(order):
        own = group[node]
        level[node] = 1 + max((level[c] for c, _ in children[node] if group.get(c) == own),
                              default=0)  # fmt: skip
    return sorted(order, key=lambda node: (group[node], -level[node]))


def _cuts(order: Sequence[Any], children: Mapping[Any, Sequence[_Edge]]) -> list[int]:
    """How many nodes may lie above a cut: those numbers that part no tensor's consumers."""
    spans: dict[Any, list[int]] = {}
    for number, node in enumerate(order):
        for child, _ in children[node]:
            spans.setdefault(child, [number, number])[1] = number
    opened = [0] * (len(order) + 1)
    for first, last in spans.values():
        opened[first + 1] += 1
        opened[last + 1] -= 1
    found, inside = [], 0
    for number in range(len(order)):
        inside += opened[number]
        if number and not inside:
            found.append(number)
    return found


def _chosen(
    order: Sequence[Any], children: Mapping[Any, Sequence[_Edge]], walks: Sequence[Reach]
) -> list[int]:
    """Some of the cuts, spread evenly, and the one above which every node is a single term's."""
    distance = max(4, len(order) // _STAGES)
    shared = next(
        (n for n, node in enumerate(order) if sum(node in walk.nodes for walk in walks) > 1), 0
    )
    chosen: list[int] = []
    for cut in _cuts(order, children):
        if cut != shared and cut - (chosen[-1] if chosen else 0) < distance:
            continue
        if not _bare(cut, order, children):
            continue
        if cut == shared:
            chosen = []  # what is a single term's is released by its only pass anyway
        chosen.append(cut)
    return chosen


def _bare(cut: int, order: Sequence[Any], children: Mapping[Any, Sequence[_Edge]]) -> bool:
    """Whether the graph may be entered at a cut.

    Not at a function written in Python: its node belongs to the graph above, and would go with
    it. Nor where a hook changes the gradient; asked with gradients that take no memory.
    """
    later = set(order[cut:])
    crossing = {e: None for node in order[:cut] for e in children[node] if e[0] in later}
    if any(isinstance(node, torch._C._FunctionBase) for node, _ in crossing):
        return False
    edges, grads = [], []
    for node, output in crossing:
        like = node._input_metadata[output]
        one = torch.ones((), dtype=like.dtype, device=like.device)
        edges.append(GradientEdge(node, output))
        grads.append(one.expand(like.shape))
    found = torch.autograd.grad(edges, edges, grads, retain_graph=True, allow_unused=True)
    return all(a is b for a, b in zip(found, grads, strict=True))
