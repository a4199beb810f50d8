"""Weights by how fast the terms change."""

from typing import Literal

import torch
from torch import Tensor

from lossweave.combiners._numerics import normalized_weights
from lossweave.combiners.adaptive._periods import PeriodCombiner
from lossweave.combiners.base import Combined
from lossweave.combiners.registry import register_combiner

__all__ = ["SoftAdapt", "softadapt_weights"]


def softadapt_weights(
    newer: Tensor, older: Tensor, present: Tensor, beta: float, normalized: bool, weighted: bool
) -> Tensor:
    r""":math:`\alpha_k = \mathrm{softmax}_k(\beta s_k)` with the slopes
    :math:`s_k = \bar L_k(t) - \bar L_k(t - 1)`, over the terms that are present.

    A slope that is not known is 0; without any average the weights are equal.

    Args:
        newer: the terms' averages over the last period, shape ``(K,)``.
        older: over the one before.
        present: boolean ``(K,)``.
        beta: positive favours terms that rise, or fall least; negative those that fall most.
        normalized: divide the slopes by the sum of their magnitudes.
        weighted: multiply each exponential by the term's average.

    Example:
        >>> newer, older, here = torch.tensor([2.0, 1.0]), torch.ones(2), torch.tensor([True] * 2)
        >>> softadapt_weights(newer, older, here, 1.0, normalized=False, weighted=False)
        tensor([0.7311, 0.2689])
        >>> softadapt_weights(newer, older, here, 1.0, normalized=False, weighted=True)
        tensor([0.8446, 0.1554])
    """
    slopes = newer - older
    slopes = slopes.masked_fill(~(slopes.isfinite() & present), 0)
    if normalized:
        total = slopes.abs().sum()
        slopes = slopes / total.masked_fill(total == 0, 1)
    largest = torch.finfo(slopes.dtype).max / 4  # so that they and their differences are finite
    exponents = (beta * slopes).clamp(-largest, largest)
    if not weighted:
        return normalized_weights(exponents, present)
    sizes = newer.masked_fill(~(newer.isfinite() & present), 0).clamp(min=0)
    # One that has no average yet counts as the mean of those that have.
    unknown = present & ~newer.isfinite()
    mean = sizes.sum() / (present & ~unknown).sum().clamp(min=1)
    sizes = torch.where(unknown, mean, sizes)
    sizes = torch.where(sizes.sum() > 0, sizes, torch.ones_like(sizes))
    return normalized_weights(exponents + sizes.log(), present & (sizes > 0))


@register_combiner
class SoftAdapt(PeriodCombiner):
    r"""Weights by how fast the terms change, :math:`\sum_k \alpha_k L_k`,
    :math:`\alpha = \mathrm{softmax}(\beta s)` with s the slopes of the losses (Heydari et al.,
    SoftAdapt: Techniques for Adaptive Loss Weighting of Neural Networks with Multi-Part Loss
    Functions, 2019).

    Its three forms: plain; ``normalized``, in which the slopes are divided by the sum of their
    magnitudes, so that beta has no unit; ``loss_weighted``, in which each exponential is also
    multiplied by the loss. The paper combines the last two at will, as ``normalized_weighted``.

    A slope is the difference of the averages over two periods, the lowest order of the authors'
    finite differences. Their first release divides by the sum of magnitudes, their later one by
    the plain sum, which is 0 or turns the signs round where slopes cancel; it is the former here.
    The weights add up to 1, so against the plain sum of K terms the step is some K times shorter.

    Edge cases: linear within a period. A term without two averages, or whose slope is not
    finite, has slope 0. In the loss-weighted forms a term whose average is 0 or below has weight
    0, and where none is above 0 they are equal. An absent term takes no part.

    Args:
        beta: positive favours terms that rise, or fall least; negative those that fall most; 0
            makes plain weights equal. The paper uses 0.1.
        form: 'plain', 'normalized', 'loss_weighted' or 'normalized_weighted'.
        period: 'epoch', or the number of optimizer updates in one period.

    Raises:
        LossweaveError: another ``form``, ``period`` below 1; in training, epochs where their
            length is not known.

    Example:
        >>> combiner = SoftAdapt(beta=1.0, period=100)
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        Combined(value=tensor(1.5000), weights=tensor([0.5000, 0.5000]))
    """

    def __init__(
        self,
        beta: float = 0.1,
        form: Literal["plain", "normalized", "loss_weighted", "normalized_weighted"] = "plain",
        period: Literal["epoch"] | int = "epoch",
    ) -> None:
        super().__init__(period)
        self.beta, self.form = beta, form

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = softadapt_weights(
            self.newer, self.older, present, self.beta,
            normalized="normalized" in self.form, weighted="weighted" in self.form,
        ).to(losses.dtype)  # fmt: skip
        return Combined((weights * losses).masked_fill(~present, 0).sum(), weights)
