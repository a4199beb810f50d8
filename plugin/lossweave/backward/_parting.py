"""Where the terms' graphs part: what 'representation' comes down to."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lossweave.backward._graph import Caught, Point, following, reach

__all__ = ["parting"]


def parting(
    terms: Sequence[Tensor | None], features: Sequence[Point], caught: Sequence[Caught]
) -> tuple[str, ...]:
    """The modules behind whose outputs the terms' graphs part; empty for the features.

    Every path from a term into what two terms share must cross one of them, none of them may
    be computed from another, and each must count in all its calls (a ReLU that is called
    behind every layer does not, the last layer does).
    """
    bottom = {point.node for point in features}
    walks = [reach([term], bottom) for term in terms if term is not None]
    times: dict[Any, int] = {}
    for walk in walks:
        for node in walk.nodes | set(walk.cut):
            times[node] = times.get(node, 0) + 1
    parting: set[Any] = set()
    for walk in walks:
        for node in walk.nodes:
            if times[node] == 1:
                parting.update(n for n, _ in following(node, 0) if times.get(n, 0) > 1)
    owner = {point.node: name for name, point in caught if point.node in times}
    calls: dict[str, set[Any]] = {}
    for node, name in owner.items():
        calls.setdefault(name, set()).add(node)
    while True:
        eligible = {node for node, name in owner.items() if name in calls}
        hits = set(reach(((node, 0) for node in parting), eligible | bottom).cut)
        if not hits or hits & bottom:
            return ()
        partly = {owner[node] for node in hits if calls[owner[node]] - hits}
        if not partly:
            break
        for name in partly:
            del calls[name]
    for node in hits:
        if reach(following(node, 0), hits).cut:
            return ()
    return tuple(sorted({owner[node] for node in hits}))
