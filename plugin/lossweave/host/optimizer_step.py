"""What an optimizer is given: the gradients of a step, as a hook finds them before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossweave.combination import LossCombination
from lossweave.utils import distributed

__all__ = ["finite", "gradients", "norm", "withhold"]


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
    largest = torch.stack([x.float() for x in torch._foreach_norm(grads, torch.inf)])
    bad = (~largest.isfinite()).any().float()
    return distributed.sum_(bad) == 0
