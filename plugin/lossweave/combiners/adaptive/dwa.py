"""Dynamic weight average."""

import math
from typing import Literal

import torch
from torch import Tensor

from lossweave.combiners.adaptive._periods import PeriodCombiner
from lossweave.combiners.base import Combined
from lossweave.combiners.registry import register_combiner

__all__ = ["DWA", "dwa_weights"]


def dwa_weights(newer: Tensor, older: Tensor, temperature: float) -> Tensor:
    r""":math:`\lambda_k = K \, \mathrm{softmax}_k(r / T)`, :math:`r_k = L_k(t-1) / L_k(t-2)`.

    A rate that is not defined (no average yet, or a division by 0) counts as 1.

    Args:
        newer: the terms' averages over the last period, shape ``(K,)``.
        older: over the one before, shape ``(K,)``.
        temperature: T.

    Example:
        >>> dwa_weights(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 1.0]), temperature=2.0)
        tensor([0.3649, 1.6351])
    """
    rates = newer / older
    rates = torch.where(rates.isfinite() & (rates > 0), rates, torch.ones_like(rates))
    return rates.numel() * torch.softmax(rates / temperature, dim=0)


@register_combiner
class DWA(PeriodCombiner):
    r"""Dynamic weight average: terms that fall more slowly weigh more (Liu et al., End-to-End
    Multi-Task Learning with Attention, 2019).

    :math:`\sum_k \lambda_k L_k` with :func:`dwa_weights` of the two last periods' averages;
    uniform in the first two. TorchJD's ``DWA`` keeps this history in plain attributes that
    its ``state_dict`` leaves out; here it is in the checkpoint.

    Edge cases: a term whose average is 0, changes sign, is not finite or does not exist counts
    as not changing (rate 1); in each period the average is over the updates in which it was
    there. Within a period it is linear. Weights lie in [0, K]; nothing overflows before K
    times the losses do.

    Args:
        temperature: T, positive; larger is more uniform.
        period: 'epoch', or the number of optimizer updates in one period.

    Raises:
        LossweaveError: ``temperature`` not positive, or ``period`` below 1; in training, epochs
            where their length is not known.

    Example:
        >>> combiner = DWA(temperature=2.0, period=100)
        >>> combiner.bind(("cls", "loc"))
        >>> combiner.combine(torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
        Combined(value=tensor(3.), weights=tensor([1., 1.]))
    """

    def __init__(self, temperature: float = 2.0, period: Literal["epoch"] | int = "epoch") -> None:
        super().__init__(period)
        fine = 0 < temperature < math.inf
        self.require("temperature", temperature, fine, "positive and finite")
        self.require("temperature", temperature, temperature >= 1e-30, "at least 1e-30")
        self.temperature = temperature

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = dwa_weights(self.newer, self.older, self.temperature).to(losses.dtype)
        weights = weights.masked_fill(~present, 0)
        return Combined((weights * losses).sum(), weights)
