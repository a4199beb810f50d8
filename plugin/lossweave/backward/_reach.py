"""What the terms reach: the boundary, the leaves, and the passes that lead there."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from torch import Tensor

from lossweave.backward._graph import (
    DDP_SINK,
    LEAF,
    REENTRANT,
    Point,
    following,
    reach,
    refuse_hidden,
)
from lossweave.backward._passes import Pass, cut_passes, enterable, whole_passes
from lossweave.errors import LossweaveError

__all__ = ["GraphCache", "Reachability", "reachability_of"]


class Reachability(NamedTuple):
    """What the terms reach from above, down to the boundary and down to the leaves.

    Args:
        boundary: the boundary's points that some term reaches.
        leaves: the leaf tensors that some term reaches without passing the boundary.
        terms: per term, the positions in ``(*boundary, *leaves)`` of what it reaches.
        passes: how the terms are differentiated.
    """

    boundary: list[Point]
    leaves: list[Tensor]
    terms: list[list[int]]
    passes: list[Pass]

    def term_of(self, leaf: Tensor) -> int:
        """The first term that reaches a leaf without passing the boundary."""
        at = next(i for i, other in enumerate(self.leaves) if other is leaf) + len(self.boundary)
        return next(k for k, reached in enumerate(self.terms) if at in reached)

    def unrelated(self) -> list[tuple[int, int]]:
        """Pairs of terms (both of which reach something) that have nothing in common."""
        reaching = [k for k, reached in enumerate(self.terms) if reached]
        return [
            (a, b)
            for a, b in combinations(reaching, 2)
            if set(self.terms[a]).isdisjoint(self.terms[b])
        ]


class _Trail(NamedTuple):
    """A way over a graph.

    Args:
        nodes: in the order in which they were met.
        marks: the way, as numbers of nodes, of outputs, and of edges; graphs with equal marks are
            alike.
    """

    nodes: list[Any]
    marks: list[int]


class GraphCache:
    """What was found for the last graph down to the leaves.

    Most iterations make the same graph again; then it is walked over once, and nothing is
    searched for.

    Example:
        >>> import torch
        >>> cache = GraphCache()
        >>> x = torch.ones(2, requires_grad=True)
        >>> for _ in range(2):
        ...     found = reachability_of([(2 * x).sum(), (3 * x).sum()], [], cache)
        >>> found.terms
        [[0], [0]]
    """

    def __init__(self) -> None:
        self._marks: list[int] = []
        self._leaves: list[int] = []
        self._terms: list[list[int]] = []
        self._passes: list[Pass] = []

    def found(self, trail: _Trail) -> Reachability | None:
        """What was found, of a graph's own nodes; None where the graph is another one, or cannot
        be entered where that one was."""
        if trail.marks != self._marks:
            return None
        passes = [_exchanged(one, trail.nodes) for one in self._passes]
        if not enterable(edge for one in passes for edge in one.below):
            return None
        leaves = [trail.nodes[i].variable for i in self._leaves]
        return Reachability([], leaves, self._terms, passes)

    def keep(self, trail: _Trail, found: Reachability) -> None:
        """Keep what was found, by the nodes' places on the way."""
        place = {node: i for i, node in enumerate(trail.nodes)}
        leaves = {id(n.variable): i for n, i in place.items() if type(n).__name__ == LEAF}
        self._marks, self._terms = trail.marks, found.terms
        self._leaves = [leaves[id(leaf)] for leaf in found.leaves]
        self._passes = [_exchanged(one, place) for one in found.passes]


def reachability_of(
    terms: Sequence[Tensor | None], boundary: Sequence[Point], cache: GraphCache | None = None
) -> Reachability:
    """Find what the terms reach.

    Args:
        terms: K attached scalars; None (or a detached one) where a term is absent.
        boundary: the points at which the terms' gradients are combined.
        cache: what an earlier call found, which is used again where the graph is the same.

    Raises:
        LossweaveError: a reentrant activation checkpoint stands above the boundary, or a compiled
            graph that hides what each term reaches.

    Example:
        >>> import torch
        >>> x, y = (torch.ones(2, requires_grad=True) for _ in range(2))
        >>> found = reachability_of([(x * y).sum(), (2 * x).sum()], [])
        >>> len(found.leaves), found.terms
        (2, [[0, 1], [1]])
    """
    cut = {point.node: point for point in boundary}
    edges: dict[Any, list[Any]] = {}
    cache = cache or GraphCache()
    trail = None if boundary else _trail(terms, edges)
    if trail is not None and (known := cache.found(trail)) is not None:
        return known
    walks = [reach([] if term is None else [term], cut, edges) for term in terms]
    if any(walk.reentrant for walk in walks):
        raise LossweaveError(
            "a reentrant activation checkpoint cannot be differentiated to the parameters "
            "inside it term by term; use boundary='features' where it lies below the heads, or "
            "checkpoint with use_reentrant=False"
        )
    refuse_hidden(walks)
    met = {node for walk in walks for node in walk.cut}
    points = [point for node, point in cut.items() if node in met]
    leaves: dict[int, Tensor] = {}
    for walk in walks:
        leaves.update((id(leaf), leaf) for leaf in walk.leaves)
    place: dict[Any, int] = {point.node: i for i, point in enumerate(points)}
    place.update((key, len(points) + i) for i, key in enumerate(leaves))
    reached = [
        sorted({*(place[n] for n in walk.cut), *(place[id(leaf)] for leaf in walk.leaves)})
        for walk in walks
    ]
    # Above a boundary there is little to release, and less to be gained than the search takes.
    passes = (
        whole_passes(walks, reached) if points else cut_passes(terms, walks, reached, place, edges)
    )
    found = Reachability(points, list(leaves.values()), reached, passes)
    if trail is not None:
        cache.keep(trail, found)
    return found


def _trail(
    roots: Sequence[Tensor | None], edges: dict[Any, list[tuple[Any, int]]]
) -> _Trail | None:
    """A way over the graph; None where some of it has no order of its own, or hides from it.

    Args:
        roots: the terms.
        edges: gathers those followed, as in :func:`~lossweave.backward.reach`.
    """
    place: dict[Any, int] = {}
    marks: list[int] = []
    for root in roots:
        if root is None or root.grad_fn is None:
            if root is not None and root.requires_grad:
                return None
            marks.append(-1)
            continue
        stack = [(root.grad_fn, root.output_nr)]
        while stack:
            node, output = stack.pop()
            count = len(place)
            at = place.setdefault(node, count)
            marks += at, output
            if at < count:
                continue
            name = type(node).__name__
            if name in (DDP_SINK, REENTRANT):
                return None
            if name == LEAF:
                marks.append(-1)
            else:
                followed = following(node, output)
                edges[node] = followed
                marks.append(len(followed))
                stack += followed
    return _Trail(list(place), marks)


def _exchanged(one: Pass, places: Any) -> Pass:
    """A pass whose edges begin at nodes in place of numbers, or the other way round."""
    above, below = ([(places[n], o) for n, o in edges] for edges in (one.above, one.below))
    return one._replace(above=above, below=below)
