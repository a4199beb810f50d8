"""The product of the terms."""

import torch
from torch import Tensor

from lossweave.combiners._numerics import tainted
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["Product"]


@register_combiner
class Product(Combiner):
    r"""The product :math:`\prod_k L_k`; each weight is the product of the OTHER terms.

    Edge cases: a term at 0 or below is left out of this iteration (weight 0), as is an absent
    one: as a factor it would stop, or turn round, the training of all others. In float32 it
    overflows to inf beyond 3.4e38, the weights where a product of the others does, and
    underflows to 0 below 1e-45.

    Example:
        >>> import torch
        >>> combiner = Product()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([2.0, 3.0]), torch.tensor([True, True]))
        Combined(value=tensor(6.), weights=tensor([3., 2.]))
    """

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        mask = present & ~(losses <= 0)
        factors = torch.where(mask, losses, torch.ones_like(losses))
        value = factors.prod().masked_fill(~mask.any(), 0)
        weights = _products_of_others(factors).masked_fill(~mask, 0)
        return Combined(tainted(value, losses, present), weights)


def _products_of_others(factors: Tensor) -> Tensor:
    # From both ends, with neither a division nor the derivative of prod(), which looks for
    # zeros on the host.
    one = torch.ones_like(factors[:1])
    before = torch.cat([one, factors[:-1]]).cumprod(dim=0)
    after = torch.cat([one, factors.flip(0)[:-1]]).cumprod(dim=0).flip(0)
    return before * after
