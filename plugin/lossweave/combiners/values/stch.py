"""Smooth Tchebycheff scalarization."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lossweave.combiners._numerics import tainted
from lossweave.combiners._preference import own
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner

__all__ = ["STCH"]


@register_combiner
class STCH(Combiner):
    r"""Smooth Tchebycheff: :math:`\mu \log \sum_k \exp(\lambda_k (L_k - z_k) / \mu)`.

    From Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, 2024;
    named and parametrised as TorchJD's ``STCH``. A smooth maximum of the weighted terms; the
    smaller ``mu``, the sharper. The weights are :math:`\lambda_k` times the softmax of the
    exponents.

    Edge cases: zero and negative terms are shifted and compared as they are; the exponent is
    centred, so nothing overflows before the losses do; absent terms take no part; any term
    that is not finite makes the value nan.

    Args:
        mu: smoothing, in the unit of the losses; positive.
        weights: the preference per term, by name or in order; None means 1/K each.
        reference: the ideal value per term, by name or in order; None means 0.

    Raises:
        LossweaveError: ``mu`` not positive; weights or references that do not fit the terms.

    Example:
        >>> import torch
        >>> combiner = STCH(mu=0.1, weights=1.0)
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 3.0]), torch.tensor([True, True])).value
        tensor(3.)
    """

    preference = own("λₖ is multiplied by pₖ")

    lambdas: Tensor
    ideal: Tensor

    def __init__(
        self,
        mu: float = 1.0,
        weights: dict[str, float] | Sequence[float] | float | None = None,
        reference: dict[str, float] | Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        self.require("mu", mu, 0 < mu < math.inf, "positive and finite")
        self.require("mu", mu, mu >= 1e-30, "at least 1e-30")
        self.mu, self.weights, self.reference = mu, weights, reference

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        weights = 1 / len(terms) if self.weights is None else self.weights
        shares = self.per_term(weights, "weights")
        fine = min(shares) >= 0 and max(shares) > 0
        self.require("weights", self.weights, fine, "not negative, and not all 0")
        self.constant("lambdas", [p * x for p, x in zip(self.importances, shares, strict=True)])
        ideal = 0.0 if self.reference is None else self.reference
        self.constant("ideal", self.per_term(ideal, "reference"))

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        preference = self.lambdas.to(losses.dtype)
        # An absent term is sent so far down that its exponential is exactly 0.
        bottom = torch.finfo(losses.dtype).min / 4
        aims = ((losses - self.ideal.to(losses.dtype)) * preference).masked_fill(~present, bottom)
        largest = aims.max()
        exponents = (aims - largest) / self.mu
        value = self.mu * torch.logsumexp(exponents, dim=0) + largest
        value = tainted(value.masked_fill(~present.any(), 0), losses, present)
        weights = preference * torch.softmax(exponents, dim=0)
        return Combined(value, weights.masked_fill(~present, 0))
