"""What the supported versions of torch lack: the one place that asks."""

from functools import cache
from typing import Any

import torch

__all__ = ["edge_of", "takes_edges"]


@cache
def takes_edges() -> bool:
    """Whether ``torch.autograd.grad`` takes edges of the graph, to start from and to end at.

    Tried out, on a graph of one node; torch 2.1 has no edges at all.
    """
    x = torch.ones(1, requires_grad=True)
    with torch.enable_grad():
        node = (2 * x).grad_fn
    try:
        edge = edge_of(node, 0)
        torch.autograd.grad([edge], [edge], [torch.ones(1)])
        return bool(node._input_metadata)  # type: ignore[union-attr]
    except (ImportError, TypeError, RuntimeError, AttributeError):
        return False


def edge_of(node: Any, output: int) -> Any:
    """The edge of the graph at one of a node's outputs; only where :func:`takes_edges`."""
    from torch.autograd.graph import GradientEdge

    return GradientEdge(node, output)
