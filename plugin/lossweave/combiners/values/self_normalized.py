"""Every term divided by its own value."""

import math

from torch import Tensor

from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["SelfNormalized"]


@register_combiner
class SelfNormalized(Combiner):
    r"""Each term over its own detached value:
    :math:`\sum_k L_k / (|L_k|.\mathrm{detach}() + \epsilon)`.

    The value is about K whatever the losses; each gradient is the gradient of the term's
    logarithm. ``eps`` bounds the weight of a term that vanishes.

    Edge cases: at 0 the weight is 1 / eps; below 0 the magnitude counts, so descent goes on
    downwards; nothing overflows before the losses do.

    Args:
        eps: positive, in the unit of the losses.

    Raises:
        LossweaveError: ``eps`` not positive, or so small that 1 / eps has no meaning.

    Example:
        >>> import torch
        >>> combiner = SelfNormalized(eps=1e-6)
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([0.5, 4.0]), torch.tensor([True, True])).weights
        tensor([2.0000, 0.2500])
    """

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.require("eps", eps, 1e-30 <= eps < math.inf, "finite and at least 1e-30")
        self.eps = eps

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = (losses.abs() + self.eps).reciprocal().masked_fill(~present, 0)
        return Combined((weights * losses).sum(), weights)
