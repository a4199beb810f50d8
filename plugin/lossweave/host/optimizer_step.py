"""What an optimizer is given: the gradients of a step, as a hook finds them before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossweave.combination import LossCombination
from lossweave.utils import distributed

__all__ = ["all_finite", "finite", "gradients", "norm", "torch_optimizers", "withhold"]


def withhold(combination: LossCombination, optimizer: Any, model: nn.Module) -> None:
    """Take away the gradients that the optimizer must not see: then nothing moves there.

    Neither momentum nor weight decay reaches a parameter whose gradient is None.

    Args:
        combination: whose update may be skipped, or hold what only idle terms reach.
        optimizer: the one that is about to step.
        model: all parameters, in an order that all ranks share.
    """
    if combination.skipping:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
    elif combination.holds:
        for parameter in combination.held(model.parameters()):
            parameter.grad = None


def gradients(optimizer: Any) -> list[Tensor]:
    """The gradients that an optimizer is about to step by.

    Args:
        optimizer: any of torch's.
    """
    return [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]


def norm(grads: list[Tensor]) -> Tensor:
    """The Euclidean norm of all of them together, on their device.

    Args:
        grads: at least one.

    Example:
        >>> norm([torch.tensor([3.0]), torch.tensor([4.0])])
        tensor(5.)
    """
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))).detach()


def finite(grads: list[Tensor]) -> Tensor:
    """Whether all of them are finite, on all ranks, as a flag on their device.

    One look at every gradient, which waits for nothing; with several ranks, one reduction.

    Args:
        grads: at least one.

    Example:
        >>> finite([torch.ones(2), torch.tensor([1.0, torch.inf])])
        tensor(False)
    """
    return distributed.sum_((~all_finite(grads)).float()) == 0


@torch.no_grad()
def all_finite(tensors: list[Tensor]) -> Tensor:
    """Whether all of them are finite, as a flag on their device.

    Args:
        tensors: at least one, all floating.
    """
    largest = torch._foreach_norm([x.detach() for x in tensors], torch.inf)
    return torch.stack([x.float() for x in largest]).isfinite().all()


def torch_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers of torch's that step the parameters: itself, or those that it wraps.

    Args:
        optimizer: of torch's kind, or any object that keeps such ones in its attributes, at most
            three steps away.

    Returns:
        None, where it keeps none.

    Example:
        >>> class EverySecond:
        ...     def __init__(self, inner):
        ...         self.inner = inner
        >>> inner = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
        >>> torch_optimizers(EverySecond(inner)) == [inner]
        True
    """
    level, seen = [optimizer], {id(optimizer)}
    for _ in range(4):
        found = [one for one in level if _watchable(one)]
        if found:
            return found
        inner = [value for one in level for value in _attributes(one) if id(value) not in seen]
        seen.update(map(id, inner))
        level = inner
    return []


def _watchable(value: Any) -> bool:
    return isinstance(value, torch.optim.Optimizer) and hasattr(value, "_optimizer_step_pre_hooks")


def _attributes(value: Any) -> list[Any]:
    """What an object keeps that may be, or may keep, an optimizer."""
    if isinstance(value, (Tensor, nn.Module, str, int, float)) or not hasattr(value, "__dict__"):
        return list(value.values()) if isinstance(value, dict) else []
    return [v for v in vars(value).values() if not isinstance(v, (Tensor, nn.Module))]
