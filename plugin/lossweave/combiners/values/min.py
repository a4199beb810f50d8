"""The smallest term alone."""

import torch
from torch import Tensor

from lossweave.combiners._numerics import single_term
from lossweave.combiners._preference import refused
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["Min"]


@register_combiner
class Min(Combiner):
    r"""The smallest term, :math:`\min_k L_k`: its weight is 1, all others are 0.

    Edge cases: a term at exactly 0 wins only where no other is there, or training would stop
    at the first batch without positives and never go on; absent terms never win; the first
    of equal terms wins; negative terms win over positive ones; nothing can overflow; any term
    that is not finite makes the value nan.

    Example:
        >>> import torch
        >>> combiner = Min()
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([2.0, 3.0]), torch.tensor([True, True]))
        Combined(value=tensor(2.), weights=tensor([1., 0.]))
    """

    preference = refused(
        "the smallest term is trained, so a larger one of the same term would be trained less"
    )

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        # Ranked by losses, then terms at 0, then absent ones, which is what the sizes are for.
        last = torch.finfo(losses.dtype).max
        ranked = losses.masked_fill(losses == 0, last).masked_fill(~present, torch.inf)
        return single_term(losses, ranked.argmin(), present)
