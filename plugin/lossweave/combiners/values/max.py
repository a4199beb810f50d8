"""The largest term alone."""

import torch
from torch import Tensor

from lossweave.combiners._numerics import single_term
from lossweave.combiners._preference import LOSSES
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["Max"]


@register_combiner
class Max(Combiner):
    r"""The largest term, :math:`\max_k L_k`: its weight is 1, all others are 0.

    Edge cases: absent terms never win; the first of equal terms wins; zero and negative
    terms are compared as they are; nothing can overflow; any term that is not finite makes
    the value nan.

    Example:
        >>> import torch
        >>> combiner = Max()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([2.0, 3.0]), torch.tensor([True, True]))
        Combined(value=tensor(3.), weights=tensor([0., 1.]))
    """

    preference = LOSSES

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        return single_term(losses, losses.masked_fill(~present, -torch.inf).argmax(), present)
