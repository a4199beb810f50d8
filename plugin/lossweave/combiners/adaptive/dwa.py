"""Dynamic weight average."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.progress import Progress

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
class DWA(Combiner):
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

    learns: ClassVar[bool] = True
    scheduled: ClassVar[bool] = True
    totals: Tensor
    counts: Tensor
    newer: Tensor
    older: Tensor

    def __init__(self, temperature: float = 2.0, period: Literal["epoch"] | int = "epoch") -> None:
        super().__init__()
        fine = 0 < temperature < math.inf
        self.require("temperature", temperature, fine, "positive and finite")
        fine = period == "epoch" or (isinstance(period, int) and period >= 1)
        self.require("period", period, fine, "'epoch' or at least 1")
        self.temperature, self.period = temperature, period

    @property
    def needs_hook(self) -> bool:
        return self.period == "epoch"  # without the hook no epoch would ever end

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        if self.period == "epoch":
            self.require_epochs("period", "a number of updates")

    def init_state(self, count: int) -> None:
        for name in ("totals", "counts"):
            self.register_buffer(name, torch.zeros(count))
        for name in ("newer", "older"):
            self.register_buffer(name, torch.full((count,), torch.nan))

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        weights = dwa_weights(self.newer, self.older, self.temperature).to(losses.dtype)
        weights = weights.masked_fill(~present, 0)
        return Combined((weights * losses).sum(), weights)

    def update(self, losses: Tensor, present: Tensor) -> None:
        self.totals += torch.where(present, losses, torch.zeros_like(losses)).to(self.totals.dtype)
        self.counts += present
        if self._ends_period():
            self.older.copy_(self.newer)
            self.newer.copy_(self.totals / self.counts)  # 0 / 0 is nan: no average
            self.totals.zero_()
            self.counts.zero_()

    def _ends_period(self) -> bool:
        following = self.progress.update + 1
        if self.period == "epoch":
            return self.progress.epoch_of(following) != self.progress.epoch
        return following % self.period == 0
