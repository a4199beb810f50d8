"""Small numerical helpers that several combiners share."""

import torch
from torch import Tensor

from lossweave.combiners.base import Combined

__all__ = ["normalized_weights", "single_term", "tainted", "tiny"]


def tiny(like: Tensor) -> float:
    """The smallest normal positive number of the tensor's type."""
    return torch.finfo(like.dtype).tiny


def tainted(value: Tensor, losses: Tensor, present: Tensor) -> Tensor:
    """``value``, or nan where a present loss is not finite.

    For formulas that would pass over such a term: a weight of 0 does not keep it out of the
    gradient, since 0 times an infinite derivative is nan.

    Example:
        >>> losses, present = torch.tensor([1.0, torch.inf]), torch.tensor([True, True])
        >>> tainted(losses.min(), losses, present)
        tensor(nan)
    """
    return value + (losses * 0).masked_fill(~present, 0).sum()


def normalized_weights(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the masked entries, 0 elsewhere (all 0 where the mask is empty).

    Example:
        >>> normalized_weights(torch.zeros(3), torch.tensor([True, False, True]))
        tensor([0.5000, 0.0000, 0.5000])
    """
    weights = torch.softmax(logits.masked_fill(~mask, -torch.inf), dim=0)
    return weights.masked_fill(~mask, 0)


def single_term(losses: Tensor, index: Tensor, present: Tensor) -> Combined:
    """The term at ``index`` alone, a tensor of shape ``()``; nan where a present one is not finite.

    Example:
        >>> losses, present = torch.tensor([2.0, 3.0]), torch.tensor([True, True])
        >>> single_term(losses, torch.tensor(1), present)
        Combined(value=tensor(3.), weights=tensor([0., 1.]))
    """
    weights = torch.zeros_like(losses).scatter(0, index.view(1), 1.0) * present
    value = losses.masked_fill(~present, 0).gather(0, index.view(1))[0]
    return Combined(tainted(value, losses, present), weights)
