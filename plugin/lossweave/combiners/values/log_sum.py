"""The sum of the terms' logarithms."""

from typing import Annotated

import torch
from torch import Tensor

from lossweave.combiners._numerics import tainted
from lossweave.combiners._preference import own
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.utils.fields import at_least

__all__ = ["LogSum"]


@register_combiner
class LogSum(Combiner):
    r"""The sum of logarithms :math:`\sum_k \log(L_k + \epsilon)`: the loss-scale balancing of
    DB-MTL (Lin et al., Dual-Balancing for Multi-Task Learning, 2023), without its balancing of
    gradients.

    Each term is trained by its relative change, whatever its scale. The weights are those of
    :class:`~lossweave.combiners.SelfNormalized`; the value says how far the product of the terms
    has fallen. It is negative once the terms are below 1.

    Edge cases: a term at 0 or below is left out of this iteration (weight 0), as is an absent
    one. ``eps`` bounds the weight of a term that vanishes by 1 / eps.

    Args:
        eps: added to each term, in the unit of the losses; 1e-8 as in the authors' code.

    Raises:
        LossweaveError: ``eps`` so small that 1 / eps has no meaning.

    Example:
        >>> combiner = LogSum()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([0.5, 4.0]), torch.tensor([True, True]))
        Combined(value=tensor(0.6931), weights=tensor([2.0000, 0.2500]))
    """

    preference = own("its logarithms are multiplied by pₖ")

    def __init__(self, eps: Annotated[float, at_least(1e-30)] = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        mask = present & ~(losses <= 0)
        above = torch.where(mask, losses + self.eps, torch.ones_like(losses))
        logs, weights = above.log(), above.reciprocal()
        if self.prefer is not None:
            shares = self.importance_vector.to(losses.dtype)
            logs, weights = shares * logs, shares * weights
        return Combined(tainted(logs.sum(), losses, present), weights.masked_fill(~mask, 0))
