"""The Lp norm of the terms."""

import math

import torch
from torch import Tensor

from lossweave.combiners._numerics import tainted, tiny
from lossweave.combiners._preference import LOSSES
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["LpNorm", "lp_norm"]


def lp_norm(losses: Tensor, mask: Tensor, p: float) -> Combined:
    r"""The Lp norm over the mask and its derivatives.

    .. math::
        \|L\|_p = \Big(\sum_k L_k^p\Big)^{1/p}, \qquad
        \frac{\partial \|L\|_p}{\partial L_k} = \Big(\frac{L_k}{\|L\|_p}\Big)^{p-1}

    Scaled by the largest loss first, so it neither overflows nor underflows.

    Args:
        losses: shape ``(K,)``, non-negative where ``mask``.
        mask: boolean ``(K,)``.
        p: at least 1.
    """
    # Below the smallest normal number the scaling would lose what it is there to keep.
    sizes = losses.masked_fill(~mask | (losses < tiny(losses)), 0)
    largest = sizes.max()
    scaled = sizes / largest.masked_fill(largest == 0, 1)
    norm = scaled.pow(p).sum().pow(1 / p)
    # At the origin the norm has no derivative; the smallest subgradient of equal entries is.
    origin = mask.sum().clamp(min=1).to(losses.dtype).pow(1 / p - 1).expand_as(losses)
    ratios = scaled / norm.masked_fill(largest == 0, 1)
    weights = torch.where(largest == 0, origin, ratios.pow(p - 1))
    return Combined(norm * largest, weights.masked_fill(~mask, 0))


@register_combiner
class LpNorm(Combiner):
    r"""The norm :math:`(\sum_k L_k^p)^{1/p}`, between the sum (p = 1) and the maximum.

    Edge cases: a term at 0 has weight 0 (1 for p = 1); with all terms at 0 the weights are
    equal, :math:`K^{1/p - 1}`. A term below 0 is left out (weight 0), as is an absent one.
    Overflow only where the norm itself does not fit.

    Args:
        p: exponent, finite and at least 1.

    Raises:
        LossweaveError: p below 1 or not finite.

    Example:
        >>> import torch
        >>> combiner = LpNorm(p=2.0)
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([3.0, 4.0]), torch.tensor([True, True]))
        Combined(value=tensor(5.), weights=tensor([0.6000, 0.8000]))
    """

    preference = LOSSES

    def __init__(self, p: float = 2.0) -> None:
        super().__init__()
        self.require("p", p, 1 <= p < math.inf, "finite and at least 1 (Max is its limit)")
        self.p = float(p)

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        value, weights = lp_norm(losses, present & ~(losses < 0), self.p)
        return Combined(tainted(value, losses, present), weights)
