"""A weighted sum that is drawn towards a ray of preference."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from lossweave.combiners._numerics import tainted
from lossweave.combiners._preference import refused
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.utils.fields import at_least

__all__ = ["COSMOS", "cosmos"]

#: Lengths are at least this in the cosine, as in torch's own.
_EPS = 1e-8


def cosmos(losses: Tensor, preference: Tensor, penalty: float) -> Combined:
    r""":math:`r \cdot L - \lambda \cos(r, L)` and its derivatives
    :math:`r_k - \frac{\lambda}{\|L\|} (\hat r_k - \cos(r, L) \, \hat L_k)`.

    Args:
        losses: shape ``(K,)``.
        preference: r, shape ``(K,)``.
        penalty: :math:`\lambda`.

    Example:
        >>> cosmos(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]), 1.0).value
        tensor(2.4000)
    """
    size = losses.abs().max().clamp(min=torch.finfo(losses.dtype).tiny)
    length = (losses / size).norm() * size  # of scaled ones, whose squares fit
    length = length.clamp(min=_EPS)
    ray, direction = preference / preference.norm().clamp(min=_EPS), losses / length
    cosine = (ray * direction).sum()
    value = (preference * losses).sum() - penalty * cosine
    return Combined(value, preference - penalty / length * (ray - cosine * direction))


@register_combiner
class COSMOS(Combiner):
    r"""A weighted sum that is penalised for leaving a ray:
    :math:`\sum_k r_k L_k - \lambda \cos(r, L)` (Ruchte and Grabocka, Scalable Pareto Front
    Approximation for Deep Multi-Objective Learning, 2021).

    Named and parametrised as TorchJD's ``COSMOS``. The paper also feeds r to the network and
    draws it anew in every step; here it is fixed.

    Edge cases: a term that is small beside what the ray asks for can have a NEGATIVE weight, so
    that it is pushed up, where the losses are small beside ``lambda_``. Terms at 0 and below are
    compared as they are; absent ones take no part. At losses whose length is below 1e-8 the
    weights are about :math:`\lambda / 10^{-8}`.

    Args:
        lambda_: strength of the penalty, in the unit of the losses; 0 is the weighted sum. The
            paper's values go from 0.01 to 8.
        weights: r, the preference per term, by name or in order; None means 1/K each.

    Raises:
        LossweaveError: ``lambda_`` or a weight negative, weights all 0, or not one per term.

    Example:
        >>> combiner = COSMOS(lambda_=1.0, weights=[1.0, 0.0])
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([3.0, 4.0]), torch.tensor([True, True]))
        Combined(value=tensor(2.4000), weights=tensor([0.8720, 0.0960]))
    """

    preference = refused(
        "its ray says in which ratio the losses should be, not how important they are; give weights"
    )

    ray: Tensor

    def __init__(
        self,
        lambda_: Annotated[float, at_least(0)] = 1.0,
        weights: dict[str, float] | Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        self.lambda_, self.weights = lambda_, weights

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        shares = self.per_term(1 / len(terms) if self.weights is None else self.weights, "weights")
        fine = min(shares) >= 0 and 0 < sum(shares) < math.inf
        self.require("weights", self.weights, fine, "not negative, and not all 0")
        self.constant("ray", shares)

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        there = losses.masked_fill(~present, 0)
        preference = self.ray.to(losses.dtype).masked_fill(~present, 0)
        value, weights = cosmos(there, preference, self.lambda_)
        return Combined(tainted(value, losses, present), weights.masked_fill(~present, 0))
