"""The squared sum of the terms."""

from torch import Tensor

from lossweave.combiners._preference import LOSSES
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["SquaredSum"]


@register_combiner
class SquaredSum(Combiner):
    r"""The squared sum :math:`(\sum_k L_k)^2`, with equal weights :math:`2 \sum_j L_j`.

    The direction is that of the sum; the step shrinks as the losses fall.

    Edge cases: at sum 0 all weights are 0. A negative sum turns the weights negative, i.e.
    pulls the sum up to 0. In float32 it overflows to inf from a sum of 1.8e19 on.

    Example:
        >>> import torch
        >>> combiner = SquaredSum()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        Combined(value=tensor(9.), weights=tensor([6., 6.]))
    """

    preference = LOSSES

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        total = losses.masked_fill(~present, 0).sum()
        weights = (2 * total).expand_as(losses).masked_fill(~present, 0)
        return Combined(total.square(), weights)
