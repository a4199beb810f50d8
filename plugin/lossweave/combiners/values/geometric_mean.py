"""The geometric mean of the terms."""

import torch
from torch import Tensor

from lossweave.combiners._numerics import tainted, tiny
from lossweave.combiners._preference import own
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["GeometricMean", "geometric_mean"]


def geometric_mean(losses: Tensor, mask: Tensor, shares: Tensor) -> Combined:
    r"""The geometric mean over the mask, :math:`G = \prod_k L_k^{e_k}` with
    :math:`e_k = p_k / \sum_j p_j`, and :math:`\partial G / \partial L_k = e_k G / L_k`.

    Args:
        losses: shape ``(K,)``, positive where ``mask``.
        mask: boolean ``(K,)``.
        shares: p, shape ``(K,)``.
    """
    safe = torch.where(mask, losses, torch.ones_like(losses))
    there = shares.masked_fill(~mask, 0)
    exponents = there / there.sum().masked_fill(~mask.any(), 1)
    log_mean = (exponents * safe.log()).sum()
    weights = (log_mean - safe.log()).exp() * exponents
    return Combined(log_mean.exp() * mask.any(), weights.masked_fill(~mask, 0))


@register_combiner
class GeometricMean(Combiner):
    r"""The geometric mean :math:`(\prod_k L_k)^{1/K}` (Chennupati et al., MultiNet++, 2019).

    Insensitive to the scale of each term. Computed through logarithms, so its value cannot
    overflow before the losses do. TorchJD's ``GeometricMean`` agrees for positive losses; it
    refuses negative ones and returns nan gradients at 0.

    Edge cases: a term at 0 or below is left out of this iteration (weight 0), as is an absent
    one, so a batch without positives does not stall training. A term that is small beside
    the others has a large weight, as the formula says.

    Example:
        >>> import torch
        >>> combiner = GeometricMean()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 4.0]), torch.tensor([True, True]))
        Combined(value=tensor(2.), weights=tensor([1.0000, 0.2500]))
    """

    preference = own("a weighted geometric mean, with exponents pₖ / K")

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        # Below the smallest normal number a logarithm means nothing; nan must pass through.
        mask = present & ~(losses < tiny(losses))
        shares = torch.ones_like(losses)
        if self.prefer is not None:
            shares = self.importance_vector.to(losses.dtype)
        value, weights = geometric_mean(losses, mask, shares)
        return Combined(tainted(value, losses, present), weights)
