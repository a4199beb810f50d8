"""What the supported versions of torch lack: the one place that asks."""

from functools import cache
from typing import Any

import torch
from torch.torch_version import TorchVersion

__all__ = ["edge_of", "takes_edges", "torchjd_line"]


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


def torchjd_line(extra: str = "") -> str:
    """What to type for TorchJD, which declares torch >= 2.3 and computes on older ones.

    Args:
        extra: TorchJD's own, in brackets, for its solvers.
    """
    if TorchVersion(torch.__version__) >= "2.3":
        return f"pip install 'torchjd{extra}==0.18.*'"
    solvers = "pip install 'lossweave[solvers-classic]' && " if extra else ""
    return f"{solvers}pip install --no-deps 'torchjd==0.18.*'"
