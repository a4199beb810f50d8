"""Soft optimal uncertainty weighting."""

from typing import Annotated

import torch
from torch import Tensor

from lossweave.combiners._numerics import normalized_weights, tainted
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.utils.fields import above

__all__ = ["UWSO", "inverse_loss_weights"]


def inverse_loss_weights(losses: Tensor, mask: Tensor, temperature: float) -> Tensor:
    r""":math:`w = \mathrm{softmax}(1 / (T L))` over the mask.

    Args:
        losses: shape ``(K,)``, positive where ``mask``.
        mask: boolean ``(K,)``.
        temperature: T, in the unit of an inverse loss.

    Example:
        >>> inverse_loss_weights(torch.tensor([1.0, 2.0]), torch.tensor([True, True]), 1.0)
        tensor([0.6225, 0.3775])
    """
    inverse = 1 / (torch.where(mask, losses, torch.ones_like(losses)) * temperature)
    # Beyond the number format all are alike.
    return normalized_weights(inverse.clamp(max=torch.finfo(losses.dtype).max), mask)


@register_combiner
class UWSO(Combiner):
    r"""The weights that are best for uncertainty weighting at this moment, made soft:
    :math:`\sum_k \mathrm{sg}(w_k) L_k`, :math:`w = \mathrm{softmax}(1 / (T L))` (Kirchdorfer et
    al., Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning, 2024).

    For given losses the optimal uncertainty weights are their inverses, so nothing is learned.
    T decides how much the smallest loss prevails: towards 0 it is trained alone, towards
    infinity the mean is. The weights add up to 1, so against the plain sum of K terms the step
    is some K times shorter.

    Edge cases: a term at 0 or below is left out of this iteration (weight 0), as is an absent
    one: as the smallest it would take all the weight. A term whose inverse is beyond the number
    format takes all.

    Args:
        temperature: T, positive; the paper tunes it per data set.

    Raises:
        LossweaveError: ``temperature`` not positive.

    Example:
        >>> combiner = UWSO(temperature=1.0)
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True])).weights
        tensor([0.6225, 0.3775])
    """

    def __init__(self, temperature: Annotated[float, above(0)] = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        mask = present & ~(losses <= 0)
        weights = inverse_loss_weights(losses, mask, self.temperature)
        value = torch.where(mask, weights * losses, torch.zeros_like(losses)).sum()
        return Combined(tainted(value, losses, present), weights)
