"""What the supported versions of torch lack: the one place that asks."""

import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch
from torch.torch_version import TorchVersion

__all__ = ["began", "edge_of", "takes_edges", "torchjd_line", "uncompiled"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


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


def began(event: Any) -> int:
    """When an event of the profiler's began, in nanoseconds."""
    return int(event.start_ns() if hasattr(event, "start_ns") else 1000 * event.start_us())


def uncompiled(function: _Function) -> _Function:
    """Marks a function that ``torch.compile`` runs as it is, with all that it calls.

    What remembers tensors of a forward for its backward is nothing for a compiled graph. The
    compiler is asked once it is imported: a training without it does not pay for it.

    Example:
        >>> @uncompiled
        ... def double(x):
        ...     return 2 * x
        >>> double(3)
        6
    """
    asked: list[Callable[..., Any]] = []

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not asked:
            asked.append(torch.compiler.disable(function))
        return asked[0](*args, **kwargs)

    return cast(_Function, run)


def torchjd_line(extra: str = "") -> str:
    """What to type for TorchJD, which declares torch >= 2.3 and computes on older ones.

    Args:
        extra: TorchJD's own, in brackets, for its solvers.
    """
    if TorchVersion(torch.__version__) >= "2.3":
        return f"pip install 'torchjd{extra}==0.18.*'"
    solvers = "pip install 'lossweave[solvers-classic]' && " if extra else ""
    return f"{solvers}pip install --no-deps 'torchjd==0.18.*'"
